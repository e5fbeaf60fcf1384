//! Single operations over shapes on both sides of their kernels' limits.

use swinstyle_bias_act::{Activation, bias_act};
use swinstyle_kit::testing::assert_same_alone;
use swinstyle_layer_norm::{layer_norm, normalize};
use swinstyle_modulated_conv2d::{LeakyRelu, ModulatedConv, conv_transpose2d, conv2d_bias_act, styled_conv2d, to_rgb};
use swinstyle_query_attention::{QueryAttention, query_attention, token_query_attention};
use swinstyle_upfirdn2d::{Upfirdn2d, upfirdn2d};
use swinstyle_window_attention::{WindowAttention, shifted_window_attention};

use crate::{batch, data};

/// Rows of an image, columns of the result, summed length: small results, one column, long sums, and on both sides of the library's limits.
const PRODUCTS: [[usize; 3]; 22] = [
    [1, 64, 64],
    [1, 128, 32],
    [1, 32, 700],
    [1, 96, 96],
    [1, 160, 33],
    [1, 300, 5],
    [1, 16, 1],
    [3, 40, 2],
    [2, 7, 300],
    [5, 24, 1030],
    [9, 32, 1100],
    [9, 80, 600],
    [16, 64, 600],
    [64, 64, 513],
    [64, 32, 64],
    [256, 3, 48],
    [1, 1, 40],
    [4, 1, 700],
    [16, 1, 33],
    [64, 1, 512],
    [300, 1, 9],
    [100, 130, 70],
];

#[test]
fn rows_of_products() {
    for [m, n, k] in PRODUCTS {
        let (w, b) = (data("w", &[n, k]), data("b", &[n]));
        let x = batch("x", &[m, k]);
        assert_same_alone(&format!("linear {m} {n} {k}"), &[&x], |x| x[0].linear(&w, None));
        assert_same_alone(&format!("linear with a bias {m} {n} {k}"), &[&x], |x| x[0].linear(&w, Some(&b)));
        let right = data("r", &[k, n]);
        assert_same_alone(&format!("product {m} {n} {k}"), &[&x], |x| x[0].matmul(&right));
        // Groups of equal networks: images are some rows of each.
        let (of_groups, right) = (data("g", &[3, n, k]), data("h", &[3, k, n]));
        for (name, right, transposed) in [("wᵀ", &of_groups, true), ("w", &right, false)] {
            assert_same_alone(&format!("grouped x·{name} {m} {n} {k}"), &[&x], |x| {
                let images = x[0].shape()[0];
                let rows = x[0].reshape(&[1, images * m, k])?.broadcast_to(&[3, images * m, k])?;
                rows.matmul_with(right, false, transposed)?.reshape(&[3, images, m, n])?.permute(&[1, 0, 2, 3])
            });
        }
        // Operands of the images' own.
        let (y, shared) = (batch("y", &[n, k]), data("s", &[m, k]));
        assert_same_alone(&format!("x·yᵀ {m} {n} {k}"), &[&x, &y], |t| t[0].matmul_with(&t[1], false, true));
        assert_same_alone(&format!("shared·yᵀ {m} {n} {k}"), &[&y], |t| shared.matmul_with(&t[0], false, true));
        assert_same_alone(&format!("x·y {m} {n} {k}"), &[&x, &y], |t| t[0].matmul(&t[1].permute(&[0, 2, 1])?));
        assert_same_alone(&format!("xᵀ·y {m} {n} {k}"), &[&x, &y], |t| {
            t[0].permute(&[0, 2, 1])?.matmul_with(&t[1].permute(&[0, 2, 1])?, true, false)
        });
    }
}

#[test]
fn convolutions_of_small_and_large_maps() {
    for (side, i, o, kernel) in [
        (4, 3, 130, 3),
        (4, 130, 64, 3),
        (5, 17, 33, 3),
        (7, 64, 64, 1),
        (8, 96, 32, 3),
        (16, 32, 32, 3),
        (17, 40, 36, 3),
        (16, 33, 3, 1),
        (32, 32, 40, 3),
        (64, 3, 16, 3),
        (12, 16, 5, 5),
    ] {
        let (x, style) = (batch("x", &[side, side, i]), batch("style", &[i]));
        let (w, b, noise) = (data("w", &[kernel, kernel, i, o]), data("b", &[o]), data("n", &[1]));
        for stride in [1, 2] {
            let what = format!("{kernel}×{kernel} {i}→{o} of {side}² every {stride}");
            let activation = Some(LeakyRelu::STYLEGAN2);
            assert_same_alone(&what, &[&x], |x| conv2d_bias_act(&x[0], &w, Some(&b), activation, stride, kernel / 2));
        }
        let fir = data("f", &[4, 4]);
        for (up, down) in [(1, 1), (2, 1), (1, 2)] {
            let conv = ModulatedConv {
                up,
                down,
                demodulate: true,
                eps: 1e-8,
                weight_gain: 0.3,
                fir: (up * down > 1).then_some(&fir),
            };
            let size = side * up / down;
            let map = data("map", &[1, size, size, 1]);
            let noise = (size * down == side * up).then_some((&map, &noise));
            let what = format!("styled {kernel}×{kernel} {i}→{o} of {side}² ·{up}/{down}");
            assert_same_alone(&what, &[&x, &style], |t| {
                styled_conv2d(&t[0], &w, &t[1], &conv, noise, Some(&b), Some(LeakyRelu::STYLEGAN2))
            });
        }
        assert_same_alone("transposed", &[&x], |x| conv_transpose2d(&x[0], &w, 2));
    }
    let (x, style, skip) = (batch("x", &[16, 16, 40]), batch("s", &[40]), batch("y", &[8, 8, 3]));
    let (w, b, fir) = (data("w", &[1, 1, 40, 3]), data("b", &[3]), data("f", &[4, 4]));
    assert_same_alone("to RGB", &[&x, &style, &skip], |t| to_rgb(&t[0], &w, &t[1], 0.2, &b, Some((&t[2], &fir))));
}

