//! Spawning: the workspace's root, cargo, and commands that must succeed.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// The workspace's root: the folder above this crate's.
pub fn root() -> PathBuf {
    // Cargo sets it for the clone that is run; the compiled-in path may be another clone's when they share a target folder.
    let own =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    own.parent().map_or_else(|| own.clone(), Path::to_path_buf)
}

/// The cargo that runs this program, started in the root.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs `cargo` with these arguments, showing its output.
pub fn run_cargo(arguments: &[&str]) -> Result<()> {
    run_cargo_with(arguments, &[])
}

/// Builds the program and runs it with these arguments and environment variables. Cargo shows what it compiles, and when it waits for
/// another build: on two cores the first build takes minutes.
pub fn run_program(arguments: &[&str], variables: &[(&str, &OsStr)]) -> Result<()> {
    eprintln!("building swinstyle, then running it:");
    run_cargo_with(&[&["run", "--release", "--package", "swinstyle", "--"], arguments].concat(), variables)
}

/// [`run_cargo`] with environment variables.
fn run_cargo_with(arguments: &[&str], variables: &[(&str, &OsStr)]) -> Result<()> {
    let shown = format!("cargo {}", arguments.join(" "));
    eprintln!("$ {shown}");
    let status = cargo()
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{shown} did not start"))?;
    if !status.success() {
        bail!("{shown} failed ({status})");
    }
    Ok(())
}

/// What a command prints on stdout, or an error that holds the end of its stderr.
pub fn output_of(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{name} did not start"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}): {}", output.status, text.trim().lines().last().unwrap_or("it said nothing"));
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} printed something that is not UTF-8"))
}
