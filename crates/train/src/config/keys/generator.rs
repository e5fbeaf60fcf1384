//! Keys of generators' files: `[model]`, `[loss]`, `[augment]`.

use super::{
    Absent::{Is, Nothing},
    Key,
    Values::{Groups, PowerOfTwo},
    values::{CHANNEL_BASE, EDGE, EVERY, IMAGES, STEPS, WEIGHT, above, from, share, whole},
};

pub(super) const KEYS: &[Key] = &[
    Key::new("model.size", PowerOfTwo(8, 4096), Is("64"), "Pixels of an edge of the image."),
    Key::new("model.style_dim", EDGE, Is("64"), "Length of z and w."),
    Key::new("model.mapping_layers", whole(0, 64), Is("4"), "Layers of the mapping network."),
    Key::new(
        "model.mapping_lr_multiplier",
        above(0.0, 100.0),
        Is("0.01"),
        "Learning-rate multiplier of the mapping network.",
    ),
    Key::new("model.channel_base", CHANNEL_BASE, Is("1024"), "Channels are min(base / resolution, max)."),
    Key::new("model.channel_max", EDGE, Is("64"), "See channel_base."),
    Key::new("model.discriminator_base", CHANNEL_BASE, Is("1024"), "The discriminator's channel_base."),
    Key::new("model.discriminator_max", EDGE, Is("64"), "The discriminator's channel_max."),
    Key::new(
        "model.stddev_group",
        EDGE,
        Is("4"),
        "Group of the minibatch standard deviation; it divides a part of the batch.",
    ),
    Key::new("loss.r1_gamma", WEIGHT, Is("1.0"), "Weight γ of R1: its loss is γ/2 · R1."),
    Key::new("loss.r1_interval", EVERY, Is("16"), "Steps between R1 steps; 0 for none."),
    Key::new("loss.path_length_weight", WEIGHT, Is("2.0"), "Weight of the path-length penalty; 0 leaves it out."),
    Key::new("loss.path_length_decay", share(), Is("0.01"), "Rate of the running mean of path lengths."),
    Key::new("loss.path_length_interval", EVERY, Is("8"), "Steps between path-length steps; 0 for none."),
    Key::new("loss.path_length_batch_shrink", EDGE, Is("2"), "The path-length batch is the batch divided by this."),
    Key::new("loss.style_mixing", share(), Is("0.5"), "Probability that a batch mixes the styles of two codes."),
    Key::new(
        "loss.ema_half_life",
        from(0.0, 1e12),
        Is("5000.0"),
        "Images over which the averaged weights forget half; 0 keeps no average. There is no ramp at the start.",
    ),
    Key::new(
        "augment.kind",
        Groups,
        Is("\"bgc\""),
        "Transformations of what the discriminator sees: letters of \"bgc\", or a list of \"blit\", \"geometric\" and \"colour\".",
    ),
    Key::new(
        "augment.target",
        from(-1.0, 1.0),
        Is("0.6"),
        "r_t that p is steered to: the mean sign of the discriminator's logits of real images.",
    ),
    Key::new("augment.ada_interval", STEPS, Is("4"), "Steps between adjustments of p."),
    Key::new("augment.ada_images", IMAGES, Is("500_000"), "Real images over which p can go from 0 to 1."),
    Key::new("augment.initial_p", share(), Is("0.0"), "p at the start."),
    Key::new("augment.fixed_p", share(), Nothing("p is steered"), "Keeps p at this value instead of steering it."),
];
