//! Keys of encoders' files: the objective, the task, and the network.

use super::{
    Absent::{Error, Is, Nothing},
    Key,
    Values::{Choice, Files, Flag, Labels, Path, PowerOfTwo, Windows},
    values::{CHANNEL_BASE, EDGE, EVERY, IMAGES, MOST_IMAGES, WEIGHT, above, from, share, share_below, whole, wholes},
};

const SEGMENTATION: (&str, &str) = ("task.kind", "segmentation");
const SUPER_RESOLUTION: (&str, &str) = ("task.kind", "super-resolution");

pub(super) const KEYS: &[Key] = &[
    Key::new(
        "ema_half_life",
        from(0.0, 1e12),
        Is("2000.0"),
        "Images over which the averaged weights forget half; 0 keeps no average. At the start it is shorter.",
    ),
    Key::new("train_decoder", Flag, Is("false"), "Whether the generator is trained along (pSp's option)."),
    Key::new("loss.l2", WEIGHT, Is("1.0"), "λ of the mean squared error."),
    Key::new(
        "loss.perceptual",
        WEIGHT,
        Is("0.2"),
        "λ of the discriminator-feature distance; the generator's file must hold its discriminator.",
    ),
    Key::new("loss.w_norm", WEIGHT, Is("0.0"), "λ of ‖w − w_avg‖."),
    Key::new("loss.alignment", WEIGHT, Is("0.0"), "λ of the distribution alignment."),
    Key::new(
        "loss.alignment_form",
        Choice(&["pairwise-kl", "latent-kl"]),
        Is("\"pairwise-kl\""),
        "Form of the alignment: neighbourhoods of features, or codes against mapped w as Gaussians.",
    ),
    Key::new("loss.adversarial", WEIGHT, Is("0.0"), "λ of the inversion discriminator's term; it needs [discriminator]."),
    Key::new("loss.delta", WEIGHT, Is("0.0"), "λ of e4e's Σ ‖w_i − w_0‖."),
    Key::new("loss.lpips", WEIGHT, Is("0.0"), "λ of LPIPS; it needs lpips_weights."),
    Key::new(
        "loss.lpips_weights",
        Files,
        Is("[]"),
        "The file or files with LPIPS' trunk and linear heads, looked up from where the program runs.",
    ),
    Key::new("loss.identity", WEIGHT, Is("0.0"), "λ of the identity loss; it needs identity_weights."),
    Key::new("loss.identity_weights", Path, Nothing("no file"), "The file with ArcFace's IR-SE50."),
    Key::new(
        "discriminator.kind",
        Choice(&["image-pair", "latent"]),
        Is("\"image-pair\""),
        "The inversion discriminator: embeddings of inversion and source, or codes and mapped w.",
    ),
    Key::new("discriminator.learning_rate", from(0.0, 1e6), Is("1e-4"), "Learning rate of its Adam, β (0, 0.99)."),
    Key::new("discriminator.r1_gamma", WEIGHT, Is("10.0"), "Weight γ of R1: its loss is γ/2 · R1."),
    Key::new("discriminator.r1_interval", EVERY, Is("16"), "Steps between R1 steps; 0 for none."),
    Key::new("discriminator.layers", whole(1, 64), Is("4"), "latent: hidden layers."),
    Key::new("discriminator.width", EDGE, Is("512"), "latent: their width."),
    Key::new(
        "discriminator.pool",
        whole(0, 100_000),
        Is("50"),
        "latent: codes of earlier steps that the fake side is drawn from; 0 for the batch's own.",
    ),
    Key::new("discriminator.channel_base", CHANNEL_BASE, Is("16_384"), "image-pair: channels are min(base / resolution, max)."),
    Key::new("discriminator.channel_max", EDGE, Is("512"), "See channel_base."),
    Key::new("discriminator.embedding", EDGE, Is("128"), "image-pair: length of the embedding."),
    Key::new("discriminator.momentum", share(), Is("0.999"), "image-pair: share of the slow copy that stays in a step."),
    Key::new("progressive.start_images", whole(0, MOST_IMAGES), Error, "e4e's stages: images with one style for all layers."),
    Key::new("progressive.every_images", IMAGES, Error, "Images of each stage after that, in which one more style is let go."),
    Key::new(
        "task.kind",
        Choice(&["inversion", "segmentation", "super-resolution"]),
        Is("\"inversion\""),
        "What the encoder reads: the image, its label map, or a small version of it.",
    ),
    Key::new(
        "task.maps",
        Path,
        Nothing("the data's own"),
        "The folder of the label maps; portraits, and data sets that `swinstyle data avatars --masks` wrote, have their own.",
    )
    .only(SEGMENTATION),
    Key::new(
        "task.labels",
        Labels,
        Is("[]"),
        "The labels, each { index = 0, name = \"skin\", color = [r, g, b] }; none for those that the data have of their own.",
    )
    .only(SEGMENTATION),
    Key::new("task.min_factor", from(1.0, 32.0), Error, "Least factor by which images are made small.")
        .only(SUPER_RESOLUTION),
    Key::new(
        "task.max_factor",
        from(1.0, 32.0),
        Error,
        "Greatest factor. Each image of each step draws its own, uniformly in its logarithm.",
    )
    .only(SUPER_RESOLUTION),
];

