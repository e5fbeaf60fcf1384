//! Data sets of portraits on disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use swinstyle_data::ImageFolder;
use swinstyle_data::avatars::{DatasetOptions, PortraitSet, Renderer, Split, Style, Summary, write_dataset};

fn options(out: &Path, count: u64) -> DatasetOptions {
    let (style, split) = ("avataaars".to_owned(), Split::Heldout);
    DatasetOptions { style, size: 32, count, split, masks: true, seed: 7, out: out.to_owned() }
}

fn write(options: &DatasetOptions) -> Summary {
    write_dataset(options, |_| {}).unwrap()
}

/// Every file under a folder with its bytes.
fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => folders.push(path),
                false => drop(files.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap())),
            }
        }
    }
    files
}

#[test]
fn the_same_options_write_the_same_bytes_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for threads in [1, 4] {
        let out = folder.path().join(threads.to_string());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| write(&options(&out, 600)));
        all.push(contents(&out));
    }
    assert!(all[0] == all[1]);
    // 600 pictures, 600 label maps, the manifest and the header; no temporary file is left.
    assert_eq!(all[0].len(), 1202);
}

#[test]
fn the_manifest_says_what_is_drawn_and_which_variants_are_unseen() {
    let folder = tempfile::tempdir().unwrap();
    let mut progress = Vec::new();
    let summary = write_dataset(&options(folder.path(), 300), |done| progress.push(done)).unwrap();
    assert_eq!(progress.last(), Some(&300));
    let manifest = fs::read_to_string(summary.manifest).unwrap();
    let lines: Vec<serde_json::Value> = manifest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 300);
    let unseen = lines.iter().filter(|line| !line["unseen"].as_array().unwrap().is_empty()).count();
    assert_eq!(unseen as u64, summary.images_with_unseen_variants);
    assert!(unseen > 20 && unseen < 150, "{unseen}");
    let line = &lines[17];
    assert_eq!((line["file"].as_str(), line["mask"].as_str()), (Some("images/000017.png"), Some("masks/000017.png")));
    assert_eq!(
        (line["seed"].as_u64(), line["index"].as_u64(), line["split"].as_str()),
        (Some(7), Some(17), Some("heldout"))
    );
    assert!(line["components"]["top"].is_string() && line["colors"]["skin"].as_str().unwrap().starts_with('#'));
    let header = fs::read_to_string(folder.path().join("dataset.json")).unwrap();
    let header: serde_json::Value = serde_json::from_str(&header).unwrap();
    assert_eq!(header["license"]["name"], "Free for personal and commercial use");
    assert_eq!(header["creator"]["name"], "Pablo Stanley");
    assert_eq!(header["labels"][1]["name"], "skin");
    assert_eq!(header["barred_variants"].as_array().unwrap().len(), 4);
}

#[test]
fn the_files_hold_the_pictures_and_label_maps_that_the_seed_draws() {
    let folder = tempfile::tempdir().unwrap();
    write(&options(folder.path(), 20));
    let style = Style::named("avataaars").unwrap();
    let set = PortraitSet::new(Renderer::new(&style, 32).unwrap(), 7, Split::Heldout, 20).unwrap();
    let images = ImageFolder::open(folder.path(), 32, 1 << 20).unwrap();
    assert_eq!(images.count(), 20, "label maps are not taken for portraits");
    for index in 0..20 {
        assert!(images.picture(index).unwrap() == set.picture(index).unwrap());
        // An indexed PNG: decoded as colours it shows the palette.
        let mask = swinstyle_data::load_image(&folder.path().join(format!("masks/{index:06}.png")), 32).unwrap();
        let labels = set.mask(index).unwrap().labels;
        let colors: Vec<u8> = labels.iter().flat_map(|&label| style.labels()[usize::from(label)].color).collect();
        assert!(mask.rgb == colors);
    }
}

#[test]
fn an_interrupted_data_set_is_recognised_and_the_same_call_finishes_it() {
    let folder = tempfile::tempdir().unwrap();
    write(&options(folder.path(), 30));
    let whole = contents(folder.path());
    fs::remove_file(folder.path().join("manifest.jsonl")).unwrap();
    fs::remove_file(folder.path().join("images/000029.png")).unwrap();
    let error = ImageFolder::open(folder.path(), 32, 0).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("an unfinished data set"), "{error}");
    write(&options(folder.path(), 30));
    assert!(contents(folder.path()) == whole);
}

#[test]
fn a_folder_with_anything_else_in_it_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |options: &DatasetOptions| write_dataset(options, |_| {}).unwrap_err().to_string();
    fs::write(folder.path().join("letter.txt"), "dear").unwrap();
    assert!(refused(&options(folder.path(), 3)).contains("is not empty"));
    assert_eq!(contents(folder.path()).len(), 1);
    let out = folder.path().join("set");
    write(&options(&out, 3));
    let before = contents(&out);
    assert!(refused(&options(&out, 4)).contains("holds another data set"));
    assert!(contents(&out) == before);
}

#[test]
fn an_output_folder_that_cannot_be_made_is_one_error_naming_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = write_dataset(&options(&file.join("out"), 3), |_| {}).unwrap_err().to_string();
    assert!(error.contains("file/out: cannot be written: "), "{error}");
    assert!(!error.contains('\n'));
}

#[test]
fn wrong_options_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let good = options(&folder.path().join("out"), 3);
    for bad in [
        DatasetOptions { style: "none".to_owned(), ..good.clone() },
        DatasetOptions { size: 0, ..good.clone() },
        DatasetOptions { count: 0, ..good.clone() },
    ] {
        assert!(write_dataset(&bad, |_| {}).is_err());
    }
    assert!(!good.out.exists(), "nothing is made for wrong options");
    assert!("test".parse::<Split>().is_err());
}
