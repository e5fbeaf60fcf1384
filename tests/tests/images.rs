//! `swinstyle demo`, `invert` and `generate` with the shipped model.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::{run, text};

/// Six portraits of 48 px, another size than the model's.
fn portraits(folder: &Path) -> Vec<PathBuf> {
    let out = folder.join("portraits");
    let ran = run(&["data", "avatars", "--size", "48", "--count", "6", "--split", "heldout", "--out", text(&out)]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    (0..6).map(|i| out.join(format!("images/{i:06}.png"))).collect()
}

/// Width and height of a PNG file.
fn size(file: &Path) -> [u32; 2] {
    let bytes = fs::read(file).unwrap();
    [16, 20].map(|i| u32::from_be_bytes(bytes[i..i + 4].try_into().unwrap()))
}

#[test]
fn the_demo_beats_the_mean_image_and_writes_grid_page_and_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("demo");
    let ran = run(&["demo", "--images", "12", "--out", text(&out), "--device", "cpu", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let metrics: serde_json::Value = serde_json::from_slice(&fs::read(out.join("metrics.json")).unwrap()).unwrap();
    assert_eq!(metrics, ran.document());
    for key in ["psnr", "mse", "ssim", "baseline_mean_image_psnr", "ms_per_image"] {
        assert!(metrics[key].as_f64().is_some_and(f64::is_finite), "{key}: {metrics}");
    }
    assert_eq!((metrics["images"].as_u64(), metrics["device"].as_str()), (Some(12), Some("cpu")));
    assert!(metrics["psnr"].as_f64() > metrics["baseline_mean_image_psnr"].as_f64(), "{metrics}");
    // No map says a colour: what is not seen is far off, what is seen is not.
    assert!(metrics["face_from_segmentation_psnr"].as_f64() > Some(12.0), "{metrics}");
    let page = fs::read_to_string(out.join("index.html")).unwrap();
    for part in ["name=\"viewport\"", "prefers-color-scheme: dark", "swinstyle edit"] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(page.matches(" src=\"").count(), page.matches(" src=\"data:").count(), "the page is one file");
    // Two triples of 128 px beside each other, six below each other, with headings, names and margins.
    assert_eq!(size(&out.join("grid.png")), [2 * (3 * 132 - 4) + 3 * 16, 6 * (128 + 20 + 8) - 8 + 20 + 32]);
    for picture in ["grid.png", "edited.png", "faces.png"] {
        assert!(fs::read(out.join(picture)).unwrap().starts_with(b"\x89PNG"), "{picture}");
    }
    assert!(fs::read_to_string(out.join("index.html")).unwrap().contains("src=\"data:image/png;base64,"));
}

#[test]
fn a_batch_with_bad_files_does_the_good_ones_and_lists_the_bad() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = portraits(folder.path());
    let good = files.len();
    let whole = fs::read(&files[0]).unwrap();
    let bad: [(&str, &[u8]); 3] =
        [("truncated.png", &whole[..whole.len() / 2]), ("empty.png", b""), ("letter.jpg", b"Dear Sir or Madam")];
    for (name, bytes) in bad {
        files.insert(1, folder.path().join(name));
        fs::write(&files[1], bytes).unwrap();
    }
    files.push(folder.path().join("absent.png"));
    let out = folder.path().join("out");
    let mut arguments = vec!["invert", "--out", text(&out), "--device", "cpu", "--json"];
    arguments.extend(files.iter().map(|f| text(f)));
    let ran = run(&arguments);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let document = ran.document();
    assert_eq!(document["images"].as_array().unwrap().len(), good);
    assert_eq!(document["failed"].as_array().unwrap().len(), 4);
    for name in ["truncated.png", "empty.png", "letter.jpg", "absent.png"] {
        assert!(ran.stderr.lines().any(|l| l.starts_with("error: ") && l.contains(name)), "{name}: {ran:?}");
    }
    for image in document["images"].as_array().unwrap() {
        for key in ["reconstruction", "code"] {
            assert!(Path::new(image[key].as_str().unwrap()).is_file(), "{image}");
        }
    }
    assert!(out.join("grid.png").is_file());
}

#[test]
fn a_seed_gives_the_same_image_alone_and_among_others() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    for (seeds, out) in [("0-9", &a), ("7", &b)] {
        let ran = run(&["generate", "--seeds", seeds, "--out", text(out), "--device", "cpu"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    assert_eq!(fs::read(a.join("seed0007.png")).unwrap(), fs::read(b.join("seed0007.png")).unwrap());
}

#[test]
fn an_encoder_of_one_pass_does_not_refine() {
    let folder = tempfile::tempdir().unwrap();
    let files = portraits(folder.path());
    let out = folder.path().join("out");
    let ran = run(&["invert", text(&files[0]), "--refine", "3", "--out", text(&out), "--device", "cpu"]);
    ran.assert_one_error_line(&["one pass", "refine_steps"]);
}

#[test]
fn files_that_are_no_models_are_refused_by_name_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/avatar64.safetensors");
    let whole = fs::read(shipped).unwrap();
    let cases: [(&str, &[u8], &str); 4] = [
        ("empty.safetensors", b"", "empty"),
        ("cut.safetensors", &whole[..whole.len() - 100], "cut.safetensors"),
        ("page.pt", b"<!DOCTYPE html><html></html>", "page.pt"),
        ("noise.pt", b"\x01\x02\x03\x04\x05\x06\x07\x08\x09", "noise.pt"),
    ];
    for (name, bytes, said) in cases {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let ran = run(&["generate", "--model", text(&path), "--out", text(&out), "--device", "cpu"]);
        ran.assert_one_error_line(&[said]);
    }
    assert!(!out.exists());
    let file = folder.path().join("taken");
    fs::write(&file, "a file").unwrap();
    run(&["generate", "--out", text(&file), "--device", "cpu"]).assert_one_error_line(&["taken"]);
}
