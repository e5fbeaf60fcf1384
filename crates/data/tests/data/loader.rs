//! The prefetching loader: order, resuming, flips, errors and its end.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use swinstyle_data::avatars::{PortraitSet, Renderer, Split, Style};
use swinstyle_data::picture::{Picture, write_png};
use swinstyle_data::{Batch, Dataset, ImageFolder, Loader, LoaderOptions};

fn portraits(count: u64) -> Arc<Dataset> {
    let renderer = Renderer::new(&Style::named("avataaars").unwrap(), 16).unwrap();
    Arc::new(Dataset::Portraits(PortraitSet::new(renderer, 1, Split::Train, count).unwrap()))
}

fn options() -> LoaderOptions {
    LoaderOptions { batch_size: 5, seed: 3, shuffle: true, flip: true, label_maps: false, threads: 2, prefetch: 3 }
}

fn take(loader: &mut Loader, batches: usize) -> Vec<Batch> {
    (0..batches).map(|_| loader.next_batch().unwrap()).collect()
}

#[test]
fn batches_do_not_depend_on_threads_or_prefetch() {
    let mut reference = Loader::new(portraits(13), LoaderOptions { threads: 1, prefetch: 1, ..options() }).unwrap();
    let reference = take(&mut reference, 12);
    for (threads, prefetch) in [(1, 4), (4, 2), (3, 16)] {
        let mut loader = Loader::new(portraits(13), LoaderOptions { threads, prefetch, ..options() }).unwrap();
        assert!(take(&mut loader, 12) == reference, "{threads} threads, {prefetch} ahead");
    }
}

#[test]
fn a_loader_that_seeks_to_a_saved_position_goes_on_bit_for_bit() {
    let mut loader = Loader::new(portraits(13), options()).unwrap();
    let first = take(&mut loader, 4);
    let position = loader.position();
    assert_eq!(position, 20, "four batches of five images");
    let rest = take(&mut loader, 5);
    let mut resumed = Loader::new(portraits(13), options()).unwrap();
    resumed.seek(position);
    assert!(take(&mut resumed, 5) == rest);
    resumed.seek(0);
    assert!(take(&mut resumed, 4) == first, "backwards too");
    for _ in 0..50 {
        resumed.seek(position);
        resumed.seek(10);
    }
    assert!(take(&mut resumed, 2) == first[2..], "batches begun before a seek are thrown away");
}

#[test]
fn another_batch_size_goes_on_where_the_last_image_was() {
    let images = |batches: Vec<Batch>| -> Vec<(u64, bool)> {
        batches.into_iter().flat_map(|b| b.indices.into_iter().zip(b.flipped)).collect()
    };
    let expected = images(take(&mut Loader::new(portraits(13), options()).unwrap(), 8));
    let mut seen = Vec::new();
    for (batch_size, batches) in [(5, 2), (3, 4), (9, 2)] {
        let mut loader = Loader::new(portraits(13), LoaderOptions { batch_size, ..options() }).unwrap();
        loader.seek(seen.len() as u64);
        seen.extend(images(take(&mut loader, batches)));
        assert_eq!(loader.position(), seen.len() as u64);
    }
    assert_eq!(seen, expected[..40]);
}

#[test]
fn each_epoch_visits_every_image_once_in_an_order_of_its_own() {
    let mut loader = Loader::new(portraits(20), options()).unwrap();
    let epochs: Vec<Vec<u64>> =
        (0..3).map(|_| take(&mut loader, 4).into_iter().flat_map(|batch| batch.indices).collect()).collect();
    for epoch in &epochs {
        assert_eq!(epoch.iter().collect::<BTreeSet<_>>().len(), 20);
    }
    assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2]);
    let mut plain = Loader::new(portraits(8), LoaderOptions { shuffle: false, ..options() }).unwrap();
    let indices: Vec<u64> = take(&mut plain, 2).into_iter().flat_map(|batch| batch.indices).collect();
    assert_eq!(indices, [0, 1, 2, 3, 4, 5, 6, 7, 0, 1], "batches run across the end of an epoch");
}

#[test]
fn images_are_the_data_sets_pictures_in_minus_one_to_one_and_half_are_flipped() {
    let dataset = portraits(50);
    let mut loader = Loader::new(Arc::clone(&dataset), options()).unwrap();
    let mut flips = 0;
    for batch in take(&mut loader, 40) {
        assert_eq!(batch.images.len(), 5 * 16 * 16 * 3);
        for (i, image) in batch.images.chunks_exact(16 * 16 * 3).enumerate() {
            let mut expected = vec![0.0; 16 * 16 * 3];
            dataset.picture(batch.indices[i]).unwrap().write_f32(batch.flipped[i], &mut expected);
            assert!(image == expected);
            flips += usize::from(batch.flipped[i]);
        }
    }
    // 200 fair coins: within six standard deviations.
    assert!(flips.abs_diff(100) < 43, "{flips}");
    let mut straight = Loader::new(dataset, LoaderOptions { flip: false, ..options() }).unwrap();
    assert!(take(&mut straight, 10).iter().all(|batch| !batch.flipped.contains(&true)));
}

#[test]
fn folders_give_the_same_batches_from_memory_and_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    for shade in 0..7 {
        write_png(&folder.path().join(format!("{shade}.png")), &Picture::filled(20, 20, [shade * 30; 3])).unwrap();
    }
    let batches = |budget| {
        let dataset = Dataset::Folder(ImageFolder::open(folder.path(), 16, budget).unwrap());
        take(&mut Loader::new(Arc::new(dataset), options()).unwrap(), 6)
    };
    assert!(batches(0) == batches(1 << 20));
}

#[test]
fn an_error_reaches_the_caller_and_the_loader_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    write_png(&path, &Picture::filled(20, 20, [9; 3])).unwrap();
    let dataset = Dataset::Folder(ImageFolder::open(folder.path(), 16, 0).unwrap());
    let mut loader = Loader::new(Arc::new(dataset), LoaderOptions { prefetch: 1, threads: 1, ..options() }).unwrap();
    loader.next_batch().unwrap();
    fs::remove_file(&path).unwrap();
    let errors: Vec<String> = (0..3).filter_map(|_| loader.next_batch().err()).map(|error| error.to_string()).collect();
    assert!(errors.len() >= 2, "one batch may have been ready before");
    assert!(errors[0].contains("holds no usable image") && errors[0].contains("a.png"), "{}", errors[0]);
    write_png(&path, &Picture::filled(20, 20, [9; 3])).unwrap();
    assert!((0..3).filter(|_| loader.next_batch().is_ok()).count() >= 2);
}

#[test]
fn dropping_a_busy_loader_ends_its_threads() {
    let dataset = portraits(1000);
    for taken in [0, 1, 7] {
        let mut loader =
            Loader::new(Arc::clone(&dataset), LoaderOptions { threads: 4, prefetch: 8, ..options() }).unwrap();
        take(&mut loader, taken);
        std::thread::sleep(Duration::from_millis(5));
        drop(loader);
        assert_eq!(Arc::strong_count(&dataset), 1, "a thread still holds the data set");
    }
}

#[test]
fn nothing_to_do_is_refused() {
    for bad in [
        LoaderOptions { batch_size: 0, ..options() },
        LoaderOptions { threads: 0, ..options() },
        LoaderOptions { prefetch: 0, ..options() },
    ] {
        assert!(Loader::new(portraits(3), bad).is_err());
    }
}
