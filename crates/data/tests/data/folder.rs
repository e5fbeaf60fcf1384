//! Image folders and single files, good and bad.

use std::fs;
use std::path::{Path, PathBuf};

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use swinstyle_data::folder::{decode_image, list_images};
use swinstyle_data::{ImageFolder, Picture, load_image};

/// A picture with detail everywhere, so that cutting its file short cuts pixels off.
fn noise(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let hash = (x * 7919 + y * 104_729).wrapping_mul(2_654_435_761);
        Rgb([(hash >> 8) as u8, (hash >> 16) as u8, (hash >> 24) as u8])
    })
}

fn save(folder: &Path, name: &str, image: impl Into<DynamicImage>, format: ImageFormat) -> PathBuf {
    let path = folder.join(name);
    image.into().save_with_format(&path, format).unwrap();
    path
}

fn pixel(picture: &Picture, x: usize, y: usize) -> [u8; 3] {
    let at = (y * picture.width + x) * 3;
    [picture.rgb[at], picture.rgb[at + 1], picture.rgb[at + 2]]
}

#[test]
fn png_jpeg_and_webp_are_read_by_their_content() {
    let folder = tempfile::tempdir().unwrap();
    let image = RgbImage::from_pixel(40, 40, Rgb([200, 100, 50]));
    for (name, format) in [
        ("a.png", ImageFormat::Png),
        ("b.jpg", ImageFormat::Jpeg),
        ("c.webp", ImageFormat::WebP),
        ("d.png", ImageFormat::Jpeg),
    ] {
        let path = save(folder.path(), name, image.clone(), format);
        let picture = load_image(&path, 16).unwrap();
        assert_eq!((picture.width, picture.height, picture.rgb.len()), (16, 16, 16 * 16 * 3));
        let near = pixel(&picture, 8, 8).iter().zip([200, 100, 50]).all(|(a, b)| a.abs_diff(b) <= 2);
        assert!(near, "{name}: {:?}", pixel(&picture, 8, 8));
    }
}

#[test]
fn grey_sixteen_bit_and_transparent_images_become_rgb_on_white() {
    let folder = tempfile::tempdir().unwrap();
    let grey = save(folder.path(), "grey.png", GrayImage::from_pixel(9, 9, Luma([77])), ImageFormat::Png);
    assert_eq!(pixel(&load_image(&grey, 9).unwrap(), 4, 4), [77, 77, 77]);
    let deep = image::ImageBuffer::<Rgb<u16>, _>::from_pixel(9, 9, Rgb([0xffff, 0x8080, 0]));
    let deep = save(folder.path(), "deep.png", DynamicImage::ImageRgb16(deep), ImageFormat::Png);
    assert_eq!(pixel(&load_image(&deep, 9).unwrap(), 4, 4), [255, 128, 0]);
    let glass = RgbaImage::from_fn(9, 9, |x, _| Rgba([0, 0, 255, if x < 5 { 0 } else { 128 }]));
    let glass = load_image(&save(folder.path(), "glass.png", glass, ImageFormat::Png), 9).unwrap();
    assert_eq!((pixel(&glass, 0, 0), pixel(&glass, 8, 0)), ([255, 255, 255], [127, 127, 255]));
}

#[test]
fn the_shorter_side_is_resized_and_the_middle_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    // Three stripes; only the middle one is left of a picture three times as wide as high.
    let stripes =
        RgbImage::from_fn(96, 32, |x, _| [Rgb([255, 0, 0]), Rgb([0, 255, 0]), Rgb([0, 0, 255])][x as usize / 32]);
    for (name, image) in [("wide.png", stripes.clone()), ("high.png", image::imageops::rotate90(&stripes))] {
        let picture = load_image(&save(folder.path(), name, image, ImageFormat::Png), 8).unwrap();
        for (x, y) in [(2, 2), (4, 4), (5, 5)] {
            assert_eq!(pixel(&picture, x, y), [0, 255, 0], "{name}");
        }
    }
    let large = load_image(&save(folder.path(), "small.png", noise(5, 5), ImageFormat::Png), 64).unwrap();
    assert_eq!((large.width, large.height), (64, 64), "small images are enlarged");
}

#[test]
fn shrinking_averages_instead_of_skipping_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let chessboard = RgbImage::from_fn(256, 256, |x, y| Rgb([((x + y) % 2 * 255) as u8; 3]));
    let picture = load_image(&save(folder.path(), "chess.png", chessboard, ImageFormat::Png), 16).unwrap();
    assert!(picture.rgb.iter().all(|value| value.abs_diff(127) <= 3), "{:?}", &picture.rgb[..9]);
}

