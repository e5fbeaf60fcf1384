//! A command on several inputs: names of results, failures among good inputs, and what may be replaced.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::{Ran, run, text};

/// Portraits of the model's own size, as one would have them in folders of one's own.
fn portraits(folder: &Path, names: &[&str]) -> Vec<PathBuf> {
    let set = folder.join("set");
    let count = names.len().to_string();
    let ran = run(&["data", "avatars", "--count", &count, "--split", "heldout", "--out", text(&set)]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let place = |(i, name): (usize, &&str)| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(set.join(format!("images/{i:06}.png")), &path).unwrap();
        path
    };
    names.iter().enumerate().map(place).collect()
}

fn on_cpu(arguments: &[&str]) -> Ran {
    run(&[arguments, &["--device", "cpu", "--json"]].concat())
}

#[track_caller]
fn done(arguments: &[&str]) -> serde_json::Value {
    let ran = on_cpu(arguments);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.document()
}

/// The files of a folder that are not hidden.
fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

fn direction(folder: &Path) -> PathBuf {
    let out = folder.join("directions");
    done(&["directions", "sefa", "--count", "1", "--out", text(&out)]);
    out.join("sefa-0.safetensors")
}

#[test]
fn inputs_of_one_name_have_results_of_their_own_in_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let images = portraits(folder.path(), &["a/img.png", "b/img.png", "c/IMG.png"]);
    let all: Vec<&str> = images.iter().map(|path| text(path)).collect();
    let direction = direction(folder.path());
    let out = |name: &str| folder.path().join(name);

    let inverted = out("inverted");
    let document = done(&[&["invert", "--out", text(&inverted)], &all[..]].concat());
    let codes: Vec<&str> = document["images"].as_array().unwrap().iter().map(|i| i["code"].as_str().unwrap()).collect();
    assert_eq!(
        codes.iter().map(|c| Path::new(c).file_name().unwrap().to_str().unwrap()).collect::<Vec<_>>(),
        ["img-inverted.safetensors", "img-2-inverted.safetensors", "IMG-3-inverted.safetensors"]
    );

    // An image and the code of its inversion share a name, too.
    let edited = out("edited");
    let edit = ["edit", "--direction", text(&direction), "--strength", "1", "--out", text(&edited)];
    done(&[&edit[..], &all[..2], &[codes[0]]].concat());
    let expected = ["img-2-sefa-0-1", "img-3-sefa-0-1", "img-sefa-0-1"];
    let expected: Vec<String> =
        expected.iter().flat_map(|name| ["png", "safetensors"].map(|end| format!("{name}.{end}"))).collect();
    assert_eq!(files(&edited), [&expected[..], &["sefa-0-grid.png".to_string()]].concat());
    let read = |name: &str| fs::read(edited.join(name)).unwrap();
    assert!(
        read("img-sefa-0-1.png") == read("img-3-sefa-0-1.png")
            && read("img-sefa-0-1.png") != read("img-2-sefa-0-1.png")
    );

    let mixed = out("mixed");
    let mix = ["mix", "--fine", "seed:1", "--layers", "5-9", "--out", text(&mixed), "--coarse"];
    let document = done(&[&mix[..], &all[..2]].concat());
    assert_eq!(document["mixes"].as_array().unwrap().len(), 2);
    assert_eq!(files(&mixed).iter().filter(|name| name.ends_with(".png")).count(), 3, "two pairs and the table");

    let projected = out("projected");
    let project = ["project", "--steps", "1", "--tune", "1", "--out", text(&projected)];
    done(&[&project[..], &all[..2]].concat());
    for name in ["img-model.safetensors", "img-2-model.safetensors", "img-2-projected.png"] {
        assert!(projected.join(name).is_file(), "{name} of {:?}", files(&projected));
    }
}

#[test]
fn bad_inputs_in_edit_mix_project_and_interpolate_do_not_stop_the_good_ones() {
    let folder = tempfile::tempdir().unwrap();
    let images = portraits(folder.path(), &["a.png", "b.png"]);
    let letter = folder.path().join("letter.png");
    fs::write(&letter, "Dear Sir or Madam").unwrap();
    let direction = direction(folder.path());
    let absent = folder.path().join("absent.png");
    let three = [text(&images[0]), text(&letter), text(&absent), text(&images[1])];
    let check = |name: &str, arguments: &[&str], results: &[&str]| {
        let out = folder.path().join(name);
        let ran = on_cpu(&[arguments, &["--out", text(&out)]].concat());
        assert_eq!(ran.code, Some(1), "{ran:?}");
        for result in results {
            assert!(out.join(result).is_file(), "{result}: {ran:?}");
        }
        assert_eq!(ran.document()["failed"].as_array().unwrap().len(), 2, "{ran:?}");
        for bad in ["letter.png", "absent.png"] {
            assert!(ran.stderr.lines().any(|l| l.starts_with("error: ") && l.contains(bad)), "{bad}: {ran:?}");
        }
    };
    let edit = ["edit", "--direction", text(&direction), "--strength", "1"];
    check("edited", &[&edit[..], &three].concat(), &["a-sefa-0-1.png", "b-sefa-0-1.png", "sefa-0-grid.png"]);
    let mix = ["mix", "--layers", "5-9", "--fine", "seed:1", "--coarse"];
    check("mixed", &[&mix[..], &three].concat(), &["a-seed1.png", "b-seed1.png", "grid.png"]);
    let project = ["project", "--steps", "1"];
    check("projected", &[&project[..], &three].concat(), &["a-projected.png", "b-projected.png", "grid.png"]);
    let interpolate = ["interpolate", "--frames", "1"];
    check("frames", &[&interpolate[..], &three].concat(), &["frame00000.png", "frame00001.png"]);
}

