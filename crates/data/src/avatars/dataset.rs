//! A data set of portraits on disk: `images/`, `masks/`, `manifest.jsonl` and `dataset.json`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::portrait::{Attributes, Split};
use super::renderer::{PortraitSet, Renderer};
use super::style::Style;
use super::{BACKGROUND, definition};
use crate::picture::{write_atomic, write_label_png, write_png};
use crate::{DataError, Label, Result};

const HEADER: &str = "dataset.json";
const MANIFEST: &str = "manifest.jsonl";
/// Portraits between two calls of the progress callback.
const CHUNK: u64 = 256;

/// What to write.
#[derive(Clone, Debug)]
pub struct DatasetOptions {
    /// One of [`Style::NAMES`].
    pub style: String,
    /// The side in pixels.
    pub size: usize,
    /// How many portraits, numbered from 0.
    pub count: u64,
    /// Which variants may occur.
    pub split: Split,
    /// Whether to write label maps too.
    pub masks: bool,
    /// The seed of the picks.
    pub seed: u64,
    /// The folder: new, empty, or holding the same data set.
    pub out: PathBuf,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The number of portraits.
    pub images: u64,
    /// How many of them hold a variant that `train` never does.
    pub images_with_unseen_variants: u64,
    /// The list of the portraits and what is drawn in each.
    pub manifest: PathBuf,
}

/// `dataset.json`: what all portraits of the data set share.
#[derive(Serialize)]
struct Header<'a> {
    format: &'static str,
    version: u32,
    style: &'static str,
    license: &'a definition::License,
    creator: &'a definition::Link,
    source: &'a definition::Link,
    attribution: &'a str,
    size: usize,
    count: u64,
    seed: u64,
    split: Split,
    background: [u8; 3],
    masks: bool,
    labels: &'a [Label],
    /// What `train` never draws.
    barred_variants: Vec<String>,
}

/// A line of `manifest.jsonl`.
#[derive(Serialize, Deserialize)]
struct Entry {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    mask: Option<String>,
    seed: u64,
    index: u64,
    split: Split,
    style: String,
    #[serde(flatten)]
    attributes: Attributes,
}

/// Draws a data set; `progress` is told how many portraits are done, now and then.
///
/// The same options write the same bytes on any number of threads. Every file is written whole or not at all, the
/// manifest last: a folder without it is unfinished, and the same call finishes it.
///
/// # Errors
/// [`DataError::BadFolder`] when `out` holds anything else; [`DataError::Write`] names the file that could not be written;
/// [`DataError::UnknownStyle`] and [`DataError::InvalidArgument`] for the options.
pub fn write_dataset(options: &DatasetOptions, mut progress: impl FnMut(u64)) -> Result<Summary> {
    let style = Style::named(&options.style)?;
    let renderer = Renderer::new(&style, options.size)?;
    let portraits = PortraitSet::new(renderer, options.seed, options.split, options.count)?;
    prepare_folder(options, &header(options, &style))?;
    let mut manifest = String::new();
    let mut images_with_unseen_variants = 0;
    let mut done = 0;
    while done < options.count {
        let end = options.count.min(done + CHUNK);
        let entries: Vec<Entry> = (done..end)
            .into_par_iter()
            .map(|index| write_portrait(options, &portraits, index))
            .collect::<Result<_>>()?;
        for entry in &entries {
            images_with_unseen_variants += u64::from(!entry.attributes.unseen.is_empty());
            manifest.push_str(&to_json(entry));
            manifest.push('\n');
        }
        done = end;
        progress(done);
    }
    let path = options.out.join(MANIFEST);
    write_atomic(&path, manifest.as_bytes())?;
    Ok(Summary { images: options.count, images_with_unseen_variants, manifest: path })
}

