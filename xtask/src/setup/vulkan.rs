//! Whether this machine has a Vulkan adapter, found out without linking Vulkan.
//!
//! An adapter needs three things: the loader `libvulkan.so.1`, a driver's manifest whose library exists, and, unless
//! the driver is a software one, a GPU that it can open. A manifest alone proves nothing: distributions install those
//! of every vendor.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::process::output_of;

const LOADER: &str = "libvulkan.so.1";

/// Reads an environment variable.
type Variable = dyn Fn(&str) -> Option<OsString>;

/// What the search looks at; tests put a folder in place of `/`.
pub struct System {
    root: PathBuf,
    variable: Box<Variable>,
    /// What `ldconfig -p` prints, empty where there is none (musl).
    library_cache: String,
}

impl System {
    /// This machine.
    pub fn real() -> Self {
        // On Debian ldconfig is not on an ordinary user's PATH.
        let library_cache = ["ldconfig", "/sbin/ldconfig", "/usr/sbin/ldconfig"]
            .into_iter()
            .find_map(|name| output_of(Command::new(name).arg("-p")).ok())
            .unwrap_or_default();
        Self { root: PathBuf::from("/"), variable: Box::new(|name| env::var_os(name)), library_cache }
    }

    /// The manifest of a driver that should give an adapter, or why there is none.
    pub fn adapter(&self) -> Result<String, String> {
        if !self.library_exists(LOADER) {
            return Err(format!("{LOADER} is not installed"));
        }
        let (manifests, chosen) = self.manifests();
        let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let working: Vec<String> = manifests.iter().filter(|m| self.driver_exists(m)).map(|m| name(m)).collect();
        // A software driver is the surest; one that the user chose is trusted.
        let software = working.iter().find(|n| ["lvp", "swiftshader"].iter().any(|s| n.contains(s)));
        if let Some(found) = software.or(working.first().filter(|_| chosen || self.gpu_opens())) {
            return Ok(found.clone());
        }
        Err(match working.is_empty() {
            true => "no Vulkan driver is installed".to_string(),
            false => "Vulkan drivers are installed, but there is no GPU that this user may open".to_string(),
        })
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn paths(&self, variable: &str) -> Vec<PathBuf> {
        (self.variable)(variable).map(|v| env::split_paths(&v).collect()).unwrap_or_default()
    }

    /// Manifests that the loader would read, and whether the user named them.
    fn manifests(&self) -> (Vec<PathBuf>, bool) {
        for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
            let named = self.paths(variable);
            if !named.is_empty() {
                return (named.iter().flat_map(|p| self.expand(p)).collect(), true);
            }
        }
        let mut folders = self.paths("XDG_CONFIG_DIRS");
        folders.extend(["/etc", "/etc/xdg", "/usr/local/etc", "/usr/local/share", "/usr/share"].map(PathBuf::from));
        folders.extend(self.paths("XDG_DATA_DIRS"));
        folders.extend(self.paths("XDG_DATA_HOME"));
        folders.extend(self.paths("HOME").into_iter().map(|h| h.join(".local/share")));
        let mut found: Vec<PathBuf> = folders.iter().flat_map(|f| self.expand(&f.join("vulkan/icd.d"))).collect();
        found.extend(self.paths("VK_ADD_DRIVER_FILES").iter().flat_map(|p| self.expand(p)));
        (found, false)
    }

    /// The manifests of a folder in order of their names, or the file itself.
    fn expand(&self, path: &Path) -> Vec<PathBuf> {
        let path = self.at(path);
        let Ok(entries) = fs::read_dir(&path) else { return vec![path] };
        let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        files.retain(|f| f.extension().is_some_and(|e| e == "json"));
        files.sort();
        files
    }

    /// Whether a manifest can be read, is for this word size, and its library exists.
    fn driver_exists(&self, manifest: &Path) -> bool {
        let Ok(text) = fs::read_to_string(manifest) else { return false };
        let Ok(json) = serde_json::from_str::<serde_json::Value>(&text) else { return false };
        let icd = &json["ICD"];
        let other_size = if cfg!(target_pointer_width = "64") { "32" } else { "64" };
        let foreign_name = cfg!(target_arch = "x86_64") && manifest.to_string_lossy().contains(".i686.");
        if icd["library_arch"] == other_size || foreign_name {
            return false;
        }
        match icd["library_path"].as_str() {
            Some(path) if path.starts_with('/') => self.at(path).exists(),
            Some(path) if path.contains('/') => manifest.parent().is_some_and(|m| m.join(path).exists()),
            Some(name) => self.library_exists(name),
            None => false,
        }
    }

    fn library_exists(&self, name: &str) -> bool {
        let cached = self.library_cache.lines().any(|line| line.split_whitespace().next() == Some(name));
        let multiarch = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
        let usual = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", multiarch.as_str()];
        let given = self.paths("LD_LIBRARY_PATH");
        cached || usual.iter().map(PathBuf::from).chain(given).any(|folder| self.at(folder.join(name)).exists())
    }

