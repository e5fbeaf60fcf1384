//! Every kernel room has the same files, so that a stranger who knows one knows all.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::Findings;

/// A room's files; `cube.rs` and `host.rs` may be folders where they are long.
const FILES: [&str; 8] = [
    "README.md",
    "src/lib.rs",
    "src/problem.rs",
    "src/host.rs",
    "src/cube.rs",
    "src/launch.rs",
    "src/tune.rs",
    "src/tests.rs",
];

/// The crate in the same folder that is no kernel but what kernels share.
const KIT: &str = "kit";

/// Checks every room of the folder `kernels`.
pub fn check(kernels: &Path, findings: &mut Findings) -> Result<()> {
    let entries = fs::read_dir(kernels).with_context(|| kernels.display().to_string())?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|e| e.path().join("Cargo.toml").exists())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|name| name != KIT)
        .collect();
    names.sort();
    for name in names {
        for file in FILES {
            let path = kernels.join(&name).join(file);
            // `cube.rs`, or `cube/mod.rs`.
            let folder = path.with_extension("").join("mod.rs");
            if !path.is_file() && !folder.is_file() {
                findings.error(&format!("kernels/{name}"), format!("the room has no {file}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_of_a_room_is_named_and_the_kit_is_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        write("kit/Cargo.toml");
        write("good/Cargo.toml");
        write("bad/Cargo.toml");
        for file in FILES {
            write(&format!("good/{file}"));
            match file {
                "src/cube.rs" => write("bad/src/cube/mod.rs"),
                "src/tune.rs" => {}
                file => write(&format!("bad/{file}")),
            }
        }
        let mut findings = Findings::default();
        check(folder.path(), &mut findings).unwrap();
        assert_eq!(findings.errors, ["kernels/bad: the room has no src/tune.rs"]);
    }
}