fn header(options: &DatasetOptions, style: &Style) -> String {
    let header = Header {
        format: "swinstyle-portraits",
        version: 1,
        style: style.name(),
        license: &style.meta.license,
        creator: &style.meta.creator,
        source: &style.meta.source,
        attribution: style.attribution(),
        size: options.size,
        count: options.count,
        seed: options.seed,
        split: options.split,
        background: BACKGROUND,
        masks: options.masks,
        labels: style.labels(),
        barred_variants: style.barred_variants(),
    };
    to_json(&header) + "\n"
}

/// These structures hold only strings, numbers and lists of them, for which the serialiser cannot fail.
fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Makes `out` ready for writing, and refuses a folder that holds anything but the beginnings of the same data set.
fn prepare_folder(options: &DatasetOptions, header: &str) -> Result<()> {
    let out = &options.out;
    fs::create_dir_all(out).map_err(|source| DataError::write(out, source))?;
    let path = out.join(HEADER);
    match fs::read_to_string(&path) {
        Ok(known) if known == header => {}
        Ok(_) => {
            return Err(DataError::bad_folder(out, "holds another data set; choose a new folder or remove this one"));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut inside = fs::read_dir(out).map_err(|source| DataError::read(out, source))?;
            if inside.next().is_some() {
                return Err(DataError::bad_folder(out, "is not empty; choose a new folder for the data set"));
            }
        }
        Err(source) => return Err(DataError::read(&path, source)),
    }
    for folder in ["images", "masks"].into_iter().take(1 + usize::from(options.masks)) {
        let folder = out.join(folder);
        fs::create_dir_all(&folder).map_err(|source| DataError::write(&folder, source))?;
    }
    write_atomic(&path, header.as_bytes())
}

fn write_portrait(options: &DatasetOptions, portraits: &PortraitSet, index: u64) -> Result<Entry> {
    let portrait = portraits.portrait(index);
    let renderer = portraits.renderer();
    let file = format!("images/{index:06}.png");
    write_png(&options.out.join(&file), &renderer.render(&portrait)?)?;
    let mask = options.masks.then(|| format!("masks/{index:06}.png"));
    if let Some(mask) = &mask {
        write_label_png(&options.out.join(mask), &renderer.mask(&portrait)?, renderer.style().labels())?;
    }
    let style = renderer.style().name().to_owned();
    Ok(Entry { file, mask, seed: options.seed, index, split: options.split, style, attributes: portrait.attributes() })
}

/// The images of a folder that [`write_dataset`] wrote, in the order of its manifest; nothing for any other folder.
pub(crate) fn files_of_dataset(root: &Path) -> Result<Option<Vec<PathBuf>>> {
    if !root.join(HEADER).is_file() {
        return Ok(None);
    }
    let path = root.join(MANIFEST);
    let manifest = match fs::read_to_string(&path) {
        Ok(manifest) => manifest,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let reason = format!("an unfinished data set: it has {HEADER} but no {MANIFEST}; write it again");
            return Err(DataError::bad_folder(root, reason));
        }
        Err(source) => return Err(DataError::read(&path, source)),
    };
    let entry = |(number, line): (usize, &str)| {
        let entry: Entry = serde_json::from_str(line).map_err(|error| {
            DataError::bad_folder(root, format!("line {} of {MANIFEST} is no portrait: {error}", number + 1))
        })?;
        Ok(root.join(entry.file))
    };
    manifest.lines().enumerate().map(entry).collect::<Result<Vec<_>>>().map(Some)
}

/// The folder of label maps and the labels of a folder that [`write_dataset`] wrote with masks; nothing for any other folder.
pub(crate) fn label_maps_of_dataset(root: &Path) -> Result<Option<(PathBuf, Vec<Label>)>> {
    #[derive(Deserialize)]
    struct Masks {
        masks: bool,
        labels: Vec<Label>,
    }
    let path = root.join(HEADER);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DataError::read(&path, source)),
    };
    let header: Masks =
        serde_json::from_str(&text).map_err(|error| DataError::bad_folder(root, format!("{HEADER}: {error}")))?;
    Ok(header.masks.then(|| (root.join("masks"), header.labels)))
}
