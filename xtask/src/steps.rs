//! The tasks that are a few commands after each other: demo, test, ci.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{
    inspect,
    process::{root, run_cargo},
    setup, tidy,
};

/// Where the demo writes, relative to the root.
const DEMO: &str = "out/demo";

/// Builds the program, inverts held-out portraits and says where the results are.
pub fn demo() -> Result<()> {
    // Only the tests need Vulkan: the demo's default on a machine without a GPU is the cpu.
    if let Err(error) = setup::run() {
        eprintln!("setup: {error:#} (the demo does without)");
    }
    run_cargo(&["run", "--release", "--package", "swinstyle", "--", "demo", "--out", DEMO])?;
    let folder = root().join(DEMO);
    for name in ["grid.png", "index.html", "metrics.json"] {
        let file = folder.join(name);
        if !file.is_file() {
            bail!("the demo ended without {}", file.display());
        }
    }
    println!("demo: open {}", folder.join("index.html").display());
    Ok(())
}

/// Runs every test of the workspace, in the one profile that everything is built in.
pub fn test() -> Result<()> {
    let start = Instant::now();
    setup::run()?;
    run_cargo(&["test", "--release", "--workspace"])?;
    eprintln!("all tests passed in {}", spoken(start.elapsed()));
    Ok(())
}

/// What continuous integration runs.
pub fn ci() -> Result<()> {
    run_cargo(&["fmt", "--all", "--check"])?;
    run_cargo(&["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    tidy::run()?;
    test()?;
    inspect::gates()
}

fn spoken(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..60 => format!("{s} s"),
        s => format!("{} min {} s", s / 60, s % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spoken_in_minutes_and_seconds() {
        assert_eq!(spoken(Duration::from_secs(59)), "59 s");
        assert_eq!(spoken(Duration::from_secs(61)), "1 min 1 s");
        assert_eq!(spoken(Duration::from_secs(3600)), "60 min 0 s");
    }
}
