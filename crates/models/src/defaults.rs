//! Defaults of configuration fields that files leave out.

pub(crate) fn one() -> usize {
    1
}

pub(crate) fn is_one(value: &usize) -> bool {
    *value == 1
}

/// Whether a field has its default: files without it stay as they were before the field existed.
pub(crate) fn usual<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
