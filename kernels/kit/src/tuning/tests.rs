//! Look-up, nearest key, staleness and bad entries, on a made-up kernel.

use serde::Deserialize;
use swinstyle_tensor::Result as Outcome;

use super::*;
use crate::Problem;

/// Rows of some length, taken `width` at a time.
#[derive(Debug, Clone, Copy)]
struct Rows(usize);

impl Problem for Rows {
    fn validate(&self) -> Outcome<()> {
        Ok(())
    }
    fn flops(&self) -> u64 {
        0
    }
    fn min_bytes(&self, _: usize) -> u64 {
        0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Width {
    width: usize,
}

impl Blueprint for Width {
    type Problem = Rows;
    fn default_for(_: &Rows) -> Self {
        Self { width: 1 }
    }
    fn space(rows: &Rows, _: &Limits) -> Vec<Self> {
        [1, 2, 4].into_iter().filter(|w| rows.0.is_multiple_of(*w)).map(|width| Self { width }).collect()
    }
}

impl Tunable for Width {
    fn key(rows: &Rows) -> Key {
        Key::new("rows", &[rows.0])
    }
}

fn entry(size: u64, blueprint: &str) -> Entry {
    let text = format!(
        "kernel = 'rows'\nroom = 'rows'\nclass = 'rows'\nsizes = [{size}]\ncase = 'x'\nmedian_us = 1.0\nspread_us = 0.1\ndefault_us = 2.0\nblueprint = {blueprint}\n"
    );
    toml::from_str(&text).unwrap()
}

fn table(entries: Vec<Entry>) -> Table {
    let code = BTreeMap::from([("rows".to_string(), "1".to_string())]);
    let text = |s: &str| s.to_string();
    Table {
        device: text("a"),
        driver: text("b"),
        date: text("c"),
        commit: text("d"),
        command: text("e"),
        clock: text("f"),
        code,
        entries,
    }
}

use std::collections::BTreeMap;

fn width(rows: usize) -> (usize, Source) {
    let rows = Rows(rows);
    let (chosen, points) = listing(|| choose(Place::Host, "rows", &rows, &Limits::WEBGPU, Width::default_for(&rows)));
    (chosen.width, points[0].source)
}

/// One test, because a process has one table.
#[test]
fn launches_take_the_tuned_the_nearest_or_the_default_blueprint_and_name_illegal_ones() {
    assert_eq!(width(8), (1, Source::Default));
    install(Place::Host, Some(table(vec![entry(8, "{ width = 2 }"), entry(64, "{ width = 4 }")])));
    assert_eq!(width(8), (2, Source::Tuned));
    assert_eq!(width(64), (4, Source::Tuned));
    assert_eq!(width(48), (4, Source::Nearest));
    // 4 does not divide 50, so the next key's 2 is taken; 49 has none.
    assert_eq!(width(50), (2, Source::Nearest));
    assert_eq!(width(49), (1, Source::Default));
    assert!(take_notes().is_empty(), "what does not fit another problem is no fault");

    // A GPU looks into another table.
    let rows = Rows(8);
    let gpu = choose(Place::Cube, "rows", &rows, &Limits::WEBGPU, Width::default_for(&rows));
    assert_eq!(gpu.width, 1);

    let (_, points) = listing(|| choose(Place::Host, "rows", &rows, &Limits::WEBGPU, Width::default_for(&rows)));
    assert_eq!(points[0].candidates.len(), 3);
    let forced = forcing(&points[0], &points[0].candidates[2], || width(8));
    assert_eq!(forced, (4, Source::Forced));
    assert_eq!(width(8), (2, Source::Tuned));

    for bad in ["{ width = 3 }", "{ height = 2 }", "7"] {
        install(Place::Host, Some(table(vec![entry(8, bad)])));
        assert_eq!(width(8), (1, Source::Default), "{bad}");
        width(8);
        let notes = take_notes();
        assert_eq!(notes.len(), 1, "said once: {notes:?}");
        assert!(notes[0].contains("not legal"), "{notes:?}");
    }
    // What no problem's blueprint can be is a fault beside another key, too; what is not legal here alone is none.
    install(Place::Host, Some(table(vec![entry(8, "{ height = 2 }"), entry(64, "{ width = 4 }")])));
    assert_eq!((width(12), width(50)), ((4, Source::Nearest), (1, Source::Default)));
    let notes = take_notes();
    assert!(notes.len() == 1 && notes[0].contains("height 2"), "{notes:?}");

    install(Place::Host, None);
    assert_eq!(width(8), (1, Source::Default));
}

#[test]
fn every_number_of_a_table_has_a_range_and_what_is_out_of_it_is_named() {
    let text = table(vec![entry(8, "{ width = 2 }")]).text().unwrap();
    let text = text.replace("[entry.blueprint]", "won = [13, 15]\n\n[entry.blueprint]");
    assert!(Table::parse(&text).unwrap().take_faults().is_empty());
    for (from, to, said) in [
        ("median_us = 1.0", "median_us = -1.0", "median_us is -1"),
        ("median_us = 1.0", "median_us = nan", "median_us is NaN"),
        ("spread_us = 0.1", "spread_us = inf", "spread_us is inf"),
        ("default_us = 2.0", "default_us = 1e300", "default_us is 1"),
        ("sizes = [8]", "sizes = [0]", "sizes is 0, not from 1"),
        ("sizes = [8]", "sizes = [9223372036854775807]", "9223372036854775807"),
        ("sizes = [8]", "sizes = []", "sizes has 0 numbers"),
        ("won = [13, 15]", "won = [16, 15]", "won is 16 of 15"),
        ("width = 2", "width = -2", "blueprint.width is -2, not a whole number from 0"),
        ("width = 2", "width = 1000000000", "blueprint.width is 1000000000"),
        ("width = 2", "width = 2.5", "blueprint.width is 2.5"),
        ("width = 2", "width = { a = [1, 99999] }", "blueprint.width.a is 99999"),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text, "{from}");
        let mut read = Table::parse(&changed).unwrap();
        let faults = read.take_faults();
        assert!(read.entries.is_empty() && faults.len() == 1, "{to}: {faults:?}");
        assert!(faults[0].starts_with("entry 1 (rows rows") && faults[0].contains(said), "{to}: {faults:?}");
    }
}

#[test]
fn tables_survive_their_file_and_broken_ones_name_the_line() {
    let mut whole = table(vec![entry(8, "{ width = 2 }")]);
    whole.entries[0].lost.push(Lost { median_us: 3.5, spread_us: 0.5, blueprint: Value::Integer(1) });
    whole.entries[0].dropped.push(Dropped { reason: "does not compile".into(), blueprint: Value::Integer(2) });
    let text = whole.text().unwrap();
    assert_eq!(Table::parse(&text).unwrap(), whole);
    let error = Table::parse(&text.replace("median_us = 1.0", "median_us = fast")).unwrap_err();
    assert!(error.starts_with("line ") && error.len() < 200, "{error}");
    assert!(Table::parse("").is_err());
}

#[test]
fn a_room_whose_code_changed_is_stale() {
    let table = table(vec![entry(8, "{ width = 2 }")]);
    let code = |print: &str| BTreeMap::from([("rows".to_string(), print.to_string())]);
    assert!(table.stale(&code("1")).is_empty());
    assert_eq!(table.stale(&code("2")), ["rows"]);
}