#[test]
fn resampling_pooling_and_filters() {
    for (h, w, c) in [(4, 4, 130), (9, 7, 3), (16, 16, 32), (33, 20, 5), (64, 64, 3)] {
        let x = batch("x", &[h, w, c]);
        let what = |name: &str| format!("{name} of {h}×{w}×{c}");
        for (filter, name) in [(data("f", &[4, 4]), "a full filter"), (data("f", &[4]), "a filter of one axis")] {
            for (up, down) in [([1, 1], [1, 1]), ([2, 2], [1, 1]), ([1, 1], [2, 2]), ([3, 2], [1, 2])] {
                let params = Upfirdn2d { up, down, pad: [2, 1, 2, 1], ..Upfirdn2d::default() };
                assert_same_alone(&what(name), &[&x], |x| upfirdn2d(&x[0], &filter, &params));
            }
        }
        assert_same_alone(&what("bilinear"), &[&x], |x| x[0].resize_bilinear(2 * h - 1, w + 3, false));
        assert_same_alone(&what("area"), &[&x], |x| x[0].pool_area((h / 2).max(1), (w / 2).max(1)));
        assert_same_alone(&what("maxima"), &[&x], |x| x[0].max_pool2d(2, 2));
    }
}

#[test]
fn attention_in_windows_and_of_queries() {
    for (h, w, heads, d, window, shift) in [
        (8, 8, 2, 8, [4, 4], [2, 2]),
        (9, 6, 3, 12, [4, 4], [2, 2]),
        (16, 16, 1, 48, [8, 8], [4, 4]),
        (5, 7, 2, 5, [3, 5], [1, 2]),
    ] {
        let c = heads * d;
        let table = (2 * window[0] - 1) * (2 * window[1] - 1);
        let [qkv, proj] = [data("qkv", &[3 * c, c]), data("proj", &[c, c])];
        let (qkv_b, table) = (data("b", &[3 * c]), data("t", &[table, heads]));
        let attention = WindowAttention::new(window, shift, heads, c);
        assert_same_alone(&format!("windows of {window:?} on {h}×{w}"), &[&batch("x", &[h, w, c])], |x| {
            shifted_window_attention(&x[0], &qkv, Some(&qkv_b), &proj, None, &table, &attention)
        });
    }
    for (m, n, heads, d) in [(1, 1, 1, 8), (10, 64, 8, 8), (17, 65, 2, 16), (16, 16, 4, 16), (3, 200, 2, 40)] {
        let c = heads * d;
        let attention = QueryAttention::new(heads, c);
        let (q, bias, kv) = (data("q", &[m, c]), data("bias", &[heads, m, n]), data("kv", &[2 * c, c]));
        let (k, v, own, x) = (batch("k", &[n, c]), batch("v", &[n, c]), batch("q", &[m, c]), batch("x", &[n, c]));
        let what = format!("{m} queries of {n} tokens in {heads} heads of {d}");
        assert_same_alone(&what, &[&k, &v], |t| Ok(query_attention(&q, &t[0], &t[1], Some(&bias), &attention)?.0));
        assert_same_alone(&what, &[&own, &k, &v], |t| Ok(query_attention(&t[0], &t[1], &t[2], None, &attention)?.0));
        assert_same_alone(&what, &[&x], |t| token_query_attention(&q, &t[0], &kv, None, Some(&bias), &attention));
        assert_same_alone(&what, &[&own, &x], |t| token_query_attention(&t[0], &t[1], &kv, None, None, &attention));
    }
}

#[test]
fn norms_activations_and_sums() {
    for (rows, c) in [(1, 1), (1, 513), (7, 3), (16, 64), (100, 96), (400, 33)] {
        let x = batch("x", &[rows, c]);
        let (weight, bias) = (data("w", &[c]), data("b", &[c]));
        let what = format!("{rows} rows of {c}");
        assert_same_alone(&what, &[&x], |x| layer_norm(&x[0], &weight, &bias, 1e-5));
        assert_same_alone(&what, &[&x], |x| normalize(&x[0], 1e-5));
        for activation in [
            Activation::LEAKY_RELU,
            Activation::Relu,
            Activation::Gelu,
            Activation::Silu,
            Activation::Tanh,
            Activation::Sigmoid,
        ] {
            assert_same_alone(&what, &[&x], |x| bias_act(&x[0], Some(&bias), activation, 1.4, Some(0.9)));
        }
        for axes in [&[1][..], &[2], &[1, 2]] {
            assert_same_alone(&format!("sums of {what}"), &[&x], |x| x[0].sum(axes));
            assert_same_alone(&format!("maxima of {what}"), &[&x], |x| x[0].max_detached(axes));
        }
        assert_same_alone(&format!("softmax of {what}"), &[&x], |x| x[0].softmax());
        assert_same_alone(&format!("elements of {what}"), &[&x], |x| {
            let y = x[0].exp()?.add_scalar(1.5)?.ln()?.mul(&x[0].sigmoid()?)?.div(&x[0].softplus()?)?;
            y.add(&x[0].square()?.affine(0.3, 0.1)?.rsqrt()?.tanh()?)?.mul(&weight)
        });
    }
}
