//! Which Linux this is, by `/etc/os-release`, and how its package manager installs lavapipe.

/// A family of distributions that share a package manager and package names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Debian, Ubuntu and what derives from them.
    Debian,
    /// Fedora, RHEL and what derives from them.
    Fedora,
    /// Arch and what derives from it.
    Arch,
}

/// One command of an installation, without the means of becoming root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// The installation may succeed although this failed.
    pub optional: bool,
}

impl Distribution {
    /// The family named by `ID`, or by the first word of `ID_LIKE` that we know.
    pub fn from_os_release(text: &str) -> Option<Self> {
        let value = |key: &str| {
            text.lines()
                .filter_map(|line| line.trim().split_once('='))
                .find(|(k, _)| *k == key)
                .map(|(_, v)| v.trim_matches(['"', '\'']).to_lowercase())
                .unwrap_or_default()
        };
        let names = format!("{} {}", value("ID"), value("ID_LIKE"));
        names.split_whitespace().find_map(|name| match name {
            "debian" | "ubuntu" => Some(Self::Debian),
            "fedora" | "rhel" | "centos" => Some(Self::Fedora),
            "arch" => Some(Self::Arch),
            _ => None,
        })
    }

    /// Validator and disassembler of SPIR-V.
    pub fn spirv_tools(self) -> [&'static str; 1] {
        ["spirv-tools"]
    }

    /// The loader and the software driver.
    pub fn packages(self) -> [&'static str; 2] {
        match self {
            Self::Debian => ["mesa-vulkan-drivers", "libvulkan1"],
            Self::Fedora => ["mesa-vulkan-drivers", "vulkan-loader"],
            Self::Arch => ["vulkan-swrast", "vulkan-icd-loader"],
        }
    }

    /// The commands that install the packages, in order.
    ///
    /// `pacman_database` says whether Arch's package list is there: a fresh container has none and needs `-y`, which
    /// elsewhere would leave the system half upgraded.
    pub fn steps(self, packages: &[&str], pacman_database: bool) -> Vec<Step> {
        let step = |command: &str, optional| {
            let words = command.split(' ').map(str::to_string).collect();
            Step { words, optional }
        };
        let packages = packages.join(" ");
        match self {
            Self::Debian => vec![
                // One broken repository among many fails the update without being in the way.
                step("apt-get update", true),
                step(&format!("apt-get install -y --no-install-recommends {packages}"), false),
            ],
            Self::Fedora => vec![step(&format!("dnf install -y {packages}"), false)],
            Self::Arch => {
                let sync = if pacman_database { "-S" } else { "-Sy" };
                vec![step(&format!("pacman {sync} --noconfirm --needed {packages}"), false)]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_known_by_id_and_by_likeness() {
        let of = Distribution::from_os_release;
        assert_eq!(of("PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n"), Some(Distribution::Debian));
        assert_eq!(of("ID=ubuntu\nID_LIKE=debian\n"), Some(Distribution::Debian));
        assert_eq!(of("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"), Some(Distribution::Debian));
        assert_eq!(of("NAME=Fedora\nID=fedora\n"), Some(Distribution::Fedora));
        assert_eq!(of("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"), Some(Distribution::Fedora));
        assert_eq!(of("ID=arch\n"), Some(Distribution::Arch));
        assert_eq!(of("ID='endeavouros'\nID_LIKE='arch'\n"), Some(Distribution::Arch));
    }

    #[test]
    fn unknown_systems_are_not_guessed() {
        for text in ["", "ID=alpine\n", "ID=nixos\nID_LIKE=\"\"\n", "VERSION_ID=debian\n", "ID\n=\n", "#ID=debian\n"] {
            assert_eq!(Distribution::from_os_release(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_family_installs_the_loader_and_lavapipe_without_asking() {
        let commands = |d: Distribution, database| -> Vec<String> {
            d.steps(&d.packages(), database).iter().map(|s| s.words.join(" ")).collect()
        };
        assert_eq!(
            commands(Distribution::Debian, true),
            ["apt-get update", "apt-get install -y --no-install-recommends mesa-vulkan-drivers libvulkan1"]
        );
        assert_eq!(commands(Distribution::Fedora, true), ["dnf install -y mesa-vulkan-drivers vulkan-loader"]);
        assert_eq!(
            commands(Distribution::Arch, true),
            ["pacman -S --noconfirm --needed vulkan-swrast vulkan-icd-loader"]
        );
        assert_eq!(
            commands(Distribution::Arch, false),
            ["pacman -Sy --noconfirm --needed vulkan-swrast vulkan-icd-loader"]
        );
    }

    #[test]
    fn only_refreshing_the_package_list_may_fail() {
        let steps = Distribution::Debian.steps(&["a"], true);
        assert_eq!(steps.iter().map(|s| s.optional).collect::<Vec<_>>(), [true, false]);
    }
}
