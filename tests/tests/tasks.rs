//! `swinstyle segment2face`, `super-resolve`, `invert --explain` and `train --init`: what they write, and what they say of bad input.

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

/// Two held-out portraits with their label maps.
fn portraits(folder: &Path, style: &str) -> PathBuf {
    let out = folder.join(style);
    let arguments =
        ["data", "avatars", "--style", style, "--count", "2", "--split", "heldout", "--masks", "--seed", "7"];
    done(&[&arguments[..], &["--out", text(&out)]].concat());
    out
}

fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets").join(name)
}

fn image_of(path: &Path) -> image::RgbImage {
    image::open(path).unwrap().to_rgb8()
}

#[test]
fn a_label_map_gets_several_faces_that_share_what_the_map_says() {
    let folder = tempfile::tempdir().unwrap();
    let set = portraits(folder.path(), "avataaars");
    let map = set.join("masks/000000.png");
    let out = folder.path().join("faces");
    let faces = |more: &[&str]| {
        done(&[&["segment2face", text(&map), "--samples", "3", "--out", text(&out)], more].concat());
        [1, 2, 3].map(|i| image_of(&out.join(format!("000000-{i}.png"))).into_raw())
    };
    let first = faces(&[]);
    assert!(first[0] != first[1] && first[1] != first[2]);
    assert!(faces(&[]) == first, "the same seed gives the same faces");
    let other = faces(&["--seed", "5"]);
    assert!(other[0] == first[0] && other[1] != first[1], "the first is the encoder's own, the others are drawn");
    assert!(out.join("grid.png").is_file());
    // With no layer left to the encoder the map has no say: all maps get the same second face.
    let all = folder.path().join("all");
    let second = set.join("masks/000001.png");
    let arguments =
        ["segment2face", text(&map), text(&second), "--mix-layers", "0-9", "--samples", "2", "--out", text(&all)];
    done(&arguments);
    assert!(image_of(&all.join("000000-2.png")) == image_of(&all.join("000001-2.png")));
    // The codes are codes: `mix` reads them.
    let code = out.join("000000-1.safetensors");
    let mixed = folder.path().join("mixed");
    done(&["mix", "--coarse", text(&code), "--fine", "seed:1", "--layers", "5-9", "--out", text(&mixed)]);
}

#[test]
fn maps_of_other_labels_and_models_that_read_no_maps_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let set = portraits(folder.path(), "adventurer");
    let out = folder.path().join("out");
    let fail = |arguments: &[&str], parts: &[&str]| {
        run(&[arguments, &["--device", "cpu", "--out", text(&out)]].concat()).assert_one_error_line(parts);
    };
    let unknown = folder.path().join("unknown.png");
    image::GrayImage::from_pixel(64, 64, image::Luma([77])).save(&unknown).unwrap();
    fail(&["segment2face", text(&unknown)], &["unknown.png", "label 77", "1 skin"]);
    // What the adventurer wears on the ears no avataaar does.
    let earrings = folder.path().join("earrings.png");
    let color = image_of(&set.join("masks/000000.png"));
    let mut map = image::RgbImage::from_pixel(64, 64, *color.get_pixel(0, 0));
    map.put_pixel(9, 4, image::Rgb([1, 2, 3]));
    map.save(&earrings).unwrap();
    fail(&["segment2face", text(&earrings)], &["earrings.png", "#010203", "(9, 4)", "1 skin"]);
    let shipped = asset("avatar64.safetensors");
    fail(&["segment2face", text(&unknown), "--model", text(&shipped)], &["avatar64.safetensors", "label maps"]);
    let tiny = golden().join("checkpoints/stylegan2_tiny_64px.safetensors");
    fail(&["segment2face", text(&unknown), "--generator", text(&tiny)], &["segmentation", "another generator"]);
    assert!(!out.exists());
}

#[test]
fn small_images_are_enlarged_and_a_factor_measures_it() {
    let folder = tempfile::tempdir().unwrap();
    let set = portraits(folder.path(), "avataaars");
    let file = set.join("images/000000.png");
    let out = folder.path().join("large");
    let psnr = |factor: &str| {
        let document = done(&["super-resolve", text(&file), "--factor", factor, "--samples", "2", "--out", text(&out)]);
        document["images"][0]["psnr"].as_f64().unwrap()
    };
    let (little, much) = (psnr("2"), psnr("16"));
    assert!(little > much, "{little} {much}");
    assert!(image_of(&out.join("000000-1.png")) != image_of(&out.join("000000-2.png")));
    // A file that is small already.
    let small = folder.path().join("small.png");
    image::imageops::thumbnail(&image_of(&file), 16, 16).save(&small).unwrap();
    let document = done(&["super-resolve", text(&small), "--samples", "1", "--out", text(&out)]);
    assert!(document["images"][0].get("psnr").is_none());
    assert_eq!(image_of(&out.join("small-1.png")).dimensions(), (64, 64));
    let usage = run(&["super-resolve", text(&small), "--factor", "40", "--out", text(&out)]);
    assert_eq!((usage.code, usage.stderr.contains("from 1 to 32")), (Some(2), true), "{usage:?}");
}

#[test]
fn explaining_an_inversion_writes_a_sheet_of_maps_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let set = portraits(folder.path(), "avataaars");
    let out = folder.path().join("out");
    let file = set.join("images/000001.png");
    done(&["invert", text(&file), "--explain", "--out", text(&out)]);
    let sheet = image_of(&out.join("000001-attention.png"));
    // Three levels, six heads a row, two blocks.
    assert!(sheet.width() > 12 * 128 && sheet.height() > 4 * 128, "{:?}", sheet.dimensions());
    let without = folder.path().join("without");
    done(&["invert", text(&file), "--out", text(&without)]);
    assert!(!without.join("000001-attention.png").exists());
    assert!(
        fs::read(out.join("000001-inverted.png")).unwrap() == fs::read(without.join("000001-inverted.png")).unwrap()
    );
}

#[test]
fn an_encoder_alone_is_smaller_and_works_with_its_own_generator_only() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = asset("avatar64.safetensors");
    let encoder = folder.path().join("encoder.safetensors");
    done(&["convert", text(&shipped), text(&encoder), "--encoder-only"]);
    assert!(fs::metadata(&encoder).unwrap().len() < fs::metadata(&shipped).unwrap().len());
    let set = portraits(folder.path(), "avataaars");
    let file = set.join("images/000000.png");
    let answer = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let arguments = ["super-resolve", text(&file), "--factor", "2", "--samples", "1", "--out", text(&out)];
        done(&[&arguments[..], more].concat());
        image_of(&out.join("000000-1.png"))
    };
    assert!(answer("whole", &["--model", text(&shipped)]) == answer("part", &["--model", text(&encoder)]));
    let ran = run(&["invert", text(&file), "--model", text(&encoder), "--out", "never"]);
    ran.assert_one_error_line(&["encoder.safetensors", "no generator"]);
}

#[test]
fn a_start_that_does_not_fit_is_one_line_with_the_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let tiny = golden().join("checkpoints/stylegan2_tiny_64px.safetensors");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/toon-head-cpu-generator.toml");
    let arguments = ["train", "generator", "--config", text(&config), "--init", text(&tiny), "--out", text(&out)];
    run(&[&arguments[..], &["--device", "cpu"]].concat())
        .assert_one_error_line(&["stylegan2_tiny_64px.safetensors", "`generator."]);
    assert!(!out.exists());
}
