//! Which files of a folder are its images, in an order that does not hang on the file system.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::BadFile;
use crate::avatars::files_of_dataset;
use crate::{DataError, Result};

/// The image files of a folder and its subfolders by their extension (png, jpg, jpeg, webp), sorted by path.
///
/// Hidden files and folders are left out. A folder that [`crate::avatars::write_dataset`] wrote lists the images of its
/// manifest, so that label maps are not taken for portraits. Subfolders that cannot be read come back as bad files, and so do pictures of
/// kinds that are not read, by their names.
///
/// # Errors
/// [`DataError::Read`] when the folder itself cannot be read; [`DataError::BadFolder`] for what is no folder, and for an unfinished data set.
pub fn list_images(root: &Path) -> Result<(Vec<PathBuf>, Vec<BadFile>)> {
    let mut listing = Listing::default();
    if root.is_file() {
        return Err(DataError::bad_folder(root, no_folder(root)));
    }
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
            } else if let Some(kind) = unread_kind(&path) {
                let reason = format!("{}: a {kind} file; PNG, JPEG and WebP are read", path.display());
                self.bad.push(BadFile { path, reason });
            }
        }
        Ok(())
    }
}

fn extension(path: &Path) -> Option<String> {
    path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase)
}

fn has_image_extension(path: &Path) -> bool {
    matches!(extension(path).as_deref(), Some("png" | "jpg" | "jpeg" | "webp"))
}

/// What a picture is that is not read, by its name.
fn unread_kind(path: &Path) -> Option<&'static str> {
    Some(match extension(path)?.as_str() {
        "tif" | "tiff" => "TIFF",
        "bmp" | "dib" => "BMP",
        "heic" | "heif" => "HEIC",
        "gif" => "GIF",
        "avif" => "AVIF",
        "jxl" => "JPEG XL",
        "jp2" | "j2k" | "jpx" => "JPEG 2000",
        "jfif" | "jpe" => "JPEG (by another name than .jpg)",
        "ppm" | "pgm" | "pnm" | "pbm" => "PPM",
        "tga" => "TGA",
        "exr" => "OpenEXR",
        "hdr" => "HDR",
        "ico" => "ICO",
        "svg" => "SVG",
        "psd" => "Photoshop",
        "dng" | "cr2" | "cr3" | "nef" | "arw" | "raf" | "orf" | "rw2" => "raw camera",
        _ => return None,
    })
}

/// What a file is that was given in a folder's place, and the way out.
fn no_folder(path: &Path) -> String {
    let mut start = [0; 6];
    let read = fs::File::open(path).and_then(|mut file| file.read(&mut start)).unwrap_or(0);
    match &start[..read] {
        [b'P', b'K', 3 | 5, ..] => "is a zip archive; unpack it (unzip FILE -d FOLDER) and give the folder".into(),
        [0x1f, 0x8b, ..] | [b'7', b'z', ..] | [0xfd, b'7', b'z', ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            "is a compressed archive; unpack it and give the folder".into()
        }
        _ if extension(path).as_deref() == Some("tar") => "is a tar archive; unpack it and give the folder".into(),
        _ => "is a file; give the folder that the images lie in".into(),
    }
}
