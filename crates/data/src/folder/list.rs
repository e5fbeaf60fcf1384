//! Which files of a folder are its images, in an order that does not hang on the file system.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::BadFile;
use crate::avatars::files_of_dataset;
use crate::{DataError, Result};

/// The image files of a folder and its subfolders by their extension (png, jpg, jpeg, webp), sorted by path.
///
/// Hidden files and folders are left out. A folder that [`crate::avatars::write_dataset`] wrote lists the images of its
/// manifest, so that label maps are not taken for portraits. Subfolders that cannot be read come back as bad files.
///
/// # Errors
/// [`DataError::Read`] when the folder itself cannot be read; [`DataError::BadFolder`] for an unfinished data set.
pub fn list_images(root: &Path) -> Result<(Vec<PathBuf>, Vec<BadFile>)> {
    let mut listing = Listing::default();
    // The root has to be readable; what is below it may be bad.
    fs::read_dir(root).map_err(|source| DataError::read(root, source))?;
    if let Some(files) = files_of_dataset(root)? {
        return Ok((files, Vec::new()));
    }
    listing.visit(root);
    listing.files.sort();
    listing.bad.sort();
    Ok((listing.files, listing.bad))
}

#[derive(Default)]
struct Listing {
    files: Vec<PathBuf>,
    bad: Vec<BadFile>,
    /// The real paths of the folders that were entered: a symbolic link may lead back to one.
    entered: HashSet<PathBuf>,
}

impl Listing {
    fn visit(&mut self, folder: &Path) {
        if let Err(source) = self.try_visit(folder) {
            let reason = DataError::read(folder, source).to_string();
            self.bad.push(BadFile { path: folder.to_owned(), reason });
        }
    }

    fn try_visit(&mut self, folder: &Path) -> std::io::Result<()> {
        if !self.entered.insert(fs::canonicalize(folder)?) {
            return Ok(());
        }
        // Sorted here too: of two links to one folder, the same one is entered each time.
        let mut paths =
            fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
        paths.sort();
        for path in paths {
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if hidden {
                continue;
            }
            if path.is_dir() {
                self.visit(&path);
            } else if has_image_extension(&path) {
                self.files.push(path);
            }
        }
        Ok(())
    }
}

fn has_image_extension(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg" | "webp"))
}
