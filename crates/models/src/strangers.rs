//! Files that hold tensors and no model that can be read: what they are, by the names in them, and what to do now.

use swinstyle_weights::Archive;

/// A kind of file, and how it is told.
struct Kind {
    /// Parts of names, one of which a name must hold (`^` at its beginning, after the name of a dict that is saved around a network).
    signs: &'static [&'static str],
    /// What it is, with an article.
    is: &'static str,
    way_out: &'static str,
}

/// In the order in which they are asked for: what holds another network is told by the outer one.
const KINDS: [Kind; 13] = [
    Kind {
        signs: &[
            "^decoder.input.",
            "^decoder.conv1.",
            "^decoder.style.",
            "^decoder.module.",
            "^encoder.input_layer.",
            "^encoder.body.",
            "^encoder.module.",
        ],
        is: "a pSp, e4e, ReStyle or style-transformer checkpoint: an encoder with its decoder",
        way_out: "its generator can be taken out in Python: torch.save({\"g_ema\": {k[8:]: v for k, v in ckpt[\"state_dict\"].items() if \
                  k.startswith(\"decoder.\")}, \"latent_avg\": ckpt[\"latent_avg\"][0]}, \"generator.pt\")",
    },
    Kind {
        signs: &["^module."],
        is: "a network saved from inside torch.nn.DataParallel",
        way_out: "take `module.` off the names in Python: torch.save({\"g_ema\": {k.removeprefix(\"module.\"): v for k, v in \
                  ckpt[\"g_ema\"].items()}}, \"generator.pt\")",
    },
    Kind {
        signs: &["^synthesis.L0_", "^synthesis.input."],
        is: "a StyleGAN3 generator",
        way_out: "StyleGAN2 generators alone can be read",
    },
    Kind {
        signs: &["^synthesis.b4.", "^mapping.fc0."],
        is: "a StyleGAN2-ADA network under NVIDIA's own names",
        way_out: "save it under the names of the common PyTorch port (`input.input`, `convs.0.conv.weight`), then it can be read",
    },
    Kind {
        signs: &["^G_synthesis", "^G_mapping"],
        is: "a StyleGAN of TensorFlow",
        way_out: "convert it to the common PyTorch port first (its convert_weight.py)",
    },
    Kind {
        signs: &["^w_plus"],
        is: "a code, as `swinstyle invert` writes it",
        way_out: "give it to `edit`, `mix` or `interpolate` as an input; a model file goes here",
    },
    Kind {
        signs: &["^direction"],
        is: "a direction of editing",
        way_out: "give it to `edit --direction`; a model file goes here",
    },
    Kind {
        signs: &["^lin0.model."],
        is: "the linear heads of LPIPS",
        way_out: "they go into a training's `loss.lpips_weights`",
    },
    Kind {
        signs: &["^body.0.res_layer."],
        is: "an IR-SE network (ArcFace, or a bare pSp encoder)",
        way_out: "ArcFace goes into a training's `loss.identity_weights`",
    },
    Kind {
        signs: &["^features.0.weight", "^classifier."],
        is: "a network of image classification (VGG, AlexNet)",
        way_out: "it goes into a training's `loss.lpips_weights`",
    },
    Kind {
        signs: &["^final_linear.0.weight", "^convs.0.0.weight"],
        is: "a StyleGAN2 discriminator without its generator",
        way_out: "a checkpoint with `g_ema` goes here",
    },
    Kind {
        signs: &["^generator.input.input"],
        is: "tensors of a model of this program without its header",
        way_out: "use the file as this program wrote it: the header in its metadata was lost",
    },
    Kind {
        signs: &["lora_", "^model.diffusion_model.", "^unet.", "^down_blocks.", "^transformer_blocks."],
        is: "a diffusion model or a part of one",
        way_out: "StyleGAN2 generators alone can be read",
    },
];

/// Dicts that trainers save around a network.
const AROUND: [&str; 8] = ["g_ema.", "G_ema.", "G.", "g.", "d.", "state_dict.", "model.", "params_ema."];

/// How many names a message quotes.
const QUOTED: usize = 3;

/// One sentence: what the file is, some of the names in it, and the way out.
pub(crate) fn explain(archive: &Archive) -> String {
    let names: Vec<&str> = archive.arrays.keys().map(String::as_str).collect();
    let found = KINDS.iter().find_map(|kind| {
        let signs: Vec<&&str> = names.iter().filter(|name| kind.signs.iter().any(|sign| holds(name, sign))).collect();
        (!signs.is_empty()).then(|| (kind, quoted(signs.into_iter().copied())))
    });
    match found {
        Some((kind, names)) => format!("it is {} (it holds {names}); {}", kind.is, kind.way_out),
        None => format!(
            "it is neither a model of this program nor a StyleGAN2 generator of the common PyTorch port: {} tensors ({}), and no `input.input` \
             or `g_ema.input.input` among them",
            names.len(),
            quoted(names.iter().copied())
        ),
    }
}

fn holds(name: &str, sign: &str) -> bool {
    let Some(start) = sign.strip_prefix('^') else { return name.contains(sign) };
    name.starts_with(start) || AROUND.iter().any(|a| name.strip_prefix(a).is_some_and(|inner| inner.starts_with(start)))
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let short = |name: &str| name.chars().take(60).collect::<String>();
    let mut some: Vec<String> = names.take(QUOTED + 1).map(|n| format!("`{}`", short(n))).collect();
    if some.len() > QUOTED {
        some[QUOTED] = "…".to_string();
    }
    some.join(", ")
}

#[cfg(test)]
mod tests {
    use swinstyle_tensor::Device;
    use swinstyle_weights::Array;

    use super::*;
    use crate::Model;

    fn refusal(names: &[&str]) -> String {
        let mut archive = Archive::new();
        for name in names {
            archive.arrays.insert(name.to_string(), Array::new(vec![1], vec![0.0]).unwrap());
        }
        Model::from_archive(&archive, Device::Cpu).unwrap_err().to_string()
    }

    #[test]
    fn files_of_others_are_called_by_their_kind_with_names_and_the_way_out() {
        for (names, kind, way_out) in [
            (&["g_ema.module.input.input", "g_ema.module.conv1.conv.weight"][..], "DataParallel", "removeprefix"),
            (&["module.input.input"], "DataParallel", "removeprefix"),
            (&["state_dict.decoder.input.input", "latent_avg"], "pSp, e4e", "k.startswith(\"decoder.\")"),
            (&["state_dict.encoder.module.body.0.res_layer.0.weight"], "style-transformer", "torch.save"),
            (&["G_ema.synthesis.b4.const"], "StyleGAN2-ADA", "common PyTorch port"),
            (&["synthesis.L0_36_512.weight"], "StyleGAN3", "StyleGAN2 generators alone"),
            (&["w_plus"], "a code", "interpolate"),
            (&["direction"], "a direction", "--direction"),
            (&["lin0.model.1.weight"], "LPIPS", "loss.lpips_weights"),
            (&["body.0.res_layer.0.weight"], "ArcFace", "loss.identity_weights"),
            (&["d.final_linear.0.weight"], "discriminator", "g_ema"),
            (&["a", "b", "c", "d", "e"], "5 tensors (`a`, `b`, `c`, …)", "input.input"),
            (&[], "0 tensors", "input.input"),
        ] {
            let line = refusal(names);
            assert!(line.starts_with("weights in memory: model: it is "), "{line}");
            assert!(line.contains(kind) && line.contains(way_out), "{line}");
        }
    }
}
