//! Folders of PNG, JPEG and WebP photographs: listed in a fixed order, decoded within limits, bad files named and left out.

pub(crate) mod complaint;
mod decode;
mod fit;
mod format;
mod list;
mod look;
mod truncation;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

pub use decode::{MAX_PIXELS, decode_image, load_image};
pub(crate) use decode::{check_size, read_file};
pub use fit::{Fit, fit_square};
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
    fingerprint: u64,
    decoded: Option<Decoded>,
    bad: Mutex<Vec<BadFile>>,
    maps: Option<LabelMaps>,
}

/// The images in memory, where they fit the budget.
struct Decoded {
    /// `[N, H, W, 3]`
    pixels: Vec<u8>,
    /// By file: itself, or the next usable one where it turned out bad.
    shown: Vec<usize>,
}

/// Label maps beside the images.
struct LabelMaps {
    labels: Vec<Label>,
    /// By image.
    files: Vec<PathBuf>,
    fingerprint: u64,
    /// The maps of all images, `[N, H, W]`, where the images are in memory too.
    pixels: Option<Vec<u8>>,
}

impl ImageFolder {
    /// Lists a folder and finds out which of its images can be used.
    ///
    /// Where all images fit `memory_budget` bytes (`size * size * 3` each) they are decoded now, on all threads, and kept.
    /// Otherwise [`Self::picture`] decodes on demand, to the same pictures in the same order. Headers and ends of files are read in either case, of so
    /// many files at most as [`look`] says.
    ///
    /// # Errors
    /// [`DataError::Read`] for a folder that cannot be read; [`DataError::BadFolder`] when no usable image is in it.
    pub fn open(root: &Path, size: usize, memory_budget: usize) -> Result<Self> {
        decode::check_size(size)?;
        let (files, mut bad) = list_images(root)?;
        let (mut good, mut contents) = (Vec::new(), Vec::new());
        for (path, look) in files.iter().zip(look::look_at(&files)) {
            match look.outcome {
                Ok(()) => {
                    good.push(path.clone());
                    contents.push(look.content);
                }
                Err(error) => bad.push(BadFile { reason: error.to_string(), path: path.clone() }),
            }
        }
        bad.sort();
        if good.is_empty() {
            return Err(no_usable_image(root, &bad));
        }
        let fingerprint = look::fingerprint(root, good.iter().zip(contents));
        let bad = Mutex::new(bad);
        let mut this = Self { root: root.to_owned(), size, files: good, fingerprint, decoded: None, bad, maps: None };
        if this.files.len().saturating_mul(size * size * 3) <= memory_budget {
            this.decoded = Some(this.decode_all()?);
        }
        Ok(this)
    }

    /// Decodes all files.
    fn decode_all(&self) -> Result<Decoded> {
        let length = self.size * self.size * 3;
        let mut pixels = vec![0; self.files.len() * length];
        let decode = |(path, pixels): (&PathBuf, &mut [u8])| {
            load_image(path, self.size).map(|picture| pixels.copy_from_slice(&picture.rgb))
        };
        let outcomes: Vec<Result<()>> =
            self.files.par_iter().zip(pixels.par_chunks_exact_mut(length)).map(decode).collect();
        for (path, outcome) in self.files.iter().zip(&outcomes) {
            if let Err(error) = outcome {
                self.note_bad(path, error);
            }
        }
        let n = outcomes.len();
        let next = |place: usize| (place..n).chain(0..place).find(|&i| outcomes[i].is_ok());
        let shown = (0..n).map(next).collect::<Option<Vec<_>>>();
        Ok(Decoded { pixels, shown: shown.ok_or_else(|| no_usable_image(&self.root, &self.bad_files()))? })
    }

    /// Errs where more than this share of the picture files is unusable, those of kinds that are not read among them.
    ///
    /// # Errors
    /// [`DataError::BadFolder`] with the first files and the counts.
    pub fn check_share(&self, max_broken: f64) -> Result<()> {
        let bad = self.bad_files();
        let listed: HashSet<&PathBuf> = self.files.iter().collect();
        let all = self.files.len() + bad.iter().filter(|b| !listed.contains(&b.path)).count();
        if bad.len() as f64 <= max_broken * all as f64 {
            return Ok(());
        }
        let first: Vec<&str> = bad.iter().take(3).map(|b| b.reason.as_str()).collect();
        let more = match bad.len() - first.len() {
            0 => String::new(),
            n => format!("; and {n} more"),
        };
        let counts = format!("{} of its {all} picture files cannot be used", bad.len());
        let way_out = "mend them or take them out, or raise data.max_broken";
        Err(DataError::bad_folder(&self.root, format!("{counts}: {}{more}; {way_out}", first.join("; "))))
    }

    /// What the same files are known by, wherever they lie: names below the folder, sizes, and a hash of the files' ends.
    pub fn fingerprint(&self) -> String {
        let maps = self.maps.as_ref().map_or(String::new(), |maps| format!("+{:016x}", maps.fingerprint));
        format!("files:{:016x}{maps}", self.fingerprint)
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
        self.decoded.is_some()
    }

    /// The files that were left out so far, in order of their paths.
    pub fn bad_files(&self) -> Vec<BadFile> {
        self.bad.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many files were left out so far.
    pub fn bad_count(&self) -> usize {
        self.bad.lock().unwrap_or_else(PoisonError::into_inner).len()
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
        let fingerprint = look::fingerprint(&maps, files.iter().zip(look::contents(&files)));
        self.maps = Some(LabelMaps { labels, files, fingerprint, pixels });
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
        if let Some(decoded) = &self.decoded {
            let (place, length) = (decoded.shown[first], self.size * self.size * 3);
            let rgb = decoded.pixels[place * length..(place + 1) * length].to_vec();
            return Ok((place, Picture { width: self.size, height: self.size, rgb }));
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
