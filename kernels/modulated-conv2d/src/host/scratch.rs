//! Working memory from the pool of host memory.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
};

use swinstyle_tensor::{HostBuffer, Result};

use super::vector::Real;

/// Scratch memory that starts on a cache line, so that aligned vectors never straddle two.
pub(crate) struct Scratch<T: Real> {
    buffer: HostBuffer<T>,
    start: usize,
    len: usize,
}

impl<T: Real> Scratch<T> {
    /// `len` elements with arbitrary contents.
    pub(crate) fn new(op: &'static str, len: usize) -> Result<Self> {
        const LINE: usize = 64;
        let buffer = HostBuffer::<T>::uninit(op, len + LINE / size_of::<T>())?;
        let start = buffer.as_ptr().align_offset(LINE).min(LINE / size_of::<T>());
        Ok(Self { buffer, start, len })
    }

    pub(crate) fn get(&self) -> &[T] {
        &self.buffer[self.start..self.start + self.len]
    }

    pub(crate) fn get_mut(&mut self) -> &mut [T] {
        &mut self.buffer[self.start..self.start + self.len]
    }
}

/// Equal pieces of scratch memory for the tasks of a loop, taken before it: as many as can be in use at once.
///
/// A task that took its own would ask for more in the one run in which all threads happen to meet, and a loop that has run often would
/// still need fresh memory.
pub(crate) struct Stock<T: Real> {
    op: &'static str,
    len: usize,
    free: Mutex<Vec<Scratch<T>>>,
}

impl<T: Real> Stock<T> {
    /// `count` pieces of `len` elements.
    fn new(op: &'static str, count: usize, len: usize) -> Result<Self> {
        let free = (0..count).map(|_| Scratch::new(op, len)).collect::<Result<_>>()?;
        Ok(Self { op, len, free: Mutex::new(free) })
    }

    /// A piece for each thread, for tasks that hold one only where they wait for no others.
    pub(crate) fn of_threads(op: &'static str, tasks: usize, len: usize) -> Result<Self> {
        Self::new(op, tasks.min(rayon::current_num_threads()), len)
    }

    /// A piece for each task that may have begun: with `waits`, tasks wait for others while they hold theirs, and a thread that waits may
    /// begin any of them.
    pub(crate) fn of_tasks(op: &'static str, tasks: usize, waits: bool, len: usize) -> Result<Self> {
        if waits { Self::new(op, tasks, len) } else { Self::of_threads(op, tasks, len) }
    }

    /// A piece with arbitrary contents, until it is dropped.
    pub(crate) fn take(&self) -> Result<Piece<'_, T>> {
        let kept = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let scratch = match kept {
            Some(scratch) => scratch,
            None => Scratch::new(self.op, self.len)?,
        };
        Ok(Piece { stock: self, scratch: Some(scratch) })
    }
}

/// A piece of a [`Stock`].
pub(crate) struct Piece<'a, T: Real> {
    stock: &'a Stock<T>,
    /// There until it goes back.
    scratch: Option<Scratch<T>>,
}

impl<T: Real> Deref for Piece<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        self.scratch.as_ref().map_or(&[], Scratch::get)
    }
}

impl<T: Real> DerefMut for Piece<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.scratch.as_mut().map_or(&mut [], Scratch::get_mut)
    }
}

impl<T: Real> Drop for Piece<'_, T> {
    fn drop(&mut self) {
        self.stock.free.lock().unwrap_or_else(PoisonError::into_inner).extend(self.scratch.take());
    }
}