    /// Whether a GPU's device node exists and this user may open it.
    fn gpu_opens(&self) -> bool {
        let starts =
            [("/dev/dri", "renderD"), ("/dev", "nvidia0"), ("/dev", "dxg"), ("/dev", "mali0"), ("/dev", "kgsl")];
        starts.iter().any(|(folder, start)| {
            let Ok(entries) = fs::read_dir(self.at(folder)) else { return false };
            entries.flatten().any(|entry| {
                entry.file_name().to_string_lossy().starts_with(start)
                    && fs::OpenOptions::new().read(true).write(true).open(entry.path()).is_ok()
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine made of files under a temporary folder.
    fn machine(files: &[(&str, &str)], variables: &[(&'static str, &'static str)]) -> (tempfile::TempDir, System) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let variables = variables.to_vec();
        let variable = move |name: &str| variables.iter().find(|(k, _)| *k == name).map(|(_, v)| OsString::from(v));
        let system =
            System { root: folder.path().to_path_buf(), variable: Box::new(variable), library_cache: String::new() };
        (folder, system)
    }

    const LOADED: (&str, &str) = ("/usr/lib/libvulkan.so.1", "");
    const LAVAPIPE: (&str, &str) =
        ("/usr/share/vulkan/icd.d/lvp_icd.x86_64.json", r#"{"ICD": {"library_path": "libvulkan_lvp.so"}}"#);
    const LAVAPIPE_LIBRARY: (&str, &str) = ("/usr/lib/libvulkan_lvp.so", "");
    const INTEL: (&str, &str) =
        ("/usr/share/vulkan/icd.d/intel_icd.json", r#"{"ICD": {"library_path": "/usr/lib/libvulkan_intel.so"}}"#);
    const INTEL_LIBRARY: (&str, &str) = ("/usr/lib/libvulkan_intel.so", "");

    #[test]
    fn lavapipe_with_its_loader_is_an_adapter() {
        let (_folder, system) = machine(&[LOADED, LAVAPIPE, LAVAPIPE_LIBRARY], &[]);
        assert_eq!(system.adapter().unwrap(), "lvp_icd.x86_64.json");
    }

    #[test]
    fn the_loader_is_found_in_the_library_cache_too() {
        let (_folder, mut system) = machine(&[LAVAPIPE], &[]);
        assert!(system.adapter().unwrap_err().contains("libvulkan.so.1"));
        system.library_cache = "2 libs found in cache\n\tlibvulkan.so.1 (libc6,x86-64) => /x/libvulkan.so.1\n\
                                \tlibvulkan_lvp.so (libc6,x86-64) => /x/libvulkan_lvp.so\n"
            .to_string();
        assert!(system.adapter().is_ok());
    }

    #[test]
    fn manifests_without_a_library_or_of_another_word_size_do_not_count() {
        let (_folder, system) = machine(&[LOADED, LAVAPIPE, INTEL], &[]);
        assert_eq!(system.adapter().unwrap_err(), "no Vulkan driver is installed");
        let narrow = r#"{"ICD": {"library_path": "libvulkan_lvp.so", "library_arch": "32"}}"#;
        let (_folder, system) =
            machine(&[LOADED, LAVAPIPE_LIBRARY, ("/usr/share/vulkan/icd.d/lvp_icd.json", narrow)], &[]);
        assert!(system.adapter().is_err());
        let broken = ("/usr/share/vulkan/icd.d/lvp_icd.json", "not json");
        let (_folder, system) = machine(&[LOADED, LAVAPIPE_LIBRARY, broken], &[]);
        assert!(system.adapter().is_err());
    }

    #[test]
    fn a_hardware_driver_counts_only_with_a_gpu() {
        let (_folder, system) = machine(&[LOADED, INTEL, INTEL_LIBRARY], &[]);
        assert!(system.adapter().unwrap_err().contains("no GPU"));
        let (_folder, system) = machine(&[LOADED, INTEL, INTEL_LIBRARY, ("/dev/dri/renderD128", "")], &[]);
        assert_eq!(system.adapter().unwrap(), "intel_icd.json");
    }

    #[test]
    fn drivers_named_by_the_user_replace_the_installed_ones() {
        let own = ("/opt/driver.json", r#"{"ICD": {"library_path": "./libown.so"}}"#);
        let files = [LOADED, LAVAPIPE, LAVAPIPE_LIBRARY, own, ("/opt/libown.so", "")];
        for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
            let (_folder, system) = machine(&files, &[(variable, "/opt/driver.json")]);
            assert_eq!(system.adapter().unwrap(), "driver.json");
            let (_folder, system) = machine(&files, &[(variable, "/opt/absent.json")]);
            assert!(system.adapter().is_err());
        }
        let (_folder, system) = machine(&files[..3], &[("VK_ADD_DRIVER_FILES", "/opt/absent.json")]);
        assert!(system.adapter().is_ok());
    }
}
