//! Whole networks of random weights, of many widths.

use swinstyle_kit::testing::assert_same_alone;
use swinstyle_models::{
    Params,
    styleformer::{Head, Styleformer, StyleformerConfig, Trunk},
    stylegan2::{Channels, Generator, GeneratorConfig, Noise},
    swin::Window,
};
use swinstyle_tensor::Device;

use crate::batch;

fn encoder(head: Head, trunk: Trunk, width: usize, dims: [usize; 3]) -> StyleformerConfig {
    let mut c = StyleformerConfig::preset("avatar64-cpu").unwrap();
    (c.image_size, c.generator_size, c.style_dim, c.trunk) = (32, 32, width, trunk);
    (c.backbone.dims, c.backbone.depths, c.backbone.heads) = (dims.to_vec(), vec![2, 1, 1], vec![1, 2, 2]);
    c.backbone.windows = vec![Window::Rectangle([4, 2]), Window::Square(4), Window::Square(4)];
    (c.map2style.head, c.map2style.width, c.map2style.heads) = (head, width, 4);
    c
}

#[test]
fn the_code_of_an_image_is_the_same_in_every_batch() {
    for (head, trunk, width, dims) in [
        (Head::LearnableQuery, Trunk::Swin, 32, [16, 32, 64]),
        (Head::LearnableQuery, Trunk::Swin, 64, [10, 20, 40]),
        (Head::LearnableQuery, Trunk::Swin, 96, [24, 48, 96]),
        (Head::LearnableQuery, Trunk::Swin, 128, [12, 36, 72]),
        (Head::LearnableQuery, Trunk::Swin, 160, [6, 14, 30]),
        (Head::SelfAttention, Trunk::Swin, 64, [16, 32, 64]),
        (Head::Convolution, Trunk::Swin, 64, [16, 32, 66]),
        (Head::LearnableQuery, Trunk::IrSe, 64, [16, 32, 64]),
    ] {
        let encoder = Styleformer::new(encoder(head, trunk, width, dims)).unwrap();
        let p = Params::init(&encoder.specs(), 3, Device::Cpu).unwrap();
        let what = format!("{head:?} of width {width} on {trunk:?} of {dims:?}");
        assert_same_alone(&what, &[&batch("image", &[32, 32, 3])], |x| {
            Ok(encoder.forward(&p, &x[0], None).unwrap().offsets)
        });
    }
}

#[test]
fn the_image_of_a_code_is_the_same_in_every_batch() {
    for (style_dim, channels) in [
        (32, vec![32, 32, 32, 32]),
        (64, vec![64, 64, 33, 17]),
        (96, vec![130, 96, 64, 40]),
        (128, vec![40, 128, 96, 32]),
        (5, vec![160, 70, 36, 3]),
    ] {
        let what = format!("a generator of {channels:?} with w of {style_dim}");
        let config = GeneratorConfig {
            size: 32,
            style_dim,
            mapping_layers: 3,
            mapping_lr_multiplier: 0.01,
            channels: Channels(channels),
        };
        let generator = Generator::new(config).unwrap();
        let p = Params::init(&generator.specs(), 4, Device::Cpu).unwrap();
        let z = batch("z", &[style_dim]);
        assert_same_alone(&what, &[&z], |z| Ok(generator.generate(&p, &z[0], &mut Noise::Fixed).unwrap()));
    }
}
