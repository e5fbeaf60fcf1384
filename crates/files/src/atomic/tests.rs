//! What the writer replaces, what it refuses, and what is left after an error.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::*;
use crate::{same_file, sweep};

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomic(path, Durability::Synced, |out| out.write_all(bytes))
}

#[test]
fn success_replaces_the_file_and_leaves_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for (durability, bytes) in [(Durability::Synced, "one"), (Durability::Unsynced, "two")] {
        write_atomic(&path, durability, |out| out.write_all(bytes.as_bytes())).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes.as_bytes());
        assert_eq!(names(folder.path()), ["model.safetensors"]);
    }
}

#[test]
fn a_failure_in_the_middle_leaves_the_old_file_and_no_temporary() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write(&path, b"old").unwrap();
    let error = write_atomic(&path, Durability::Synced, |out| {
        out.write_all(&vec![7; 3 << 20])?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    })
    .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(folder.path()), ["model.safetensors"]);
}

#[test]
fn a_panic_in_the_middle_leaves_no_temporary() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let attempt = || write_atomic(&path, Durability::Synced, |_| panic!("on purpose"));
    assert!(std::panic::catch_unwind(attempt).is_err());
    assert!(names(folder.path()).is_empty());
}

#[test]
fn paths_that_name_no_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: PathBuf| write(&path, b"x").unwrap_err().to_string();
    assert!(refused(folder.path().join("absent/x")).contains("No such file"));
    assert!(refused(folder.path().to_path_buf()).contains("a folder of this name exists"));
    assert!(refused(folder.path().join("new/")).contains("name a file"));
    assert!(refused(folder.path().join("..")).contains("names no file"));
    assert!(refused(PathBuf::new()).contains("names no file"));
    assert!(names(folder.path()).is_empty());
}

#[test]
fn names_as_long_as_the_file_system_allows_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x".repeat(255));
    write(&path, b"long").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"long");
    assert_eq!(names(folder.path()).len(), 1);
}

#[test]
fn temporaries_of_killed_writers_are_swept_and_those_of_live_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (dead, live, foreign) = (at(".swinstyle-123-0.tmp"), at(".swinstyle-124-0.tmp"), at(".other-123-0.tmp"));
    for path in [&dead, &live, &foreign] {
        fs::write(path, "half").unwrap();
    }
    let writer = OpenOptions::new().write(true).open(&live).unwrap();
    writer.lock().unwrap();
    // The first write of this process into the folder sweeps.
    write(&at("a"), b"x").unwrap();
    assert!(!dead.exists() && live.exists() && foreign.exists());
    drop(writer);
    sweep(folder.path());
    assert_eq!(names(folder.path()), [".other-123-0.tmp", "a"]);
}

#[test]
fn writers_of_one_file_and_sweepers_do_not_meet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                (0..50).for_each(|_| write_atomic(&path, Durability::Unsynced, |w| w.write_all(b"x")).unwrap())
            });
            scope.spawn(|| (0..200).for_each(|_| sweep(folder.path())));
        }
    });
    assert_eq!(names(folder.path()), ["a"]);
}

#[test]
fn the_same_file_is_known_by_another_spelling() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    write(&a, b"x").unwrap();
    assert!(same_file(&a, &folder.path().join("./../").join(folder.path()).join("a")));
    assert!(!same_file(&a, &b));
    write(&b, b"x").unwrap();
    assert!(!same_file(&a, &b));
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_link_stays_and_its_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("deep")).unwrap();
        write(&at("deep/file"), b"old").unwrap();
        symlink("deep/file", at("one")).unwrap();
        symlink(at("one"), at("two")).unwrap();
        write(&at("two"), b"new").unwrap();
        assert!(at("one").is_symlink() && at("two").is_symlink());
        assert_eq!(fs::read(at("deep/file")).unwrap(), b"new");
        assert!(same_file(&at("two"), &at("deep/file")));
        // One that leads to nothing yet makes the file, as a shell's `>` does.
        symlink("deep/fresh", at("three")).unwrap();
        write(&at("three"), b"fresh").unwrap();
        assert_eq!(fs::read(at("deep/fresh")).unwrap(), b"fresh");
        assert_eq!(names(&at("deep")), ["file", "fresh"]);
        symlink("circle", at("circle")).unwrap();
        assert!(write(&at("circle"), b"x").is_err());
    }

    #[test]
    fn a_link_in_a_temporarys_place_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let taken = |i: u64| folder.path().join(format!(".swinstyle-{}-{i}.tmp", std::process::id()));
        (0..2000).for_each(|i| symlink(&victim, taken(i)).unwrap());
        write(&folder.path().join("a"), b"x").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert!(taken(7).is_symlink());
    }

    #[test]
    fn devices_pipes_and_sockets_are_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, socket, link) = (folder.path().join("p"), folder.path().join("s"), folder.path().join("l"));
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let _listener = UnixListener::bind(&socket).unwrap();
        symlink("/dev/null", &link).unwrap();
        for (path, kind) in [(&pipe, "a pipe"), (&socket, "a socket"), (&link, "a device")] {
            let line = write(path, b"x").unwrap_err().to_string();
            assert_eq!(line, format!("this is {kind}, which is never replaced; name a file"));
        }
        assert!(write(Path::new("/dev/null"), b"x").unwrap_err().to_string().contains("a device"));
        assert_eq!(names(folder.path()), ["l", "p", "s"]);
    }

    #[test]
    fn permissions_stay_and_a_write_protected_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        write(&path, b"x").unwrap();
        for kept in [0o600, 0o640, 0o755] {
            fs::set_permissions(&path, fs::Permissions::from_mode(kept)).unwrap();
            write(&path, b"y").unwrap();
            assert_eq!(mode(), kept);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        assert!(write(&path, b"z").unwrap_err().to_string().contains("write-protected"));
        assert_eq!(fs::read(&path).unwrap(), b"y");
    }

    #[test]
    fn a_hard_link_is_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        write(&a, b"x").unwrap();
        fs::hard_link(&a, &b).unwrap();
        assert!(same_file(&a, &b));
    }

    /// The limit on file sizes gives a real write error in the middle of a file, without root.
    /// It belongs to a process, so the test starts itself once more under `ulimit`.
    #[test]
    fn a_write_that_the_system_refuses_half_way_leaves_the_old_file() {
        const TARGET: &str = "SWINSTYLE_TEST_WRITE_TARGET";
        if let Some(path) = std::env::var_os(TARGET) {
            eprintln!("{}", write(Path::new(&path), &vec![7; 4 << 20]).unwrap_err());
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        write(&path, b"old").unwrap();
        let this_test = "atomic::tests::unix::a_write_that_the_system_refuses_half_way_leaves_the_old_file";
        // Ignoring XFSZ turns the signal into the error EFBIG; an ignored signal stays so across exec.
        let output = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", this_test, "--nocapture"])
            .env(TARGET, &path)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{printed}");
        assert!(printed.contains("File too large"), "{printed}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["model.safetensors"]);
    }
}
