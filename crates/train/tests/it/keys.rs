//! The table of keys: every value out of its range is refused by name, defaults are those of the code, files may be small.

use std::{fs, path::Path};

use swinstyle_tensor::Device;
use swinstyle_train::{
    EncoderTrainer, GeneratorTrainer, TrainError,
    ablation::AblationConfig,
    config::{
        ConfigFile, EncoderTraining, GeneratorTraining, Kind, PRESETS, Source,
        keys::{Absent, Key, OPTIONAL_SECTIONS},
        parse, schema,
    },
};
use toml::{Table, Value};

/// Values that some key or other must refuse.
const ODD: [&str; 22] = [
    "-1",
    "0",
    "1",
    "3",
    "-0.5",
    "0.5",
    "1.5",
    "nan",
    "-nan",
    "inf",
    "-inf",
    "1e300",
    "-9223372036854775808",
    "65536",
    "4294967296",
    "9223372036854775807",
    "true",
    "\"many\"",
    "\"\"",
    "[]",
    "[0, -1, 3]",
    "{ a = 1 }",
];

/// What an ablation needs beside the key in question.
const ABLATION: &str = "generator = 'g'\nbase = 'b'\nrows = [{ id = 'a', name = 'A' }]";

/// Reads and judges a configuration with one override, as a training does before it allocates anything.
fn judge(kind: Kind, overrides: &[String]) -> Result<(), TrainError> {
    match kind {
        Kind::Generator => {
            let config: GeneratorTraining = parse("", "c.toml", overrides)?;
            GeneratorTrainer::check(&config, Device::Cpu).map(drop)
        }
        Kind::Encoder => {
            let config: EncoderTraining = parse("", "c.toml", overrides)?;
            EncoderTrainer::check_alone(&config).map(drop)
        }
        Kind::Ablation => parse::<AblationConfig>(ABLATION, "c.toml", overrides).map(drop),
    }
}

/// The choice that a key belongs to, and the override of the key.
fn overrides(key: &Key, value: &str) -> Vec<String> {
    let choice = key.only.map(|(tag, value)| format!("{tag}={value}"));
    choice.into_iter().chain([format!("{}={value}", key.path)]).collect()
}

#[test]
fn every_key_refuses_by_name_what_is_not_in_its_range() {
    let (mut refused, mut tried) = (0, 0);
    for kind in Kind::ALL {
        for key in kind.keys() {
            for text in ODD {
                let value = format!("v = {text}").parse::<Table>().unwrap()["v"].clone();
                let outcome = judge(kind, &overrides(key, text));
                tried += 1;
                if key.values.take(&value) {
                    continue;
                }
                refused += 1;
                let error = outcome.map_err(|e| e.to_string()).expect_err(&format!("{kind}: {}={text}", key.path));
                assert!(error.contains(key.name()) && !error.contains('\n'), "{}={text}: {error}", key.path);
            }
        }
    }
    assert!(tried > 2000 && refused > tried / 2, "{refused} of {tried}");
}

#[test]
fn values_that_once_aborted_or_meant_nothing_are_refused_with_their_range() {
    let generator = [
        ("run.batch=4294967296", "a whole number from 1 to 65,536"),
        ("model.mapping_layers=4294967296", "from 0 to 64"),
        ("model.mapping_layers=9223372036854775807", "from 0 to 64"),
        ("model.mapping_lr_multiplier=1e9", "above 0 to 100"),
        ("loss.path_length_weight=nan", "a number from 0"),
        ("loss.r1_gamma=-1", "-1 is not a number from 0"),
        ("loss.ema_half_life=nan", "a number from 0"),
        ("loss.ema_half_life=-1", "a number from 0"),
        ("loss.ema_half_life=inf", "inf is not a number from 0"),
        ("optimizer.epsilon=-1", "above 0 to 1"),
        ("optimizer.epsilon=inf", "above 0 to 1"),
        ("model.channel_base=0", "from 1"),
        ("model.channel_max=0", "from 1"),
        ("model.stddev_group=0", "from 1"),
        ("augment.fixed_p=1.5", "a number from 0 to 1"),
    ];
    let encoder = [
        ("loss.l2=-1", "a number from 0"),
        ("loss.perceptual=nan", "a number from 0"),
        ("discriminator.momentum=nan", "a number from 0 to 1"),
        ("model.backbone.dims=[48, 96, 4294967296]", "from 1 to 65,536"),
        ("model.backbone.windows=[4, [4, 0], 8]", "from 1 to 256"),
        ("loss={ l2 = 0.0, perceptual = 0.0 }", "every weight is 0"),
    ];
    for (kind, cases) in [(Kind::Generator, &generator[..]), (Kind::Encoder, &encoder)] {
        for (o, expected) in cases {
            let error = judge(kind, &[o.to_string()]).expect_err(o).to_string();
            let (key, _) = o.split_once('=').unwrap();
            assert!(error.contains(expected) && error.contains(key), "{o}: {error}");
        }
    }
}

