//! `swinstyle directions`, `edit`, `mix` and `interpolate` with the shipped model.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::{golden, run, text};

/// Runs a command on the cpu that must succeed; returns its JSON.
#[track_caller]
fn done(arguments: &[&str]) -> serde_json::Value {
    let ran = run(&[arguments, &["--device", "cpu", "--json"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.document()
}

/// The images that `generate` makes of seeds 1 and 2 with the model that edits.
fn generated(folder: &Path) -> [Vec<u8>; 2] {
    let out = folder.join("generated");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/avatar64.safetensors");
    done(&["generate", "--model", text(&model), "--seeds", "1,2", "--out", text(&out)]);
    ["seed0001.png", "seed0002.png"].map(|name| fs::read(out.join(name)).unwrap())
}

fn sefa(folder: &Path, more: &[&str]) -> PathBuf {
    let out = folder.join("directions");
    done(&[&["directions", "sefa", "--count", "2", "--out", text(&out)], more].concat());
    out.join("sefa-1.safetensors")
}

#[test]
fn an_edit_of_strength_zero_is_the_image_itself_and_a_code_file_is_as_good_as_its_seed() {
    let folder = tempfile::tempdir().unwrap();
    let [first, _] = generated(folder.path());
    let direction = sefa(folder.path(), &[]);
    let out = folder.path().join("edits");
    let arguments = ["edit", "seed:1", "--direction", text(&direction), "--strength", "0,4", "--out", text(&out)];
    let document = done(&arguments);
    assert_eq!(document["edits"].as_array().unwrap().len(), 2);
    let read = |name: &str| fs::read(out.join(name)).unwrap();
    assert!(read("seed1-sefa-1-0.png") == first && read("seed1-sefa-1-4.png") != first);
    // Back by the same way from the code of the edit.
    let code = out.join("seed1-sefa-1-4.safetensors");
    let back = folder.path().join("back");
    let arguments = ["edit", text(&code), "--direction", text(&direction), "--strength", "-4", "--out", text(&back)];
    done(&arguments);
    let png = |path: PathBuf| image_of(&fs::read(path).unwrap());
    let (a, b) = (image_of(&first), png(back.join("seed1-sefa-1-4-sefa-1--4.png")));
    assert!(a.iter().zip(&b).all(|(a, b)| a.abs_diff(*b) <= 1));
}

fn image_of(bytes: &[u8]) -> Vec<u8> {
    image::load_from_memory(bytes).unwrap().to_rgb8().into_raw()
}

#[test]
fn mixing_all_layers_gives_the_other_image_and_interpolation_goes_from_one_to_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = generated(folder.path());
    let out = folder.path().join("mixed");
    let mix = |layers: &str| {
        done(&["mix", "--coarse", "seed:1", "--fine", "seed:2", "--layers", layers, "--out", text(&out)]);
        fs::read(out.join("seed1-seed2.png")).unwrap()
    };
    assert!(mix("0-9") == second);
    let some = mix("5-9");
    assert!(some != first && some != second);

    let frames = folder.path().join("frames");
    let document = done(&["interpolate", "seed:1", "seed:2", "--frames", "3", "--out", text(&frames)]);
    assert_eq!(document["frames"], 4);
    let frame = |i: usize| fs::read(frames.join(format!("frame{i:05}.png"))).unwrap();
    assert!(frame(0) == first && frame(3) == second && frame(1) != first && frame(1) != frame(2));
    let animation = folder.path().join("way.png");
    done(&["interpolate", "seed:1", "seed:2", "--frames", "3", "--out", text(&animation)]);
    assert!(fs::read(&animation).unwrap().windows(4).any(|w| w == b"acTL"));
}

#[test]
fn attributes_of_portraits_become_directions_with_their_accuracy() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("d");
    let arguments = ["directions", "attributes", "--attribute", "pale:skin", "--attribute", "blond:hair"];
    let document = done(&[&arguments[..], &["--count", "120", "--out", text(&out)]].concat());
    for direction in document["directions"].as_array().unwrap() {
        let measured = &direction["about"]["measured"];
        assert!(measured["accuracy"].as_f64().unwrap() > 0.6, "{direction}");
        assert!((0.0..=1.0).contains(&measured["others_changed"].as_f64().unwrap()), "{direction}");
    }
    let svm = folder.path().join("svm");
    let arguments = ["directions", "attributes", "--method", "svm", "--attribute", "pale:skin", "--count", "120"];
    let by_svm = done(&[&arguments[..], &["--out", text(&svm)]].concat());
    let method = |document: &serde_json::Value| document["directions"][0]["about"]["method"].clone();
    assert_eq!((method(&document), method(&by_svm)), ("fisher".into(), "svm".into()));
    assert!(by_svm["directions"][0]["about"]["measured"]["accuracy"].as_f64().unwrap() > 0.6, "{by_svm}");
    // A paler skin is lighter where the skin is.
    let skin = out.join("pale.safetensors");
    let edits = folder.path().join("e");
    let arguments = ["edit", "seed:1", "--direction", text(&skin), "--strength", "-1,1", "--out", text(&edits)];
    done(&arguments);
    let light = |name: &str| image_of(&fs::read(edits.join(name)).unwrap()).iter().map(|v| u64::from(*v)).sum::<u64>();
    assert!(light("seed1-pale-1.png") > light("seed1-pale--1.png"));
}

#[test]
fn what_does_not_fit_the_model_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let fail = |arguments: &[&str], parts: &[&str]| {
        run(&[arguments, &["--device", "cpu", "--out", text(&out)]].concat()).assert_one_error_line(parts);
        assert!(!out.exists());
    };
    let tiny = golden().join("checkpoints/stylegan2_tiny_64px.safetensors");
    let theirs = sefa(folder.path(), &["--model", text(&tiny)]);
    fail(&["edit", "seed:1", "--direction", text(&theirs)], &["sefa-1.safetensors", "[16]", "[10, 64]"]);
    fail(&["edit", "seed:1", "--direction", "nowhere.safetensors"], &["nowhere.safetensors"]);
    fail(&["edit", "seed:1", "--model", text(&tiny), "--direction", text(&tiny)], &["tensors"]);
    fail(
        &["mix", "--coarse", text(&theirs), "--fine", "seed:1", "--layers", "1"],
        &["sefa-1.safetensors", "a direction, not a code"],
    );
    fail(&["mix", "--model", text(&tiny), "--coarse", "x.png", "--fine", "seed:1", "--layers", "1"], &["no encoder"]);
    let usage = run(&["mix", "--coarse", "seed:1", "--fine", "seed:2", "--layers", "3-12", "--out", text(&out)]);
    assert_eq!(usage.code, Some(2), "{usage:?}");
    assert!(usage.stderr.contains("0-9"), "{usage:?}");
}

