//! Folders of PNG, JPEG and WebP photographs: listed in a fixed order, decoded within limits, bad files named and skipped.

mod decode;
mod list;
mod truncation;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

pub use decode::{MAX_PIXELS, decode_image, load_image};
pub(crate) use decode::{check_size, read_file};
pub use list::list_images;

use crate::avatars::label_maps_of_dataset;
use crate::label_map::{Label, LabelMap, check_labels, load_label_map};
use crate::picture::Picture;
use crate::{DataError, Result};

/// A file that was skipped, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BadFile {
    /// The file.
    pub path: PathBuf,
    /// One line that names the file and the reason.
    pub reason: String,
}

/// The images of a folder and its subfolders, each resized and cropped to one square size.
pub struct ImageFolder {
    root: PathBuf,
    size: usize,
    files: Vec<PathBuf>,
    /// The pixels of every file, `[N, H, W, 3]`, where they fit the budget.
    pixels: Option<Vec<u8>>,
    bad: Mutex<Vec<BadFile>>,
    maps: Option<LabelMaps>,
}

/// Label maps beside the images.
struct LabelMaps {
    labels: Vec<Label>,
    /// By image.
    files: Vec<PathBuf>,
    /// The maps of all images, `[N, H, W]`, where the images are in memory too.
    pixels: Option<Vec<u8>>,
}

impl ImageFolder {
    /// Lists a folder and finds out which of its images can be used.
    ///
    /// Where all images fit `memory_budget` bytes (`size * size * 3` each) they are decoded now, on all threads, and kept.
    /// Otherwise only their headers are read now, and [`Self::picture`] decodes on demand.
    ///
    /// # Errors
    /// [`DataError::Read`] for a folder that cannot be read; [`DataError::BadFolder`] when no usable image is in it.
    pub fn open(root: &Path, size: usize, memory_budget: usize) -> Result<Self> {
        decode::check_size(size)?;
        let (files, mut bad) = list_images(root)?;
        let length = size * size * 3;
        let in_memory = files.len().saturating_mul(length) <= memory_budget;
        let (looked, mut pixels) = if in_memory {
            let mut pixels = vec![0; files.len() * length];
            let decode = |(path, pixels): (&PathBuf, &mut [u8])| {
                load_image(path, size).map(|picture| pixels.copy_from_slice(&picture.rgb))
            };
            let looked: Vec<Result<()>> =
                files.par_iter().zip(pixels.par_chunks_exact_mut(length)).map(decode).collect();
            (looked, pixels)
        } else {
            (files.par_iter().map(|path| decode::probe(path)).collect(), Vec::new())
        };
        let mut good = Vec::new();
        for (i, (path, outcome)) in files.into_iter().zip(looked).enumerate() {
            match outcome {
                Ok(()) => {
                    if in_memory {
                        // Close the gaps that bad files left.
                        pixels.copy_within(i * length..(i + 1) * length, good.len() * length);
                    }
                    good.push(path);
                }
                Err(error) => bad.push(BadFile { reason: error.to_string(), path }),
            }
        }
        pixels.truncate(good.len() * length);
        bad.sort();
        if good.is_empty() {
            return Err(no_usable_image(root, &bad));
        }
        let pixels = in_memory.then_some(pixels);
        Ok(Self { root: root.to_owned(), size, files: good, pixels, bad: Mutex::new(bad), maps: None })
    }

    /// How many images there are.
    pub fn count(&self) -> u64 {
        self.files.len() as u64
    }

    /// The side of every picture.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The files behind the pictures, in order.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Whether the pictures are kept in memory.
    pub fn is_in_memory(&self) -> bool {
        self.pixels.is_some()
    }