#[test]
fn an_exif_orientation_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let mut jpeg = std::io::Cursor::new(Vec::new());
    let halves = RgbImage::from_fn(64, 32, |x, _| Rgb([if x < 32 { 255 } else { 0 }; 3]));
    DynamicImage::ImageRgb8(halves).write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    // After the start-of-image marker: an APP1 segment whose TIFF directory has one entry, Orientation = 6 (turn clockwise).
    let tiff = [&b"MM\0\x2a\0\0\0\x08"[..], &[0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0]].concat();
    let exif = [&[0xff, 0xe1, 0, (2 + 6 + tiff.len()) as u8], &b"Exif\0\0"[..], &tiff].concat();
    let jpeg = jpeg.into_inner();
    let path = folder.path().join("turned.jpg");
    fs::write(&path, [&jpeg[..2], &exif, &jpeg[2..]].concat()).unwrap();
    let picture = decode_image(&path).unwrap();
    assert_eq!((picture.width, picture.height), (32, 64));
    assert!(pixel(&picture, 16, 8)[0] > 250 && pixel(&picture, 16, 56)[0] < 5, "left has become top");
}

/// A PNG file whose header promises pixels and whose data hold none.
fn png_header(width: u32, height: u32, depth: png::BitDepth) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(depth);
    // The two bytes that begin a zlib stream.
    encoder.write_header().unwrap().write_chunk(png::chunk::IDAT, &[0x78, 0x01]).unwrap();
    bytes
}

#[test]
fn each_bad_file_is_one_line_that_names_it_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("empty.png"), []).unwrap();
    fs::write(at("text.png"), "this is a letter, not a picture").unwrap();
    fs::write(at("gif.png"), b"GIF89a\x01\0\x01\0\0\0\0;").unwrap();
    let eight = png::BitDepth::Eight;
    fs::write(at("huge.png"), png_header(100_000, 100_000, eight)).unwrap();
    fs::write(at("deep.png"), png_header(14_000, 14_000, png::BitDepth::Sixteen)).unwrap();
    fs::write(at("bomb.png"), png_header(u32::MAX / 2, u32::MAX / 2, eight)).unwrap();
    // Within the limit, and not there.
    fs::write(at("hollow.png"), png_header(16_000, 16_000, eight)).unwrap();
    fs::write(at("photo.jpg"), b"\0\0\0\x18ftypheic\0\0\0\0mif1heic").unwrap();
    fs::write(at("zip.png"), b"PK\x03\x04\x14\0\0\0").unwrap();
    for (name, format) in
        [("cut.png", ImageFormat::Png), ("cut.jpg", ImageFormat::Jpeg), ("cut.webp", ImageFormat::WebP)]
    {
        let path = save(folder.path(), name, noise(90, 70), format);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    fs::write(at("stub.jpg"), [0xff, 0xd8, 0xff]).unwrap();
    for (name, reason) in [
        ("absent.png", "cannot be read: No such file"),
        ("empty.png", "the file is empty"),
        ("text.png", "not a PNG, JPEG or WebP image"),
        ("gif.png", "a GIF image; only PNG, JPEG and WebP are read"),
        ("huge.png", "100000 x 100000 pixels are too many, the limit is 268 million: make it smaller first"),
        (
            "deep.png",
            "14000 x 14000 pixels of 48 bits each need 1121 MiB, the limit is 1024 MiB: save it with 8 bits a channel",
        ),
        ("bomb.png", ""),
        ("hollow.png", "the PNG file is damaged: its compressed data are corrupt"),
        ("photo.jpg", "a HEIC image; only PNG, JPEG and WebP are read: convert it to PNG first"),
        ("zip.png", "not a PNG, JPEG or WebP image: this looks like a zip archive: unpack it and give the folder"),
        ("cut.png", "the file is truncated"),
        ("cut.jpg", "the file is truncated"),
        ("cut.webp", "the file is truncated"),
        ("stub.jpg", "the file is truncated"),
        (".", "not a file"),
    ] {
        let path = at(name);
        let error = load_image(&path, 32).map(|_| name).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: {reason}", path.display())), "{error}");
        assert!(!error.contains('\n') && error.len() < path.display().to_string().len() + 150, "{error}");
    }
}

