//! `swinstyle kernels tune`: the table that it writes is what the next run uses, and bad tables are ignored with a line.

use std::{fs, path::Path};

use crate::support::{Ran, swinstyle, text};

const CASE: &str = "query_attention/32x32x192_w8/fwd";

/// Runs the program on the cpu with the tables of a folder.
fn with_tables(folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = swinstyle();
    let output = command.env("SWINSTYLE_TUNING", folder).args(arguments).args(["--device", "cpu"]).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The blueprints that the bench says it ran with.
fn blueprints(folder: &Path) -> (Vec<String>, String) {
    let ran = with_tables(folder, &["kernels", "bench", "--case", CASE, "--runs", "1", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let line: serde_json::Value = serde_json::from_str(ran.stdout.lines().next().unwrap()).unwrap();
    let names = line["blueprints"].as_array().unwrap().iter().map(|b| b.as_str().unwrap().to_string());
    (names.collect(), ran.stderr)
}

#[test]
fn the_next_run_uses_the_table_that_tuning_wrote_and_bad_tables_are_ignored_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    assert!(blueprints(here).0.is_empty(), "nothing is tuned yet");

    let tune = ["kernels", "tune", "--quick", "--kernel", "query_attention", "--out", text(here), "--json"];
    let ran = with_tables(here, &tune);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let file = ran.document()["table"].as_str().unwrap().to_string();
    assert!(ran.document()["tuned"].as_u64().unwrap() >= 1, "{ran:?}");
    let table = fs::read_to_string(&file).unwrap();
    for part in ["median_us", "spread_us", "default_us", "[[entry.lost]]", "commit", "driver", "wall clock"] {
        assert!(table.contains(part), "{part} is not in {table}");
    }

    // Whichever won here, the run must follow the table.
    for block in [16, 32] {
        let mut lines = String::new();
        let mut lost = false;
        for line in table.lines() {
            lost = (lost || line.starts_with("[[entry.lost")) && !line.starts_with("[[entry]]");
            let winner = line.starts_with("block = ") && !lost;
            lines += &if winner { format!("block = {block}\n") } else { format!("{line}\n") };
        }
        fs::write(&file, lines).unwrap();
        let (names, _) = blueprints(here);
        assert_eq!(
            names,
            [format!("query_attention: block {block} (tuned)")],
            "{}",
            fs::read_to_string(&file).unwrap()
        );
    }
    let doctor = with_tables(here, &["doctor", "--json"]);
    assert!(doctor.stdout.contains("tuned by"), "{doctor:?}");

    // Resuming finds everything done.
    fs::write(&file, &table).unwrap();
    let resumed = with_tables(here, &[&tune[..], &["--resume"]].concat());
    assert_eq!(resumed.document()["tuned"].as_u64(), Some(0), "{resumed:?}");

    let device = table.lines().find(|l| l.starts_with("device = ")).unwrap();
    for (bad, said) in [
        (table.replace(device, "device = \"cpu: another\""), "cpu: another"),
        (table.replace("median_us = ", "median_us = about "), "line "),
        (table.replace("query-attention = \"", "query-attention = \"0"), "query-attention"),
    ] {
        fs::write(&file, bad).unwrap();
        let (names, stderr) = blueprints(here);
        assert!(names.is_empty(), "{names:?}");
        let notes: Vec<&str> = stderr.lines().filter(|l| l.starts_with("tuning: ")).collect();
        assert!(notes.len() == 1 && notes[0].contains(said), "`{said}`: {stderr}");
    }
    // A blueprint that no kernel has is found where it would be launched.
    fs::write(&file, table.replace("block = ", "block = 7")).unwrap();
    let (names, stderr) = blueprints(here);
    assert!(names.is_empty() && stderr.lines().any(|l| l.contains("not legal")), "{names:?} {stderr}");
}

#[test]
fn an_unknown_kernel_names_those_that_there_are() {
    let ran = with_tables(Path::new("."), &["kernels", "tune", "--kernel", "softmax"]);
    ran.assert_one_error_line(&["softmax", "window_attention", "conv2d"]);
}
