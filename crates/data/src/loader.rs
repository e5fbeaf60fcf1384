//! Batches made on threads ahead of the training step, in an order that follows from (seed, place) alone: the place in the endless sequence of
//! epochs, counted in images, so that a run may go on with another batch size.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::avatars::PortraitSet;
use crate::folder::{BadFile, ImageFolder};
use crate::label_map::{Label, LabelMap};
use crate::picture::Picture;
use crate::random::{Permutation, key};
use crate::{DataError, Result};

/// Where images come from; both kinds give square pictures of one size by number.
pub enum Dataset {
    /// Files of a folder.
    Folder(ImageFolder),
    /// Portraits, drawn when they are asked for.
    Portraits(PortraitSet),
}

impl Dataset {
    /// How many images there are; at least 1.
    pub fn count(&self) -> u64 {
        match self {
            Dataset::Folder(folder) => folder.count(),
            Dataset::Portraits(portraits) => portraits.count(),
        }
    }

    /// The side of every image, in pixels.
    pub fn size(&self) -> usize {
        match self {
            Dataset::Folder(folder) => folder.size(),
            Dataset::Portraits(portraits) => portraits.renderer().size(),
        }
    }

    /// The image number `index`, which is below [`Self::count`], as bytes.
    ///
    /// # Errors
    /// Those of [`ImageFolder::picture`] and [`PortraitSet::picture`].
    pub fn picture(&self, index: u64) -> Result<Picture> {
        match self {
            Dataset::Folder(folder) => folder.picture(index),
            Dataset::Portraits(portraits) => portraits.picture(index),
        }
    }

    /// What the same data are known by: equal for equal content, wherever it lies.
    pub fn fingerprint(&self) -> String {
        match self {
            Dataset::Folder(folder) => folder.fingerprint(),
            Dataset::Portraits(portraits) => portraits.fingerprint(),
        }
    }

    /// Files that are left out so far, in order of their paths.
    pub fn left_out(&self) -> Vec<BadFile> {
        match self {
            Dataset::Folder(folder) => folder.bad_files(),
            Dataset::Portraits(_) => Vec::new(),
        }
    }

    /// How many files are left out so far.
    pub fn left_out_count(&self) -> usize {
        match self {
            Dataset::Folder(folder) => folder.bad_count(),
            Dataset::Portraits(_) => 0,
        }
    }

    /// The labels of the images' label maps; none where there are no maps.
    pub fn labels(&self) -> &[Label] {
        match self {
            Dataset::Folder(folder) => folder.labels(),
            Dataset::Portraits(portraits) => portraits.renderer().style().labels(),
        }
    }

    /// The image number `index` with its label map.
    ///
    /// # Errors
    /// Those of [`ImageFolder::picture_and_map`] and [`PortraitSet::mask`].
    pub fn picture_and_map(&self, index: u64) -> Result<(Picture, LabelMap)> {
        match self {
            Dataset::Folder(folder) => folder.picture_and_map(index),
            Dataset::Portraits(portraits) => Ok((portraits.picture(index)?, portraits.mask(index)?)),
        }
    }
}

/// How batches are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Images in a batch.
    pub batch_size: usize,
    /// The seed of the order and of the flips.
    pub seed: u64,
    /// Whether each epoch has an order of its own; else every epoch runs from the first image to the last.
    pub shuffle: bool,
    /// Whether half of the images, chosen anew in each epoch, are mirrored left to right.
    pub flip: bool,
    /// Whether batches hold the images' label maps too.
    pub label_maps: bool,
    /// Threads that make batches.
    pub threads: usize,
    /// Batches that may be ready or in the making at once.
    pub prefetch: usize,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self { batch_size: 16, seed: 0, shuffle: true, flip: false, label_maps: false, threads: 2, prefetch: 4 }
    }
}

/// The images of one training step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The place of its first image in the endless sequence of epochs.
    pub first: u64,
    /// The images in `[-1, 1]`.
    pub images: Vec<f32>, // [N, H, W, 3]
    /// The images' label maps, if they were asked for; mirrored like the images.
    pub labels: Vec<u8>, // [N, H, W]
    /// The number in the data set of each image.
    pub indices: Vec<u64>, // [N]
    /// Which of the images are mirrored.
    pub flipped: Vec<bool>, // [N]
}

/// Which image stands at a place of the endless sequence of epochs.
struct Order {
    count: u64,
    options: LoaderOptions,
}

impl Order {
    const SHUFFLE: u64 = 1;
    const FLIP: u64 = 2;

    fn at(&self, place: u64) -> (u64, bool) {
        let (epoch, within) = (place / self.count, place % self.count);
        let index = match self.options.shuffle {
            true => Permutation::new(self.count, key(&[self.options.seed, Self::SHUFFLE, epoch])).at(within),
            false => within,
        };
        let flip = self.options.flip && key(&[self.options.seed, Self::FLIP, place]) & 1 == 1;
        (index, flip)
    }