#[test]
fn a_result_that_cannot_be_written_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let images = portraits(folder.path(), &["a.png", "b.png"]);
    let out = folder.path().join("out");
    fs::create_dir_all(out.join("a-inverted.png")).unwrap();
    let ran = on_cpu(&["invert", text(&images[0]), text(&images[1]), "--out", text(&out)]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("a-inverted.png: not written: a folder"), "{ran:?}");
    assert!(out.join("b-inverted.png").is_file() && out.join("grid.png").is_file());
    fs::create_dir(out.join("seed0001.png")).unwrap();
    let ran = on_cpu(&["generate", "--seeds", "0-2", "--out", text(&out)]);
    assert_eq!((ran.code, ran.document()["seeds"].clone()), (Some(1), serde_json::json!([0, 2])), "{ran:?}");
    assert!(out.join("seed0002.png").is_file() && ran.stderr.contains("seed0001.png"), "{ran:?}");
}

#[test]
fn nothing_is_replaced_but_earlier_results_of_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let images = portraits(folder.path(), &["one/x.png", "two/x.png"]);
    let out = folder.path().join("out");
    let invert = |image: &Path, more: &[&str]| on_cpu(&[&["invert", text(image), "--out", text(&out)], more].concat());
    assert_eq!(invert(&images[0], &[]).code, Some(0));
    let first = fs::read(out.join("x-inverted.png")).unwrap();
    // Again is fine, also by another spelling of the path; another image of that name is not.
    assert_eq!(invert(&images[0], &[]).code, Some(0));
    assert_eq!(invert(&folder.path().join("two/../one/x.png"), &[]).code, Some(0));
    let ran = invert(&images[1], &[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("x-inverted.png") && ran.stderr.contains("--force"), "{ran:?}");
    assert!(fs::read(out.join("x-inverted.png")).unwrap() == first);
    assert_eq!(invert(&images[1], &["--force"]).code, Some(0));
    assert!(fs::read(out.join("x-inverted.png")).unwrap() != first);
    // What others put there stays, whatever its name.
    fs::write(out.join("seed0003.png"), "mine").unwrap();
    let ran = on_cpu(&["generate", "--seeds", "2-3", "--out", text(&out)]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(fs::read(out.join("seed0003.png")).unwrap(), b"mine");
    // Its overview does not take the place of that of the inversion.
    assert!(ran.document()["grid"].as_str().unwrap().ends_with("grid-2.png"), "{ran:?}");
}

#[cfg(unix)]
#[test]
fn an_input_is_never_replaced_by_any_spelling() {
    let folder = tempfile::tempdir().unwrap();
    let images = portraits(folder.path(), &["x.png"]);
    let at = |name: &str| folder.path().join(name);
    done(&["invert", text(&images[0]), "--out", text(folder.path())]);
    let code = at("x-inverted.safetensors");
    let before = fs::read(&code).unwrap();
    // The result would be called like the input, like a hard link to it, like a link to it.
    let direction = direction(folder.path());
    for name in ["seed1-sefa-0-1.safetensors", "seed2-sefa-0-1.safetensors"] {
        let link = at(name);
        if name.starts_with("seed1") { fs::hard_link(&code, &link) } else { std::os::unix::fs::symlink(&code, &link) }
            .unwrap();
        let seed = format!("seed:{}", &name[4..5]);
        let arguments = ["edit", &seed, text(&code), "--direction", text(&direction), "--strength", "1"];
        let ran = on_cpu(&[&arguments[..], &["--force", "--out", text(folder.path())]].concat());
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains("it is the input"), "{ran:?}");
        assert!(fs::read(&code).unwrap() == before);
        fs::remove_file(link).unwrap();
    }
    let arguments = ["interpolate", text(&images[0]), "seed:1", "--frames", "1", "--out", text(&images[0])];
    let ran = on_cpu(&arguments);
    ran.assert_one_error_line(&["x.png", "the input", "another --out"]);
}

/// A direction of others: a vector of 64 numbers, with what a file may say of itself.
fn direction_named(path: &Path, name: &str) {
    let about = serde_json::json!({ "name": name, "layers": { "start": 0, "end": 10 } }).to_string();
    let header = serde_json::json!({
        "__metadata__": { "swinstyle.direction": about },
        "direction": { "dtype": "F32", "shape": [64], "data_offsets": [0, 256] },
    });
    let header = header.to_string();
    let values = [0.01_f32; 64].map(f32::to_le_bytes).concat();
    fs::write(path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &values].concat()).unwrap();
}

#[test]
fn a_direction_cannot_lead_its_results_out_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("direction.safetensors");
    let out = folder.path().join("deep/er/out");
    for name in ["x/../../../EVIL", "..", "a\n\u{1b}[2Jb"] {
        direction_named(&path, name);
        fs::create_dir_all(out.join("seed1-x")).unwrap();
        let arguments = ["edit", "seed:1", "--direction", text(&path), "--strength", "1", "--out", text(&out)];
        done(&arguments);
        let results: Vec<String> = files(&out).into_iter().filter(|name| name.contains('.')).collect();
        assert_eq!(results.len(), 3, "{name:?}: {results:?}");
        assert!(results.iter().all(|name| !name.contains(['\n', '\u{1b}', '/'])), "{results:?}");
        fs::remove_dir_all(&out).unwrap();
    }
    assert_eq!(files(folder.path()), ["deep", "direction.safetensors"]);
}