#[test]
fn a_projection_from_the_encoders_code_comes_nearer_and_writes_a_code_that_gives_its_image() {
    let folder = tempfile::tempdir().unwrap();
    let portraits = folder.path().join("portraits");
    done(&["data", "avatars", "--count", "1", "--split", "heldout", "--out", text(&portraits)]);
    let (file, out) = (portraits.join("images/000000.png"), folder.path().join("out"));
    let document = done(&["project", text(&file), "--steps", "30", "--tune", "5", "--out", text(&out)]);
    let image = &document["images"][0];
    assert!(image["psnr"].as_f64() > image["psnr_before"].as_f64(), "{document}");
    // The code with the tuned model draws the image that was written.
    let (code, model) = (out.join("000000-projected.safetensors"), out.join("000000-model.safetensors"));
    let frames = folder.path().join("frames");
    let arguments = ["interpolate", text(&code), text(&code), "--frames", "1", "--model", text(&model)];
    done(&[&arguments[..], &["--out", text(&frames)]].concat());
    let read = |path: PathBuf| image_of(&fs::read(path).unwrap());
    assert!(read(frames.join("frame00000.png")) == read(out.join("000000-projected.png")));

    // A direction of the generator that was tuned edits the tuned one, in whatever type it is stored, and a line says so.
    let direction = sefa(folder.path(), &[]);
    let edit = |model: &Path, more: &[&str]| {
        let edits = folder.path().join("edits");
        let arguments =
            ["edit", text(&code), "--model", text(model), "--direction", text(&direction), "--strength", "1"];
        run(&[&arguments[..], more, &["--force", "--device", "cpu", "--out", text(&edits)]].concat())
    };
    let half = folder.path().join("half.safetensors");
    done(&["convert", text(&model), text(&half), "--dtype", "bf16"]);
    for model in [&model, &half] {
        let ran = edit(model, &[]);
        assert!(ran.code == Some(0) && ran.stderr.contains("relative of the model's generator"), "{ran:?}");
    }
    // Another generator of the same shape takes neither, unless it is told to.
    let other = folder.path().join("other.safetensors");
    let mut archive = swinstyle_weights::Archive::read(&model).unwrap();
    let mut header = archive.header().unwrap().unwrap();
    header.config["lineage"] = serde_json::json!(["a stranger"]);
    archive.set_header(&header);
    archive.write(&other, swinstyle_weights::FloatDtype::F32).unwrap();
    let refused = edit(&other, &[]);
    assert!(refused.code == Some(1) && refused.stderr.contains("--any-generator"), "{refused:?}");
    let taken = edit(&other, &["--any-generator"]);
    assert!(taken.code == Some(0) && !taken.stderr.contains("relative"), "{taken:?}");
}
