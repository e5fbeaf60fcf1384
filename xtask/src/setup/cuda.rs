//! `cargo xtask setup --cuda-tools`: NVRTC, CUDA's headers and nvdisasm from their Python wheels, which need no GPU and no root.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::process::{output_of, root};

/// What is installed: NVIDIA's wheels of one CUDA release, so that the same kernel is the same code everywhere.
const WHEELS: [&str; 5] = [
    "nvidia-cuda-nvrtc==13.5.37",
    "nvidia-cuda-runtime==13.5.37",
    "nvidia-cuda-crt==13.5.37",
    "nvidia-cuda-cccl==13.3.5.0.6",
    "nvidia-cuda-nvdisasm==13.5.37",
];

/// Name of the file in the tools' folder that lists what is in it.
const LIST: &str = "wheels.txt";

/// The command that installs the tools.
pub const FIX: &str = "cargo xtask setup --cuda-tools";

/// The folder of the tools, whether they are there or not: in the user's cache, which all clones share.
pub fn folder() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    cache.map_or_else(|| root().join("target"), |c| c.join("swinstyle")).join("cuda-tools")
}

/// Whether exactly the pinned wheels are in a folder.
pub fn installed(folder: &Path) -> bool {
    fs::read_to_string(folder.join(LIST)).is_ok_and(|list| list == listed())
}

fn listed() -> String {
    WHEELS.join("\n") + "\n"
}

/// Installs the tools where they are not there yet.
pub fn install() -> Result<()> {
    let folder = folder();
    if installed(&folder) {
        eprintln!("setup: CUDA tools present ({})", folder.display());
        return Ok(());
    }
    if !cfg!(target_os = "linux") {
        bail!("the CUDA tools are installed on Linux alone; elsewhere install the CUDA toolkit and set CUDA_PATH");
    }
    let Some(installer) = Installer::find() else {
        bail!(
            "pip is needed to install {}; install it with the system's package manager, or install the CUDA toolkit and set CUDA_PATH",
            WHEELS.join(" ")
        );
    };
    eprintln!("setup: installing {} ...", WHEELS.join(" "));
    let parent = folder.parent().context("the folder of the tools has no parent")?;
    fs::create_dir_all(parent).with_context(|| format!("{} cannot be made", parent.display()))?;
    // Whole or not at all: a download that was cut off must not look like an installation.
    let fresh = parent.join(format!("cuda-tools.{}", std::process::id()));
    let done = installer.install(&fresh).and_then(|()| {
        fs::write(fresh.join(LIST), listed())?;
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::rename(&fresh, &folder).with_context(|| format!("{} cannot be moved into place", fresh.display()))
    });
    if done.is_err() {
        // The error that matters is the first one.
        let _ = fs::remove_dir_all(&fresh);
    }
    done?;
    eprintln!("setup: CUDA tools installed ({})", folder.display());
    Ok(())
}

/// A program that installs wheels: words that come before the folder.
struct Installer(&'static [&'static str]);

impl Installer {
    /// The first that is there; each asks the registry that the user has configured.
    fn find() -> Option<Self> {
        const ALL: [(&[&str], &[&str]); 4] = [
            (&["python3", "-m", "pip", "--version"], &["python3", "-m", "pip", "install"]),
            (&["python", "-m", "pip", "--version"], &["python", "-m", "pip", "install"]),
            (&["pip3", "--version"], &["pip3", "install"]),
            (&["uv", "--version"], &["uv", "pip", "install"]),
        ];
        let there = |ask: &[&str]| output_of(Command::new(ask[0]).args(&ask[1..])).is_ok();
        ALL.into_iter().find(|(ask, _)| there(ask)).map(|(_, install)| Self(install))
    }

    fn install(&self, into: &Path) -> Result<()> {
        let mut command = Command::new(self.0[0]);
        // No dependencies: they are the driver's side, which nothing here runs.
        command.args(&self.0[1..]).args(["--quiet", "--no-deps", "--only-binary", ":all:", "--target"]).arg(into);
        output_of(command.args(WHEELS)).context("the wheels could not be installed").map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pinned_wheels_count_as_installed() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!installed(folder.path()));
        fs::write(folder.path().join(LIST), "nvidia-cuda-nvrtc==12.0.0\n").unwrap();
        assert!(!installed(folder.path()));
        fs::write(folder.path().join(LIST), listed()).unwrap();
        assert!(installed(folder.path()));
    }

    #[test]
    fn every_wheel_is_pinned() {
        for wheel in WHEELS {
            let (name, version) = wheel.split_once("==").unwrap();
            assert!(
                name.starts_with("nvidia-cuda-") && version.split('.').all(|n| n.parse::<u32>().is_ok()),
                "{wheel}"
            );
        }
    }
}