#[test]
fn a_network_or_a_batch_that_no_machine_holds_is_refused_with_the_numbers() {
    let large = |o: &[&str]| judge(Kind::Generator, &o.iter().map(|s| s.to_string()).collect::<Vec<_>>());
    let error = large(&["run.batch=65536", "model.size=1024"]).unwrap_err().to_string();
    assert!(error.contains("run.batch") && error.contains("GiB") && error.contains("free"), "{error}");
    let error = large(&["model.channel_max=65536", "model.channel_base=16777216"]).unwrap_err().to_string();
    assert!(error.contains("model") && error.contains("GiB"), "{error}");
}

/// The configuration of an empty file, as a table.
fn defaults<C: ConfigFile>(text: &str, more: &[String]) -> Table {
    Table::try_from(parse::<C>(text, "c.toml", more).unwrap()).unwrap()
}

fn get<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        Some((section, rest)) => get(table.get(section)?.as_table()?, rest),
        None => table.get(path),
    }
}

fn without(table: &Table, path: &str) -> Table {
    let mut table = table.clone();
    match path.split_once('.') {
        Some((section, rest)) => {
            let inner = without(table[section].as_table().unwrap(), rest);
            table.insert(section.into(), inner.into());
        }
        None => drop(table.remove(path)),
    }
    table
}

/// The keys of one kind against what the code reads and writes.
fn agrees<C: ConfigFile + PartialEq + std::fmt::Debug>(text: &str, choices: &[&[&str]]) {
    let mut found = std::collections::BTreeSet::new();
    for choice in choices {
        let choice: Vec<String> = choice.iter().map(|s| s.to_string()).collect();
        let full = defaults::<C>(text, &choice);
        let config: C = full.clone().try_into().unwrap();
        for key in C::KIND.keys() {
            let Some(value) = get(&full, key.path) else { continue };
            found.insert(key.path);
            let given = choice.iter().any(|o| o.starts_with(key.path)) || text.contains(key.path);
            let Some(default) = key.default(C::KIND) else { continue };
            if !given && !matches!(key.path, "augment.kind" | "loss.lpips_weights") {
                let default = format!("v = {default}").parse::<Table>().unwrap()["v"].clone();
                assert_eq!(*value, default, "{}", key.path);
            }
            // Where the code has a default of its own, for files of older versions, it is the table's.
            if !given && let Ok(other) = without(&full, key.path).try_into::<C>() {
                assert_eq!(other, config, "{}", key.path);
            }
        }
        // And the code knows no key that the table lacks.
        let error = parse::<C>(&toml::to_string(&full).unwrap(), "c.toml", &[]);
        assert_eq!(error.unwrap(), config);
    }
    for key in C::KIND.keys() {
        let unwritten = matches!(key.absent, Absent::Nothing(_))
            || ["model.trunk", "model.codes", "model.refine_steps", "task.kind"].contains(&key.path);
        assert!(found.contains(key.path) || unwritten, "{} is not in a written configuration", key.path);
    }
}

#[test]
fn the_table_has_the_keys_and_the_defaults_of_the_code() {
    let folder: &[&str] = &["data.source=folder", "data.path=x"];
    agrees::<GeneratorTraining>("", &[&[], folder, &["augment.kind=bgc"]]);
    let parts: &[&str] = &["discriminator.kind=latent", "progressive.start_images=1", "progressive.every_images=2"];
    let small: &[&str] = &["task.kind=super-resolution", "task.min_factor=1", "task.max_factor=2"];
    agrees::<EncoderTraining>("", &[&[], folder, parts, small, &["task.kind=segmentation"]]);
    agrees::<AblationConfig>(ABLATION, &[&[]]);
    for section in OPTIONAL_SECTIONS {
        assert!(Kind::ALL.iter().any(|k| k.keys().any(|key| key.path.starts_with(section))), "{section}");
    }
}

#[test]
fn the_presets_are_the_files_of_the_folder_and_all_of_them_are_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().trim_end_matches(".toml").to_string())
        .collect();
    names.sort();
    assert_eq!(names, PRESETS.iter().map(|p| p.name.to_string()).collect::<Vec<_>>());
    for preset in PRESETS {
        assert_eq!(preset.text, fs::read_to_string(folder.join(format!("{}.toml", preset.name))).unwrap());
        assert!(preset.about().len() > 20, "{}", preset.name);
        let source = preset.source(Vec::new());
        match preset.kind {
            Kind::Generator => drop(source.load::<GeneratorTraining>().unwrap()),
            Kind::Encoder => drop(source.load::<EncoderTraining>().unwrap()),
            Kind::Ablation => drop(source.load::<AblationConfig>().unwrap()),
        }
    }
}