    fn batch(&self, dataset: &Dataset, first: u64) -> Result<Batch> {
        let (batch_size, size) = (self.options.batch_size, dataset.size());
        let mut batch = Batch {
            first,
            images: vec![0.0; batch_size * size * size * 3],
            labels: Vec::new(),
            indices: Vec::new(),
            flipped: Vec::new(),
        };
        for (i, image) in batch.images.chunks_exact_mut(size * size * 3).enumerate() {
            let (index, flip) = self.at(first + i as u64);
            let picture = match self.options.label_maps {
                true => {
                    let (picture, map) = dataset.picture_and_map(index)?;
                    batch.labels.extend(map.flipped(flip).labels);
                    picture
                }
                false => dataset.picture(index)?,
            };
            picture.write_f32(flip, image);
            batch.indices.push(index);
            batch.flipped.push(flip);
        }
        Ok(batch)
    }
}

/// What the threads and the caller share.
struct Queue {
    state: Mutex<State>,
    /// A batch is ready.
    ready: Condvar,
    /// There is room for another batch, or the position has moved, or the loader is closed.
    room: Condvar,
}

struct State {
    /// The place of the first image of the batch that the caller gets next.
    position: u64,
    /// The same of the batch that a thread makes next.
    next: u64,
    finished: BTreeMap<u64, Result<Batch>>,
    /// Counts the seeks: a batch begun before one is thrown away.
    generation: u64,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the batches of a data set one after another, made ahead of time.
///
/// The sequence of epochs is endless and batches run across their ends, so every batch is full. Which images a batch
/// holds follows from (seed, place); a loader that seeks to a saved [`Self::position`] goes on bit for bit.
pub struct Loader {
    queue: Arc<Queue>,
    batch_size: u64,
    threads: Vec<JoinHandle<()>>,
}

impl Loader {
    /// Starts the threads at the first image.
    ///
    /// # Errors
    /// [`DataError::InvalidArgument`] for a batch size, thread number or prefetch depth of zero.
    pub fn new(dataset: Arc<Dataset>, options: LoaderOptions) -> Result<Self> {
        let positive =
            [("batch size", options.batch_size), ("loader threads", options.threads), ("prefetch", options.prefetch)];
        if let Some((what, value)) = positive.into_iter().find(|&(_, value)| value == 0) {
            return Err(DataError::argument(what, value, "at least 1"));
        }
        let state = State { position: 0, next: 0, finished: BTreeMap::new(), generation: 0, closed: false };
        let queue = Arc::new(Queue { state: Mutex::new(state), ready: Condvar::new(), room: Condvar::new() });
        let batch_size = options.batch_size as u64;
        let mut loader = Self { queue: Arc::clone(&queue), batch_size, threads: Vec::new() };
        for number in 0..options.threads {
            let (queue, dataset) = (Arc::clone(&queue), Arc::clone(&dataset));
            let order = Order { count: dataset.count(), options };
            let thread = std::thread::Builder::new().name(format!("loader-{number}"));
            let thread = thread.spawn(move || make_batches(&queue, &dataset, &order));
            // On an error `loader` is dropped here, which ends the threads that did start.
            let refused = |error: std::io::Error| {
                DataError::argument(
                    "loader threads",
                    options.threads,
                    format!("as many as the system allows ({error})"),
                )
            };
            loader.threads.push(thread.map_err(refused)?);
        }
        Ok(loader)
    }

    /// The next batch; waits until it is ready.
    ///
    /// # Errors
    /// What went wrong with this batch. The position is past it then: the next call gives the next batch.
    pub fn next_batch(&mut self) -> Result<Batch> {
        let mut state = self.queue.lock();
        loop {
            let position = state.position;
            if let Some(batch) = state.finished.remove(&position) {
                state.position += self.batch_size;
                self.queue.room.notify_all();
                return batch;
            }
            state = self.queue.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The place of the image that [`Self::next_batch`] begins with next: save this to resume, with whatever batch size.
    pub fn position(&self) -> u64 {
        self.queue.lock().position
    }

    /// Goes to a place, forwards or back.
    pub fn seek(&mut self, place: u64) {
        let mut state = self.queue.lock();
        state.position = place;
        state.next = place;
        state.finished.clear();
        state.generation += 1;
        self.queue.room.notify_all();
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.room.notify_all();
        for thread in self.threads.drain(..) {
            // A thread catches the panics of the work that it does; there is nothing left to tell here.
            let _ = thread.join();
        }
    }
}

/// A loader thread's life: claim a place, make its batch outside the lock, hand it in.
fn make_batches(queue: &Queue, dataset: &Dataset, order: &Order) {
    let batch_size = order.options.batch_size as u64;
    let ahead = batch_size.saturating_mul(order.options.prefetch as u64);
    let mut state = queue.lock();
    loop {
        if state.closed {
            return;
        }
        if state.next >= state.position.saturating_add(ahead) {
            state = queue.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        let (place, generation) = (state.next, state.generation);
        state.next += batch_size;
        drop(state);
        // A panic must reach the caller as an error: without it, it would wait for this batch for ever.
        let batch = catch_unwind(AssertUnwindSafe(|| order.batch(dataset, place)))
            .unwrap_or_else(|panic| Err(DataError::LoaderPanic { place, reason: panic_message(&*panic) }));
        state = queue.lock();
        if state.generation == generation {
            state.finished.insert(place, batch);
            queue.ready.notify_all();
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown panic".to_owned())
}