#[test]
fn damage_is_told_in_words_without_debug_text() {
    let folder = tempfile::tempdir().unwrap();
    for (name, format) in [("x.png", ImageFormat::Png), ("x.jpg", ImageFormat::Jpeg), ("x.webp", ImageFormat::WebP)] {
        let path = save(folder.path(), name, noise(60, 50), format);
        let whole = fs::read(&path).unwrap();
        let mut damaged = 0;
        for at in (12..whole.len()).step_by(7).chain([whole.len() - 14]) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x5a;
            fs::write(&path, &bytes).unwrap();
            let Err(error) = decode_image(&path) else { continue };
            damaged += 1;
            let error = error.to_string();
            let plain = !error.contains(['{', '}', '\n', '"']) && !error.contains("::") && error.len() < 300;
            assert!(plain, "{name} at {at}: {error}");
        }
        assert!(damaged > 0, "{name}");
    }
    // The checksum of the pixels: four bytes before the closing chunk of twelve.
    let path = save(folder.path(), "crc.png", noise(60, 50), ImageFormat::Png);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 13;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = decode_image(&path).map(drop).unwrap_err().to_string();
    assert!(error.ends_with("the PNG file is damaged: a checksum (CRC) of its chunk IDAT does not match"), "{error}");
}

#[test]
fn a_folder_is_listed_in_order_and_its_bad_files_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("b/deep")).unwrap();
    fs::create_dir_all(at(".hidden")).unwrap();
    for (name, shade) in [("b/deep/1.png", 10), ("a.PNG", 20), ("c.jpeg", 30), (".hidden/x.png", 40)] {
        let format = if name.ends_with("jpeg") { ImageFormat::Jpeg } else { ImageFormat::Png };
        save(folder.path(), name, RgbImage::from_pixel(20, 20, Rgb([shade; 3])), format);
    }
    fs::write(at("b/bad.png"), "no").unwrap();
    fs::write(at("notes.txt"), "no image, and no error").unwrap();
    let names = |files: &[PathBuf]| {
        files.iter().map(|f| f.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&list_images(folder.path()).unwrap().0), ["a.PNG", "b/bad.png", "b/deep/1.png", "c.jpeg"]);
    for budget in [1 << 20, 0] {
        let images = ImageFolder::open(folder.path(), 8, budget).unwrap();
        assert_eq!(images.is_in_memory(), budget > 0);
        assert_eq!(names(images.files()), ["a.PNG", "b/deep/1.png", "c.jpeg"]);
        let shades: Vec<u8> = (0..3).map(|i| images.picture(i).unwrap().rgb[0]).collect();
        assert_eq!(shades, [20, 10, 30]);
        let bad = images.bad_files();
        assert_eq!(bad.len(), 1);
        assert!(bad[0].reason.ends_with("bad.png: not a PNG, JPEG or WebP image"), "{}", bad[0].reason);
    }
}

#[test]
fn a_file_that_turns_out_bad_on_demand_is_replaced_and_named() {
    let folder = tempfile::tempdir().unwrap();
    for (name, shade) in [("a.png", 10), ("c.png", 30)] {
        save(folder.path(), name, RgbImage::from_pixel(20, 20, Rgb([shade; 3])), ImageFormat::Png);
    }
    fs::write(folder.path().join("b.png"), png_header(20, 20, png::BitDepth::Eight)).unwrap();
    let images = ImageFolder::open(folder.path(), 8, 0).unwrap();
    let shades: Vec<u8> = (0..3).map(|i| images.picture(i).unwrap().rgb[0]).collect();
    assert_eq!(shades, [10, 30, 30]);
    images.picture(1).unwrap();
    assert_eq!(images.bad_files().len(), 1, "named once");
    assert!(images.bad_files()[0].reason.contains("b.png: "));
}

#[test]
fn a_folder_without_a_usable_image_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let open = |budget| ImageFolder::open(folder.path(), 8, budget).map(|_| ()).unwrap_err().to_string();
    assert!(open(0).ends_with("holds no PNG, JPEG or WebP file"));
    fs::write(folder.path().join("a.png"), "no").unwrap();
    assert!(open(1 << 20).contains("holds no usable image: "));
    fs::write(folder.path().join("b.png"), "no").unwrap();
    assert!(open(1 << 20).ends_with("; and 1 more"));
    let absent = ImageFolder::open(&folder.path().join("absent"), 8, 0).map(|_| ()).unwrap_err().to_string();
    assert!(absent.contains("absent: cannot be read"), "{absent}");
}

#[cfg(unix)]
#[test]
fn a_link_in_a_circle_does_not_hang_the_listing() {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), "a.png", noise(8, 8), ImageFormat::Png);
    std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
    assert_eq!(list_images(folder.path()).unwrap().0.len(), 1);
}
