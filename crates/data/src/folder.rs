//! Folders of PNG, JPEG and WebP photographs: listed in a fixed order, decoded within limits, bad files named and skipped.

mod decode;
mod list;
mod truncation;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

pub use decode::{MAX_PIXELS, decode_image, load_image};
pub use list::list_images;

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
        Ok(Self { root: root.to_owned(), size, files: good, pixels: in_memory.then_some(pixels), bad: Mutex::new(bad) })
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
        let first = (index % self.count()) as usize;
        if let Some(pixels) = &self.pixels {
            let length = self.size * self.size * 3;
            let rgb = pixels[first * length..(first + 1) * length].to_vec();
            return Ok(Picture { width: self.size, height: self.size, rgb });
        }
        for path in self.files[first..].iter().chain(&self.files[..first]) {
            match load_image(path, self.size) {
                Ok(picture) => return Ok(picture),
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
