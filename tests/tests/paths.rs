//! Paths that are no text, and JSON that shows them all the same.

// Other systems allow no such names.
#![cfg(target_os = "linux")]

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::support::{Ran, golden, run};

/// A name that is not UTF-8, with an ending.
fn odd(end: &str) -> OsString {
    let mut name = OsStr::from_bytes(b"b\xffd").to_os_string();
    name.push(end);
    name
}

/// Runs a command whose words are text or paths.
fn on_cpu(words: &[&dyn AsRef<OsStr>]) -> Ran {
    let mut all: Vec<&OsStr> = words.iter().map(|word| (*word).as_ref()).collect();
    all.extend(["--device", "cpu", "--json"].map(OsStr::new));
    run(&all)
}

#[track_caller]
fn shown(ran: &Ran, key: &str) {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let text = ran.document().to_string();
    assert!(text.contains("b\u{fffd}d"), "{key}: {text}");
}

#[test]
fn every_command_takes_paths_that_are_not_utf_8_and_shows_them_in_json() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &dyn AsRef<OsStr>| -> PathBuf { folder.path().join(name.as_ref()) };
    let set = at(&odd("-set"));
    let masks = ["--masks", "--count", "2"];
    shown(&on_cpu(&[&"data", &"avatars", &masks[0], &masks[1], &masks[2], &"--out", &set]), "data");
    let image = at(&odd(".png"));
    fs::copy(set.join("images/000000.png"), &image).unwrap();
    let map = at(&odd("-map.png"));
    fs::copy(set.join("masks/000000.png"), &map).unwrap();
    let model = at(&odd(".safetensors"));
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets");
    fs::copy(assets.join("avatar64.safetensors"), &model).unwrap();
    let out = |name: &str| at(&odd(name));
    let directions = out("-directions");
    shown(
        &on_cpu(&[&"directions", &"sefa", &"--count", &"1", &"--model", &model, &"--out", &directions]),
        "directions",
    );
    let direction = directions.join(odd(".safetensors"));
    fs::rename(directions.join("sefa-0.safetensors"), &direction).unwrap();
    let inverted = out("-inverted");
    shown(&on_cpu(&[&"invert", &image, &"--model", &model, &"--out", &inverted]), "invert");
    let code = fs::read_dir(&inverted)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "safetensors"));
    let code = code.expect("a code");
    let edit: [&dyn AsRef<OsStr>; 8] =
        [&"edit", &image, &code, &"--direction", &direction, &"--strength", &"1", &"--out"];
    shown(&on_cpu(&[&edit[..], &[&out("-edited")]].concat()), "edit");
    let mix: [&dyn AsRef<OsStr>; 8] = [&"mix", &"--coarse", &image, &"--fine", &code, &"--layers", &"5-9", &"--out"];
    shown(&on_cpu(&[&mix[..], &[&out("-mixed")]].concat()), "mix");
    shown(&on_cpu(&[&"interpolate", &image, &code, &"--frames", &"1", &"--out", &out("-way.png")]), "interpolate");
    shown(&on_cpu(&[&"interpolate", &image, &code, &"--frames", &"1", &"--out", &out("-frames")]), "interpolate");
    shown(&on_cpu(&[&"project", &image, &"--steps", &"1", &"--out", &out("-projected")]), "project");
    shown(&on_cpu(&[&"super-resolve", &image, &"--samples", &"1", &"--out", &out("-large")]), "super-resolve");
    shown(&on_cpu(&[&"segment2face", &map, &"--samples", &"1", &"--out", &out("-faces")]), "segment2face");
    shown(&on_cpu(&[&"generate", &"--seeds", &"1", &"--model", &model, &"--out", &out("-drawn")]), "generate");
    shown(&on_cpu(&[&"convert", &model, &out("-converted.safetensors")]), "convert");
    let fixtures = out("-fixtures");
    fs::create_dir(&fixtures).unwrap();
    fs::copy(golden().join("upfirdn2d/identity_1tap.safetensors"), fixtures.join("identity_1tap.safetensors")).unwrap();
    shown(&on_cpu(&[&"kernels", &"check", &fixtures]), "kernels check");
}

#[test]
fn missing_files_of_such_names_are_errors_that_name_them() {
    let absent = odd(".png");
    for command in ["invert", "project", "super-resolve", "segment2face"] {
        let ran = on_cpu(&[&command, &absent, &"--out", &"never"]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains("b\u{fffd}d.png"), "{ran:?}");
        assert_eq!(ran.document()["failed"][0]["file"], "b\u{fffd}d.png", "{ran:?}");
    }
    for option in ["--model", "--direction"] {
        let other = if option == "--model" { ["--direction", "x"] } else { ["--strength", "1"] };
        let ran = on_cpu(&[&"edit", &"seed:1", &option, &absent, &other[0], &other[1], &"--out", &"never"]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains("b\u{fffd}d.png"), "{ran:?}");
    }
}