#[test]
fn overrides_build_a_section_key_by_key_and_may_change_the_source_of_the_data() {
    let text = PRESETS.iter().find(|p| p.name == "avatar64-cpu-encoder").unwrap().text;
    let load = |overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
        parse::<EncoderTraining>(text, "e.toml", &overrides)
    };
    let p = load(&["progressive.start_images=8", "progressive.every_images=5"]).unwrap().progressive.unwrap();
    assert_eq!((p.start_images, p.every_images), (8, 5));
    let d = load(&["discriminator.width=9", "discriminator.kind=latent", "loss.adversarial=0.1"]).unwrap();
    assert_eq!(d.discriminator.unwrap().width, 9);
    // The order does not matter, nor what the file says of portraits.
    for order in [["data.source=folder", "data.path=x"], ["data.path=x", "data.source=folder"]] {
        let data = serde_json::to_value(load(&order).unwrap().data).unwrap();
        assert_eq!((data["path"].as_str(), data["flip"].as_bool()), (Some("x"), Some(false)));
    }
    load(&["task.kind=super-resolution", "task.min_factor=1", "task.max_factor=4"]).unwrap();
    for (overrides, parts) in [
        (&["progressive.start_images=8"][..], &["progressive.every_images", "missing"][..]),
        (&["data.source=folder"], &["override `data.source=folder`", "data.path", "missing"]),
        (&["data.source=folder", "data.path=x", "data.count=5"], &["override `data.count=5`", "avatars", "folder"]),
        (&["data={ source = 'folder', path = 'x', memory_mib = -1 }"], &["override `data=", "data.memory_mib: -1"]),
        (&["run=3"], &["override `run=3`", "section"]),
        (&["run.batch"], &["key=value"]),
        (&["run.batch=8", "run.bacth=8"], &["override `run.bacth=8`", "unknown key `bacth`", "batch"]),
        (&["nonsense.deep.key=1"], &["nonsense"]),
    ] {
        let error = load(overrides).unwrap_err().to_string();
        assert!(parts.iter().all(|p| error.contains(p)) && !error.contains('\n'), "{overrides:?}: {error}");
        assert!(!error.contains("e.toml:"), "the file is not at fault: {error}");
    }
    // What the file gets wrong has its line, also where overrides are given.
    let line = text.lines().position(|l| l.starts_with("batch")).unwrap() + 1;
    let wrong = text.replace("batch = 16", "batch = 0");
    let error = parse::<EncoderTraining>(&wrong, "e.toml", &["run.seed=3".into()]).unwrap_err().to_string();
    assert!(error.starts_with(&format!("e.toml:{line}: run.batch: 0 is not")), "{error}");
    parse::<EncoderTraining>(&wrong, "e.toml", &["run.batch=4".into()]).unwrap();
}

#[test]
fn the_file_of_another_command_is_recognised() {
    let text = |name: &str| PRESETS.iter().find(|p| p.name == name).unwrap().text;
    let error = parse::<GeneratorTraining>(text("face256-encoder"), "f.toml", &[]).unwrap_err().to_string();
    assert!(error.contains("f.toml: is an encoder's configuration: swinstyle train encoder"), "{error}");
    let error = parse::<EncoderTraining>(text("avatar64-cpu-generator"), "f.toml", &[]).unwrap_err().to_string();
    assert!(error.contains("is a generator's configuration"), "{error}");
    let error = parse::<EncoderTraining>(text("ablation-smoke"), "f.toml", &[]).unwrap_err().to_string();
    assert!(error.contains("is an ablation's configuration: swinstyle ablate"), "{error}");
    let marked = Source { shown: "f".into(), text: text("avatar64-cpu-generator").into(), overrides: Vec::new() };
    assert!(marked.load::<GeneratorTraining>().is_ok());
}

#[test]
fn the_schema_has_every_key_with_its_bounds() {
    for kind in Kind::ALL {
        let schema = schema(kind);
        for key in kind.keys() {
            let pointer: String = key.path.split('.').map(|part| format!("/properties/{part}")).collect();
            let property = schema.pointer(&pointer).unwrap_or_else(|| panic!("{}", key.path));
            assert!(property["description"].as_str().unwrap().contains(key.meaning), "{}", key.path);
        }
    }
    let batch = schema(Kind::Generator).pointer("/properties/run/properties/batch").unwrap().clone();
    assert_eq!((batch["minimum"].as_u64(), batch["default"].as_u64()), (Some(1), Some(16)));
    let beta = schema(Kind::Encoder).pointer("/properties/optimizer/properties/beta1").unwrap().clone();
    assert_eq!((beta["exclusiveMaximum"].as_f64(), beta["default"].as_f64()), (Some(1.0), Some(0.9)));
}

#[test]
fn the_page_of_all_keys_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = fs::read_to_string(path).unwrap_or_default();
    assert!(
        page.trim_end() == swinstyle_train::config::page().trim_end(),
        "swinstyle config keys --markdown > docs/configuration.md"
    );
}