pub(super) const MODEL: &[Key] = &[
    Key::new(
        "model.image_size",
        EDGE,
        Is("64"),
        "Pixels of an edge of the image that is read: backbone.patch times a power of two.",
    ),
    Key::new("model.generator_size", PowerOfTwo(8, 4096), Is("64"), "Pixels of an edge of the generator's image."),
    Key::new("model.style_dim", EDGE, Is("64"), "Length of w; the generator's."),
    Key::new(
        "model.multi_scale",
        Flag,
        Is("true"),
        "Top-down connections between the stages; without them every level reads the last stage alone.",
    ),
    Key::new(
        "model.trunk",
        Choice(&["swin", "ir-se"]),
        Is("\"swin\""),
        "The backbone: Swin, or pSp's convolutional network.",
    ),
    Key::new(
        "model.codes",
        Choice(&["independent", "delta"]),
        Is("\"independent\""),
        "How styles follow from the heads: each gives its own, or what it differs by from the first (e4e).",
    ),
    Key::new(
        "model.refine_steps",
        whole(1, 100),
        Is("1"),
        "Passes of ReStyle's refinement. From 2 on the encoder reads its last inversion too, and backbone.in_channels is 3 more.",
    ),
    Key::new(
        "model.backbone.in_channels",
        whole(1, 4096),
        Is("3"),
        "Channels of the image, or labels of the label map.",
    ),
    Key::new("model.backbone.patch", EDGE, Is("2"), "Pixels of an edge of a patch."),
    Key::new(
        "model.backbone.dims",
        wholes(1, 65_536, 3, 8),
        Is("[48, 96, 192]"),
        "Channels of each stage. The lists of the backbone have one entry a stage.",
    ),
    Key::new("model.backbone.depths", wholes(1, 1000, 3, 8), Is("[2, 2, 2]"), "Blocks of each stage."),
    Key::new(
        "model.backbone.heads",
        wholes(1, 65_536, 3, 8),
        Is("[3, 6, 12]"),
        "Attention heads of each stage; they divide dims.",
    ),
    Key::new(
        "model.backbone.windows",
        Windows,
        Is("[4, 4, 8]"),
        "Attention windows of each stage, in tokens: a number, or [rows, columns].",
    ),
    Key::new(
        "model.backbone.mlp_ratio",
        above(0.0, 64.0),
        Is("4.0"),
        "Hidden width of the MLPs as a multiple of dims.",
    ),
    Key::new(
        "model.backbone.stochastic_depth",
        share_below(),
        Is("0.0"),
        "Probability with which training drops the branches of the last block; earlier blocks' grow linearly from 0.",
    ),
    Key::new(
        "model.map2style.head",
        Choice(&["learnable-query", "self-attention", "convolution"]),
        Is("\"learnable-query\""),
        "What turns a map into a style.",
    ),
    Key::new("model.map2style.width", EDGE, Is("64"), "Channels of the three maps and of the heads' tokens."),
    Key::new("model.map2style.heads", EDGE, Is("2"), "Attention heads; they divide width."),
    Key::new(
        "model.map2style.window",
        PowerOfTwo(1, 256),
        Is("4"),
        "Tokens of an edge of the attention window; smaller maps are one window.",
    ),
    Key::new(
        "model.map2style.mlp_ratio",
        above(0.0, 64.0),
        Is("2.0"),
        "Hidden width of the MLPs as a multiple of width.",
    ),
];
