//! `swinstyle ablate`: rows trained, compared, skipped when they are done, and refused when they changed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::{Ran, run, text};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Two rows of two steps each.
fn config(folder: &Path, images: u64) -> PathBuf {
    let text = format!(
        r#"
generator = '{}'
base = '{}'
set = ["run.images={images}", "run.batch=4", "run.log_steps=1", "run.sample_images=1000", "train_decoder=false", "data.count=60",
       "model.backbone.dims=[12,12,12]", "model.backbone.depths=[1,1,1]", "model.map2style.width=8", "model.map2style.heads=1"]
seeds = [1, 2]
heldout = {{ seed = 5, images = 4 }}
classifier = {{ images = 64, batch = 16, learning_rate = 1e-3, width = 4, features = 8 }}

[[rows]]
id = "swin"
name = "Swin"

[[rows]]
id = "psp"
name = "pSp"
after = "swin"
set = ["model.trunk=ir-se", "model.map2style.head=convolution"]
"#,
        repository("assets/avatar64-generator.safetensors").display(),
        repository("configs/avatar64-cpu-encoder.toml").display(),
    );
    let path = folder.join("ablation.toml");
    fs::write(&path, text).unwrap();
    path
}

fn ablate(config: &Path, out: &Path, more: &[&str]) -> Ran {
    run(&[&["ablate", "--config", text(config), "--out", text(out), "--device", "cpu"], more].concat())
}

#[test]
fn rows_are_trained_once_and_put_into_a_table_with_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (config(folder.path(), 8), folder.path().join("out"));
    let first = ablate(&file, &out, &["--rows", "swin"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.stdout.contains("| Swin (2 seeds)") && !first.stdout.contains("pSp"), "{first:?}");
    let ran = ablate(&file, &out, &["--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stderr.matches("training the encoder").count(), 2, "only pSp's rows are left: {ran:?}");
    let lines: Vec<serde_json::Value> = ran.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let stopped = lines.iter().filter(|l| l["event"] == "stopped" && l["row"] == "psp" && l["reason"] == "finished");
    assert_eq!(stopped.count(), 2, "{ran:?}");
    let rows = lines.last().unwrap()["rows"].as_array().unwrap().clone();
    assert_eq!(rows.len(), 4);
    for row in &rows {
        let m = &row["measures"];
        for key in ["mse", "psnr", "ssim", "feature_distance", "frechet"] {
            assert!(m[key].as_f64().is_some_and(|v| v.is_finite() && v > 0.0), "{key}: {m}");
        }
        assert!(row["ms_per_image"].as_f64().unwrap() > 0.0);
        assert!((0.0..=1.0).contains(&m["agreement"].as_f64().unwrap()));
        assert_eq!(row["curve"].as_array().unwrap().len(), 2);
    }
    for name in ["ablation.md", "ablation.json", "curves.svg", "grid.png", "index.html"] {
        assert!(fs::metadata(out.join(name)).unwrap().len() > 100, "{name}");
    }
    let again = ablate(&file, &out, &[]);
    assert_eq!((again.code, again.stderr.contains("training the encoder")), (Some(0), false), "{again:?}");
    assert!(again.stdout.contains("pSp (2 seeds)"), "{again:?}");
    // A result that was measured in another way is measured anew; the trained encoder stands.
    let result = out.join("rows/swin/seed-1/result.json");
    let read = || serde_json::from_slice::<serde_json::Value>(&fs::read(&result).unwrap()).unwrap();
    let (now, mut old) = (read(), read());
    assert!(old.as_object_mut().unwrap().remove("measured_by").is_some());
    old["measures"]["ssim"] = 9.0.into();
    fs::write(&result, old.to_string()).unwrap();
    let anew = ablate(&file, &out, &["--rows", "swin"]);
    assert_eq!((anew.code, anew.stderr.contains("training the encoder")), (Some(0), false), "{anew:?}");
    assert_eq!(now, read());
    // Another length is another comparison: nothing is mixed up, nothing is lost.
    let before = fs::read(out.join("ablation.json")).unwrap();
    ablate(&config(folder.path(), 16), &out, &[]).assert_last_error_line(&["rows/swin/seed-1", "--out"]);
    assert_eq!(before, fs::read(out.join("ablation.json")).unwrap());
}

#[test]
fn an_interrupted_row_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (config(folder.path(), 8), folder.path().join("out"));
    // What a kill before the first checkpoint leaves.
    let begun = out.join("rows/swin/seed-1");
    fs::create_dir_all(begun.join("checkpoints")).unwrap();
    fs::write(begun.join("config.json"), "{}").unwrap();
    let stopped = ablate(&file, &out, &["--rows", "swin", "--time-limit", "0s"]);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert!(stopped.stderr.contains("the same command goes on"), "{stopped:?}");
    let ran = ablate(&file, &out, &["--rows", "swin"]);
    assert!(ran.stderr.contains("resumed from") && ran.stdout.contains("Swin"), "{ran:?}");
}

#[test]
fn what_makes_no_ablation_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (config(folder.path(), 8), folder.path().join("out"));
    ablate(&file, &out, &["--rows", "swim"]).assert_one_error_line(&["`swim`", "swin, psp"]);
    ablate(&file, &out, &["--set", "heldout.images=1"]).assert_one_error_line(&["heldout.images"]);
    ablate(&file, &out, &["--set", "set=['run.bacth=3']"]).assert_one_error_line(&["row `swin`", "bacth"]);
    ablate(&file, &out, &["--set", "set=['loss.adversarial=1.0']"]).assert_one_error_line(&[
        "swin",
        "override `loss.adversarial=1.0`",
        "[discriminator]",
    ]);
    let broken = fs::read_to_string(&file).unwrap().replace("after = \"swin\"", "after = \"swim\"");
    fs::write(&file, broken).unwrap();
    ablate(&file, &out, &[]).assert_one_error_line(&["ablation.toml", "swim"]);
    assert!(!out.exists());
}