    /// The files that were skipped so far, in order of their paths.
    pub fn bad_files(&self) -> Vec<BadFile> {
        self.bad.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The picture number `index`, which is below [`Self::count`].
    ///
    /// A file that turns out bad only now (its header was good) is noted in [`Self::bad_files`] and the next usable
    /// one takes its place, so the order of the others stays what it was.
    ///
    /// # Errors
    /// [`DataError::BadFolder`] when no file can be decoded any more.
    pub fn picture(&self, index: u64) -> Result<Picture> {
        Ok(self.usable(index)?.1)
    }

    /// Joins a label map to every image: the PNG file of the same path below `maps`, or directly in `maps` under the image's
    /// name. Every map is read once now.
    ///
    /// Without `maps` and `labels` they are those of the data set that [`crate::avatars::write_dataset`] wrote with masks.
    ///
    /// # Errors
    /// [`DataError::BadFolder`] for an image without a map or a folder that needs `maps` and `labels`, and the errors of
    /// [`load_label_map`] and [`check_labels`].
    pub fn with_label_maps(mut self, maps: Option<&Path>, labels: &[Label]) -> Result<Self> {
        let of_dataset = label_maps_of_dataset(&self.root)?;
        let (own_maps, own_labels) = of_dataset.unzip();
        let Some(maps) = maps.map(Path::to_owned).or(own_maps) else {
            return Err(DataError::bad_folder(&self.root, "has no label maps of its own; name their folder"));
        };
        let labels = match labels {
            [] => own_labels.ok_or_else(|| DataError::bad_folder(&maps, "needs the list of its labels"))?,
            given => given.to_vec(),
        };
        check_labels(&labels)?;
        let files = self.files.iter().map(|image| self.map_of(image, &maps)).collect::<Result<Vec<_>>>()?;
        let read = |file: &PathBuf| load_label_map(file, &labels, self.size).map(|map| map.labels);
        let pixels = match self.is_in_memory() {
            true => Some(files.par_iter().map(read).collect::<Result<Vec<_>>>()?.concat()),
            false => {
                files.par_iter().try_for_each(|file| read(file).map(|_| ()))?;
                None
            }
        };
        self.maps = Some(LabelMaps { labels, files, pixels });
        Ok(self)
    }

    fn map_of(&self, image: &Path, maps: &Path) -> Result<PathBuf> {
        let relative = image.strip_prefix(&self.root).unwrap_or(image).with_extension("png");
        let name = relative.file_name().unwrap_or_default().to_owned();
        let places = [maps.join(&relative), maps.join(&name)];
        places.into_iter().find(|place| place.is_file()).ok_or_else(|| {
            let reason = format!("holds no label map {} for the image {}", relative.display(), image.display());
            DataError::bad_folder(maps, reason)
        })
    }

    /// The labels of the maps; none without maps.
    pub fn labels(&self) -> &[Label] {
        self.maps.as_ref().map_or(&[], |maps| &maps.labels)
    }

    /// [`Self::picture`] with its label map.
    ///
    /// # Errors
    /// As [`Self::picture`] and [`load_label_map`]; [`DataError::BadFolder`] without maps.
    pub fn picture_and_map(&self, index: u64) -> Result<(Picture, LabelMap)> {
        let Some(maps) = &self.maps else {
            return Err(DataError::bad_folder(&self.root, "was opened without label maps"));
        };
        let (place, picture) = self.usable(index)?;
        let area = self.size * self.size;
        let map = match &maps.pixels {
            Some(pixels) => LabelMap { size: self.size, labels: pixels[place * area..(place + 1) * area].to_vec() },
            None => load_label_map(&maps.files[place], &maps.labels, self.size)?,
        };
        Ok((picture, map))
    }

    /// The image number `index`, or the next that can be decoded, with its place among [`Self::files`].
    fn usable(&self, index: u64) -> Result<(usize, Picture)> {
        let first = (index % self.count()) as usize;
        if let Some(pixels) = &self.pixels {
            let length = self.size * self.size * 3;
            let rgb = pixels[first * length..(first + 1) * length].to_vec();
            return Ok((first, Picture { width: self.size, height: self.size, rgb }));
        }
        for place in (first..self.files.len()).chain(0..first) {
            let path = &self.files[place];
            match load_image(path, self.size) {
                Ok(picture) => return Ok((place, picture)),
                Err(error) => self.note_bad(path, &error),
            }
        }
        Err(no_usable_image(&self.root, &self.bad_files()))
    }

    fn note_bad(&self, path: &Path, error: &DataError) {
        let mut bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        let file = BadFile { path: path.to_owned(), reason: error.to_string() };
        if let Err(place) = bad.binary_search_by(|known| known.path.as_path().cmp(path)) {
            bad.insert(place, file);
        }
    }
}

fn no_usable_image(root: &Path, bad: &[BadFile]) -> DataError {
    let reason = match bad {
        [] => "holds no PNG, JPEG or WebP file".to_owned(),
        [only] => format!("holds no usable image: {}", only.reason),
        [first, rest @ ..] => format!("holds no usable image: {}; and {} more", first.reason, rest.len()),
    };
    DataError::bad_folder(root, reason)
}
