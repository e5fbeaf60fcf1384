//! Label maps from files and beside images: what is read, and what is said of what cannot be.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use swinstyle_data::avatars::{DatasetOptions, PortraitSet, Renderer, Split, Style, write_dataset};
use swinstyle_data::picture::write_label_png;
use swinstyle_data::{Dataset, ImageFolder, Label, LabelMap, Loader, LoaderOptions, load_label_map};

fn labels() -> Vec<Label> {
    Style::named("avataaars").unwrap().labels().to_vec()
}

fn portraits(size: usize) -> PortraitSet {
    let renderer = Renderer::new(&Style::named("avataaars").unwrap(), size).unwrap();
    PortraitSet::new(renderer, 4, Split::Train, 6).unwrap()
}

fn save(folder: &Path, name: &str, image: impl Into<DynamicImage>) -> std::path::PathBuf {
    let path = folder.join(name);
    image.into().save_with_format(&path, ImageFormat::Png).unwrap();
    path
}

#[test]
fn a_map_is_the_same_from_indexed_grey_and_colour_files() {
    let folder = tempfile::tempdir().unwrap();
    let map = portraits(24).mask(0).unwrap();
    let indexed = folder.path().join("indexed.png");
    write_label_png(&indexed, &map, &labels()).unwrap();
    let grey = GrayImage::from_fn(24, 24, |x, y| Luma([map.labels[(y * 24 + x) as usize]]));
    let color = RgbImage::from_raw(24, 24, map.picture(&labels()).rgb).unwrap();
    for path in [indexed, save(folder.path(), "grey.png", grey), save(folder.path(), "color.png", color)] {
        assert_eq!(load_label_map(&path, &labels(), 24).unwrap(), map, "{}", path.display());
    }
}

#[test]
fn packed_bits_are_numbers_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bits.png");
    let mut encoder = png::Encoder::new(fs::File::create(&path).unwrap(), 5, 2);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Two);
    // 0 1 2 3 2 and 3 0 0 0 1, two bits each, rows padded to bytes.
    encoder
        .write_header()
        .unwrap()
        .write_image_data(&[0b00_01_10_11, 0b10_00_00_00, 0b11_00_00_00, 0b01_00_00_00])
        .unwrap();
    // The middle 2 x 2 begins between two pixels: the right one is nearest.
    assert_eq!(load_label_map(&path, &labels(), 2).unwrap().labels, [2, 3, 0, 0]);
}

#[test]
fn resizing_takes_whole_labels_from_the_middle() {
    let folder = tempfile::tempdir().unwrap();
    let wide = GrayImage::from_fn(8, 4, |x, y| Luma([if x < 2 { 9 } else { (x / 4 + 2 * (y / 2)) as u8 }]));
    let path = save(folder.path(), "wide.png", wide);
    assert_eq!(load_label_map(&path, &labels(), 2).unwrap().labels, [0, 1, 2, 3]);
    let large = load_label_map(&path, &labels(), 8).unwrap();
    assert_eq!(large.labels[..8], [0, 0, 0, 0, 1, 1, 1, 1]);
}

#[test]
fn unknown_labels_other_palettes_and_other_files_are_one_line_that_lists_the_labels() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = |path: &Path, parts: &[&str]| {
        let error = load_label_map(path, &labels(), 8).unwrap_err().to_string();
        for part in parts.iter().chain(&[path.file_name().unwrap().to_str().unwrap()]) {
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
        }
    };
    let mut grey = GrayImage::new(8, 8);
    grey.put_pixel(3, 5, Luma([200]));
    refuse(&save(folder.path(), "unknown.png", grey), &["label 200", "(3, 5)", "1 skin"]);
    // The labels of another style under the same numbers.
    let (name, others) = ("adventurer.png", Style::named("adventurer").unwrap().labels().to_vec());
    let earrings = others.iter().find(|l| l.name == "earrings").unwrap();
    let map = LabelMap { size: 8, labels: vec![earrings.index; 64] };
    write_label_png(&folder.path().join(name), &map, &others).unwrap();
    refuse(&folder.path().join(name), &["the colour #", "(0, 0)", "2 clothes"]);
    let photograph = RgbImage::from_fn(8, 8, |x, y| Rgb([x as u8 * 30, y as u8 * 30, 77]));
    refuse(&save(folder.path(), "photograph.png", photograph), &["the colour #00004d"]);
    refuse(&save(folder.path(), "deep.png", DynamicImage::new_luma16(8, 8)), &["16 bits"]);
    fs::write(folder.path().join("x.png"), "text").unwrap();
    refuse(&folder.path().join("x.png"), &["not a PNG"]);
}

