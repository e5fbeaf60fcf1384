//! Keys of ablations' files.

use super::{
    Absent::{Error, Is},
    Key,
    Values::{Path, Rows, Texts},
    values::{ANY_SEED, EDGE, IMAGES, MOST_SEED, from, whole, wholes},
};

pub(super) const KEYS: &[Key] = &[
    Key::new("generator", Path, Error, "The generator that all rows invert into; relative to this file."),
    Key::new("base", Path, Error, "The encoder configuration that all rows start from; relative to this file."),
    Key::new("set", Texts, Is("[]"), "Overrides of all rows, as with `train encoder --set`."),
    Key::new("seeds", wholes(0, MOST_SEED, 1, 1000), Is("[1]"), "Each row is trained once with each of these."),
    Key::new("heldout.seed", ANY_SEED, Is("2024"), "Seed of the portraits that are measured on."),
    Key::new("heldout.images", whole(2, 100_000), Is("256"), "How many of them."),
    Key::new("classifier.images", IMAGES, Is("24_000"), "Training images of the attribute classifier."),
    Key::new("classifier.batch", EDGE, Is("32"), "Images a step of it."),
    Key::new(
        "classifier.learning_rate",
        from(0.0, 1e6),
        Is("2e-3"),
        "AdamW's learning rate; falls to 0 as half a cosine.",
    ),
    Key::new(
        "classifier.width",
        whole(1, 256),
        Is("16"),
        "Channels of the first layer; each halving of the map doubles them, up to eight times as many.",
    ),
    Key::new("classifier.features", whole(1, 8192), Is("64"), "Length of the features before the classes."),
    Key::new(
        "rows",
        Rows,
        Error,
        "The encoders, in the order of the table: id (letters, digits and dashes), name, set (overrides), and after: the row whose overrides come before.",
    ),
];
