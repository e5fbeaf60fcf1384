//! `swinstyle config`: presets, keys, schema, and the judgement of a file.

use std::fs;

use crate::support::{run, text};

#[test]
fn presets_are_listed_shown_and_right() {
    let listed = run(&["config", "list", "--json"]);
    let presets = listed.document();
    assert!(presets.as_array().unwrap().len() >= 16, "{listed:?}");
    let folder = tempfile::tempdir().unwrap();
    for preset in presets.as_array().unwrap() {
        let name = preset["name"].as_str().unwrap();
        // An ablation's paths are relative to its file.
        if preset["kind"] == "ablation" {
            continue;
        }
        let shown = run(&["config", "show", name]);
        let file = folder.path().join(format!("{name}.toml"));
        fs::write(&file, &shown.stdout).unwrap();
        let checked = run(&["config", "check", text(&file), "--json", "--device", "cpu"]);
        assert!(checked.code == Some(0) && checked.document()["kind"] == preset["kind"], "{checked:?}");
    }
    let wrong = run(&["config", "show", "avatar65"]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("avatar64-cpu-generator"), "{wrong:?}");
}

#[cfg(unix)]
#[test]
fn an_endless_file_and_one_that_is_no_text_are_no_configurations() {
    run(&["config", "check", "/dev/zero"]).assert_one_error_line(&["/dev/zero: is larger than 1 MiB"]);
    let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/example.png");
    run(&["config", "check", picture]).assert_one_error_line(&["example.png: is no text"]);
}

#[test]
fn a_file_is_judged_with_the_line_and_the_range() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    fs::write(&file, "[run]\nbatch = 8\n\n[augment]\ntarget = nan\n").unwrap();
    run(&["config", "check", text(&file)]).assert_one_error_line(&["mine.toml:5: augment.target: nan", "from -1 to 1"]);
    fs::write(&file, "[run]\nbatch = 8\n").unwrap();
    let ran = run(&["config", "check", text(&file), "--device", "cpu"]);
    assert!(ran.code == Some(0) && ran.stdout.contains("right, for swinstyle train generator"), "{ran:?}");
}

#[test]
fn keys_and_schema_are_printed() {
    let keys = run(&["config", "keys", "encoder", "--json"]).document();
    let batch = keys.as_array().unwrap().iter().find(|k| k["key"] == "run.batch").unwrap().clone();
    assert_eq!(
        (batch["default"].as_str(), batch["takes"].as_str()),
        (Some("16"), Some("a whole number from 1 to 65,536"))
    );
    let schema = run(&["config", "schema", "generator", "--json"]).document();
    assert!(schema["properties"]["augment"]["properties"]["target"]["minimum"] == -1.0, "{schema}");
}
