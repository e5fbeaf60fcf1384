//! Running the program, and making damaged fixtures.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// The fixtures that are part of the project.
pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The program, without a device from the environment.
pub fn swinstyle() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swinstyle-under-test"));
    command.env_remove("SWINSTYLE_DEVICE").env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    command
}

/// What a finished program left.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The one JSON document on stdout.
    #[track_caller]
    pub fn document(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "not one document: {self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Asserts that the program failed with one line that holds `parts`, and wrote nothing else.
    #[track_caller]
    pub fn assert_one_error_line(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{self:?}");
        assert!(lines[0].starts_with("error: "), "{self:?}");
        for part in parts {
            assert!(lines[0].contains(part), "`{part}` is not in {self:?}");
        }
    }
}

impl Ran {
    /// Asserts that the program failed, and that its last line is an error that holds `parts`.
    #[track_caller]
    pub fn assert_last_error_line(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        let last = self.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: ") && parts.iter().all(|p| last.contains(p)), "{self:?}");
    }
}

/// Runs the program to its end.
pub fn run<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Ran {
    let output = swinstyle().args(arguments).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Copies one golden fixture into a folder, passing its bytes through `change`.
pub fn changed_fixture(case: &str, folder: &Path, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let name = format!("{case}.safetensors");
    let mut bytes = std::fs::read(golden().join(&name)).expect("a golden fixture");
    change(&mut bytes);
    let path = folder.join(&name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, bytes).expect("a copy");
    path
}

/// Where the values of a tensor begin in a safetensors file, and how many bytes they have.
pub fn values_of(file: &[u8], tensor: &str) -> (usize, usize) {
    let length = u64::from_le_bytes(file[..8].try_into().expect("8 bytes")) as usize;
    let header: Value = serde_json::from_slice(&file[8..8 + length]).expect("a header");
    let offset = |i: usize| header[tensor]["data_offsets"][i].as_u64().expect("an offset") as usize;
    (8 + length + offset(0), offset(1) - offset(0))
}
