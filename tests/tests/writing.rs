//! What the program writes over and what it does not, which names it takes from files, and what reaches the terminal.

use std::{fs, path::Path};

use crate::support::{golden, run, text};

/// A StyleGAN2 checkpoint of the common port, a few hundred kilobytes.
fn checkpoint(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("generator.pt");
    fs::copy(golden().join("checkpoints/stylegan2_tiny_64px.pt"), &path).unwrap();
    path
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn convert_replaces_neither_its_input_nor_a_file_that_it_was_not_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (checkpoint(folder.path()), folder.path().join("model.safetensors"));
    let done = run(&["convert", text(&input), text(&output)]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let bytes = fs::read(&output).unwrap();
    run(&["convert", text(&output), text(&output)]).assert_one_error_line(&["it is the input", "name another file"]);
    let spelled = folder.path().join(".").join("model.safetensors");
    run(&["convert", text(&output), text(&spelled), "--force"]).assert_one_error_line(&["it is the input"]);
    run(&["convert", text(&input), text(&output)]).assert_one_error_line(&["it exists; --force replaces it"]);
    assert_eq!(fs::read(&output).unwrap(), bytes);
    let done = run(&["convert", text(&input), text(&output), "--dtype", "f32", "--force"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_ne!(fs::read(&output).unwrap(), bytes);
    assert_eq!(names(folder.path()), ["generator.pt", "model.safetensors"]);
}

#[test]
fn convert_writes_no_file_that_promises_another_format() {
    let folder = tempfile::tempdir().unwrap();
    let input = checkpoint(folder.path());
    for ending in ["pt", "pth", "onnx", "npz", "pkl", "bin", "gguf", "gif", "PT", "safetensors.bak"] {
        let ran = run(&["convert", text(&input), text(&folder.path().join(format!("model.{ending}")))]);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains("but safetensors; name it"), "{ran:?}");
    }
    assert_eq!(names(folder.path()), ["generator.pt"]);
    for name in ["plain", "model.SAFETENSORS", &format!("{}.safetensors", "x".repeat(240))] {
        let ran = run(&["convert", text(&input), text(&folder.path().join(name))]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    assert_eq!(names(folder.path()).len(), 4);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_special_files_are_never_replaced() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let input = checkpoint(folder.path());
    let (link, device) = (folder.path().join("link.safetensors"), folder.path().join("null.safetensors"));
    symlink("/dev/null", &device).unwrap();
    for force in [&[][..], &["--force"]] {
        let ran = run(&[&["convert", text(&input), text(&device)][..], force].concat());
        ran.assert_one_error_line(&["null.safetensors: cannot write: this is a device, which is never replaced"]);
    }
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    symlink(&input, &link).unwrap();
    run(&["convert", text(&input), text(&link), "--force"]).assert_one_error_line(&["it is the input"]);
    fs::remove_file(&link).unwrap();
    symlink("real.safetensors", &link).unwrap();
    let ran = run(&["convert", text(&input), text(&link)]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(link.is_symlink() && folder.path().join("real.safetensors").is_file());
}

#[test]
fn what_a_file_is_called_does_not_reach_the_terminal_raw() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a\u{1b}[2J\u{7}.safetensors");
    fs::write(&path, "x").unwrap();
    run(&["generate", "--model", text(&path), "--out", text(&folder.path().join("out"))])
        .assert_one_error_line(&[r"a\u{1b}[2J\u{7}.safetensors: not a checkpoint"]);
}

#[test]
fn a_model_with_a_changed_bit_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (checkpoint(folder.path()), folder.path().join("model.safetensors"));
    assert_eq!(run(&["convert", text(&input), text(&output)]).code, Some(0));
    let mut bytes = fs::read(&output).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&output, bytes).unwrap();
    run(&["generate", "--model", text(&output), "--out", text(&folder.path().join("out"))])
        .assert_one_error_line(&["model.safetensors: damaged: its digest", "fetch or make the file anew"]);
}
