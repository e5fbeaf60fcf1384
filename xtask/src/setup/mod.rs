//! `cargo xtask setup`: some Vulkan adapter for the tests, Mesa's software one where there is no other.

pub mod cuda;
mod distribution;
mod vulkan;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::process::output_of;
use distribution::{Distribution, Step};
use vulkan::System;

/// What to say where the package manager is not one that we know.
const BY_HAND: &str =
    "install the Vulkan loader and Mesa's software driver (lavapipe) with the system's package manager";

/// How the package manager may be run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Privilege {
    Root,
    Sudo,
    None,
}

/// Makes sure that a Vulkan adapter exists; installs Mesa's lavapipe where there is none and the right to do so.
pub fn run() -> Result<()> {
    if !cfg!(target_os = "linux") {
        // Metal and DX12 come with the system.
        eprintln!("setup: nothing to do on {}", std::env::consts::OS);
        return Ok(());
    }
    let reason = match System::real().adapter() {
        Ok(driver) => {
            eprintln!("setup: Vulkan adapter present ({driver})");
            return Ok(());
        }
        Err(reason) => reason,
    };
    let distribution = distribution().with_context(|| {
        format!("no Vulkan adapter ({reason}), and this system's package manager is not known; {BY_HAND}")
    })?;
    install_packages(distribution, &distribution.packages(), &format!("no Vulkan adapter ({reason})"))?;
    match System::real().adapter() {
        Ok(driver) => eprintln!("setup: Vulkan adapter installed ({driver})"),
        Err(reason) => bail!("installed {}, but {reason}", distribution.packages().join(" ")),
    }
    Ok(())
}

/// Installs SPIR-V's validator and disassembler, which `inspect --arch vulkan` uses, where they are not there.
pub fn spirv_tools() -> Result<()> {
    if output_of(Command::new("spirv-val").arg("--version")).is_ok() {
        eprintln!("setup: spirv-val present");
        return Ok(());
    }
    let by_hand = "install SPIRV-Tools (spirv-val, spirv-dis) with the system's package manager, or the Vulkan SDK";
    let distribution = distribution().with_context(|| format!("spirv-val was not found; {by_hand}"))?;
    install_packages(distribution, &distribution.spirv_tools(), "spirv-val was not found")?;
    output_of(Command::new("spirv-val").arg("--version"))
        .context("spirv-tools was installed, but spirv-val does not run")?;
    eprintln!("setup: spirv-val installed");
    Ok(())
}

/// The system's family, where it is one that we know.
fn distribution() -> Option<Distribution> {
    let release = fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release"));
    Distribution::from_os_release(&release.unwrap_or_default()).filter(|_| cfg!(target_os = "linux"))
}

/// Installs packages, or says what to type where that needs rights that are not there.
fn install_packages(distribution: Distribution, packages: &[&str], reason: &str) -> Result<()> {
    let steps = distribution.steps(packages, Path::new("/var/lib/pacman/sync/core.db").exists());
    let privilege = privilege();
    if privilege == Privilege::None {
        bail!("{reason}, and installing needs root; type: {}", typed(&steps));
    }
    eprintln!("setup: {reason}; installing {} ...", packages.join(" "));
    for step in &steps {
        match install(step, privilege) {
            Ok(()) => {}
            Err(error) if step.optional => eprintln!("setup: {error:#}; going on"),
            Err(error) => return Err(error.context(format!("the installation failed; type: {}", typed(&steps)))),
        }
    }
    Ok(())
}

fn privilege() -> Privilege {
    if output_of(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0") {
        return Privilege::Root;
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if sudo.status().is_ok_and(|s| s.success()) { Privilege::Sudo } else { Privilege::None }
}

/// Runs one step quietly; what it printed is shown only if it fails.
fn install(step: &Step, privilege: Privilege) -> Result<()> {
    let mut words = step.words.iter().map(String::as_str).collect::<Vec<_>>();
    // `env` in the command itself: sudo drops the caller's variables.
    let noninteractive = ["env", "DEBIAN_FRONTEND=noninteractive"];
    words.splice(0..0, noninteractive);
    if privilege == Privilege::Sudo {
        words.splice(0..0, ["sudo", "-n"]);
    }
    let output = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} did not start", step.words[0]))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        eprint!("{}", String::from_utf8_lossy(&text));
        bail!("{} failed ({})", step.words.join(" "), output.status);
    }
    Ok(())
}

/// The steps as a person types them.
fn typed(steps: &[Step]) -> String {
    steps.iter().map(|s| format!("sudo {}", s.words.join(" "))).collect::<Vec<_>>().join(" && ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_to_type_is_complete() {
        let typed = typed(&Distribution::Debian.steps(&Distribution::Debian.packages(), true));
        assert_eq!(
            typed,
            "sudo apt-get update && \
             sudo apt-get install -y --no-install-recommends mesa-vulkan-drivers libvulkan1"
        );
    }
}
