//! The tasks that are a few commands after each other: demo, test, ci.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{
    inspect,
    process::{root, run_cargo, run_program},
    setup, tidy,
};

/// Where the demo writes, relative to the root.
const DEMO: &str = "out/demo";

/// Builds the program, inverts held-out portraits and says where the results are. It installs nothing: only the tests need Vulkan, and
/// the demo's default on a machine without a GPU is the cpu.
pub fn demo() -> Result<()> {
    run_program(&["demo", "--out", DEMO], &[])?;
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
        s @ 60..3600 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spoken_in_their_two_largest_units() {
        assert_eq!(spoken(Duration::from_secs(59)), "59 s");
        assert_eq!(spoken(Duration::from_secs(61)), "1 min 1 s");
        assert_eq!(spoken(Duration::from_secs(5000)), "1 h 23 min");
    }
}