#[test]
fn a_label_list_with_a_gap_or_a_colour_twice_is_refused() {
    let images = tempfile::tempdir().unwrap();
    save(images.path(), "a.png", RgbImage::new(8, 8));
    let open = |labels: &[Label]| {
        let folder = ImageFolder::open(images.path(), 8, 1 << 20).unwrap();
        folder.with_label_maps(Some(images.path()), labels).map(|_| ()).unwrap_err().to_string()
    };
    let label = |index, color| Label { index, name: format!("part {index}"), color };
    assert!(open(&[label(0, [0; 3]), label(2, [1; 3])]).contains("numbered in order"));
    assert!(open(&[label(0, [0; 3]), label(1, [0; 3])]).contains("no other label"));
}

#[test]
fn folders_deliver_the_maps_of_their_images_in_memory_and_from_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("set");
    let (style, split) = ("avataaars".to_owned(), Split::Train);
    let options = DatasetOptions { style, size: 16, count: 6, split, masks: true, seed: 4, out: out.clone() };
    write_dataset(&options, |_| {}).unwrap();
    let set = portraits(16);
    for budget in [0, 1 << 20] {
        let images = ImageFolder::open(&out, 16, budget).unwrap().with_label_maps(None, &[]).unwrap();
        assert_eq!(images.labels(), labels());
        for index in 0..6 {
            let (picture, map) = images.picture_and_map(index).unwrap();
            assert!(picture == set.picture(index).unwrap() && map == set.mask(index).unwrap(), "{index}");
        }
    }
    // A plain folder needs both named, and a map for each image.
    let images = out.join("images");
    let plain = || ImageFolder::open(&images, 16, 0).unwrap();
    assert!(plain().with_label_maps(None, &labels()).map(|_| ()).unwrap_err().to_string().contains("no label maps"));
    let masks = out.join("masks");
    assert!(
        plain().with_label_maps(Some(&masks), &[]).map(|_| ()).unwrap_err().to_string().contains("list of its labels")
    );
    plain().with_label_maps(Some(&masks), &labels()).unwrap();
    fs::remove_file(masks.join("000003.png")).unwrap();
    let error = plain().with_label_maps(Some(&masks), &labels()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("000003.png"), "{error}");
}

#[test]
fn a_batch_mirrors_maps_with_their_images() {
    let dataset = Arc::new(Dataset::Portraits(portraits(16)));
    let options = LoaderOptions { batch_size: 6, flip: true, label_maps: true, ..LoaderOptions::default() };
    let batch = Loader::new(Arc::clone(&dataset), options).unwrap().next_batch().unwrap();
    assert!(batch.flipped.contains(&true) && batch.flipped.contains(&false));
    for (i, (&index, &flipped)) in batch.indices.iter().zip(&batch.flipped).enumerate() {
        let (picture, map) = dataset.picture_and_map(index).unwrap();
        let mut image = vec![0.0; 16 * 16 * 3];
        picture.write_f32(flipped, &mut image);
        assert!(batch.images[i * image.len()..][..image.len()] == image[..]);
        assert!(batch.labels[i * 256..][..256] == map.flipped(flipped).labels[..]);
    }
    let without = LoaderOptions { label_maps: false, ..options };
    assert!(Loader::new(dataset, without).unwrap().next_batch().unwrap().labels.is_empty());
}
