//! Remarks of code that has no output of its own: the program prints them beside a command's result.

use std::sync::{Mutex, PoisonError};

static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Leave a remark, one line without an end.
pub fn note(text: impl Into<String>) {
    let text = text.into();
    let mut notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    // A model that is read twice is remarked on once.
    if !notes.contains(&text) {
        notes.push(text);
    }
}

/// The remarks since the last call.
pub fn take_notes() -> Vec<String> {
    std::mem::take(&mut *NOTES.lock().unwrap_or_else(PoisonError::into_inner))
}
