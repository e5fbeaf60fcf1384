//! Keys of generators' and encoders' files alike: `[run]`, `[data]`, `[optimizer]`.

use super::{
    Absent::{Differs, Error, Is},
    Key,
    Values::{Choice, Flag, Path, Text},
    values::{ANY_SEED, EDGE, IMAGES, MOST_IMAGES, STEPS, above, from, share, share_below, whole, wholes},
};

/// The `[data]` of drawn portraits.
const AVATARS: (&str, &str) = ("data.source", "avatars");
/// The `[data]` of files.
const FOLDER: (&str, &str) = ("data.source", "folder");

pub(super) const KEYS: &[Key] = &[
    Key::new("run.seed", ANY_SEED, Is("1"), "Seed of the initial weights, the order of the images and all noise."),
    Key::new(
        "run.images",
        IMAGES,
        Differs { generator: "400_000", encoder: "100_000" },
        "Training images to show in all. The run ends with the first batch that reaches it, and counts that batch whole.",
    ),
    Key::new("run.batch", EDGE, Is("16"), "Images a step."),
    Key::new(
        "run.accumulate",
        EDGE,
        Is("1"),
        "Parts in which a step's images are computed, their gradients added up: memory for time. It divides run.batch. Terms that compare the \
         images of a batch (alignment, minibatch standard deviation) see one part at a time.",
    ),
    Key::new("run.log_steps", STEPS, Is("25"), "Steps between lines of metrics.jsonl."),
    Key::new("run.sample_images", IMAGES, Is("8_000"), "Images between sample grids."),
    Key::new(
        "run.checkpoint_minutes",
        from(0.0, 100_000.0),
        Is("5.0"),
        "Minutes between checkpoints; there is one at the start and one at the end too.",
    ),
    Key::new("run.keep", whole(1, 10_000), Is("2"), "Checkpoints that are kept."),
    Key::new(
        "run.precision",
        Choice(&["f32", "bf16", "f16"]),
        Is("\"f32\""),
        "Type in which the networks compute. Weights, averages, optimiser, regularisations and the inversion discriminator are f32 in any case.",
    ),
    Key::new(
        "data.source",
        Choice(&["avatars", "folder"]),
        Is("\"avatars\""),
        "Drawn portraits, or a folder of PNG, JPEG and WebP files.",
    ),
    Key::new("data.flip", Flag, Is("false"), "Whether half of the images, chosen anew in each epoch, are mirrored."),
    Key::new(
        "data.style",
        Choice(&swinstyle_data::avatars::Style::NAMES),
        Is("\"avataaars\""),
        "Style of the portraits.",
    )
    .only(AVATARS),
    Key::new("data.seed", ANY_SEED, Is("0"), "Seed of the portraits' picks.").only(AVATARS),
    Key::new("data.count", IMAGES, Is("50_000"), "Number of different portraits.").only(AVATARS),
    Key::new(
        "data.path",
        Path,
        Error,
        "The folder of the images; subfolders are read too. Relative paths are looked up from where the program runs.",
    )
    .only(FOLDER),
    Key::new("data.licence", Text, Is("\"not stated\""), "Licence of the images, recorded in the checkpoints.")
        .only(FOLDER),
    Key::new(
        "data.memory_mib",
        whole(0, 1 << 24),
        Is("512"),
        "MiB of decoded images that may be kept in memory: enough for 40,000 images of 64 px or 2,700 of 256. More are decoded as they are needed, to the same bits.",
    )
    .only(FOLDER),
    Key::new(
        "data.max_broken",
        share(),
        Is("0.5"),
        "Largest share of picture files that may be unreadable or of a kind that is not read; beyond it the training does not start.",
    )
    .only(FOLDER),
    Key::new(
        "optimizer.algorithm",
        Choice(&["adam", "adamw", "radam", "ranger"]),
        Is("\"adamw\""),
        "Adam, Adam with decoupled weight decay, rectified Adam, or that with Lookahead.",
    ),
    Key::new(
        "optimizer.learning_rate",
        from(0.0, 1e6),
        Differs { generator: "2.5e-3", encoder: "8e-4" },
        "Learning rate.",
    ),
    Key::new("optimizer.beta1", share_below(), Differs { generator: "0.0", encoder: "0.9" }, "Adam's β₁."),
    Key::new("optimizer.beta2", share_below(), Is("0.99"), "Adam's β₂."),
    Key::new("optimizer.epsilon", above(0.0, 1.0), Is("1e-8"), "Adam's ε."),
    Key::new(
        "optimizer.weight_decay",
        from(0.0, 1000.0),
        Differs { generator: "0.0", encoder: "0.01" },
        "Weight decay: decoupled, but for adam.",
    ),
    Key::new(
        "optimizer.schedule",
        Choice(&["constant", "cosine", "step"]),
        Differs { generator: "\"constant\"", encoder: "\"cosine\"" },
        "The learning rate after the warm-up: constant, half a cosine down to 0 at run.images, or multiplied by decay_factor at each of decay_images.",
    ),
    Key::new("optimizer.warmup_images", whole(0, MOST_IMAGES), Is("0"), "Images over which the learning rate rises from 0."),
    Key::new(
        "optimizer.decay_images",
        wholes(1, MOST_IMAGES, 0, 1000),
        Is("[]"),
        "Where the schedule `step` falls, in images.",
    ),
    Key::new("optimizer.decay_factor", share(), Is("0.1"), "By what it falls there."),
    Key::new("optimizer.clip_norm", from(0.0, 1e12), Is("0.0"), "Limit of the common norm of all gradients; 0 for none."),
    Key::new("optimizer.lookahead_steps", STEPS, Is("6"), "ranger: fast steps between slow ones."),
    Key::new("optimizer.lookahead_alpha", share(), Is("0.5"), "ranger: how far the slow weights follow."),
    Key::new(
        "optimizer.centralise",
        Flag,
        Is("true"),
        "ranger: take from each gradient its mean over the axes of what an output reads, as pSp does.",
    ),
];
