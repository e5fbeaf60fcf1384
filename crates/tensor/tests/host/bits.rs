//! What the bits of a result must not depend on: the number of threads, and what else is computed beside it.

use swinstyle_kit::testing::uniform;
use swinstyle_tensor::{DType, Device, Result, Tensor, ops::AdamStep};

/// Bits of `f` on a pool of so many threads.
fn bits(threads: usize, f: &(dyn Fn() -> Result<Tensor> + Sync)) -> Vec<u32> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| f().unwrap().to_vec().unwrap()).into_iter().map(f32::to_bits).collect()
}

#[test]
fn reductions_have_the_same_bits_on_one_thread_and_on_several() {
    let data = |name: &str, shape: &[usize]| uniform(name, shape, DType::F32, Device::Cpu).unwrap();
    for (shape, axes) in [
        (&[100_003][..], &[0][..]),
        (&[5, 30_011], &[1]),
        (&[3_001, 37], &[0]),
        (&[7, 1_003, 19], &[1]),
        (&[7, 1_003, 19], &[0, 2]),
        (&[300, 301], &[0, 1]),
    ] {
        let x = data("x", shape);
        let one = bits(1, &|| x.sum(axes));
        for threads in [2, 5] {
            assert_eq!(one, bits(threads, &|| x.sum(axes)), "sum of {shape:?} over {axes:?}, {threads} threads");
            assert_eq!(bits(1, &|| x.max_detached(axes)), bits(threads, &|| x.max_detached(axes)));
        }
    }
}

#[test]
fn products_have_the_same_bits_on_one_thread_and_on_several() {
    let data = |name: &str, shape: &[usize]| uniform(name, shape, DType::F32, Device::Cpu).unwrap();
    for (a, b) in [
        (&[257, 300][..], &[300, 129][..]),
        (&[1, 4_000], &[4_000, 64]),
        (&[64, 4_000], &[4_000, 1]),
        (&[3, 20_000], &[20_000, 5]),
        (&[16, 33, 40], &[16, 40, 17]),
        (&[3, 200, 200], &[3, 200, 200]),
        (&[8, 64, 96], &[96, 96]),
    ] {
        let (a, b) = (data("a", a), data("b", b));
        let one = bits(1, &|| a.matmul(&b));
        for threads in [2, 5] {
            assert_eq!(one, bits(threads, &|| a.matmul(&b)), "{:?} · {:?}, {threads} threads", a.shape(), b.shape());
        }
    }
}

#[test]
fn a_row_of_a_product_has_the_same_bits_alone_and_among_others() {
    for (n, k) in [(64, 64), (32, 10), (7, 300), (300, 5)] {
        let of = |name: &str, shape: &[usize]| uniform(name, shape, DType::F32, Device::Cpu).unwrap();
        let (x, w, b) = (of("x", &[20, k]), of("w", &[n, k]), of("b", &[n]));
        let first = |rows: usize, bias: Option<&Tensor>| {
            x.slice(0, 0, rows).unwrap().linear(&w, bias).unwrap().to_vec().unwrap()[..n].to_vec()
        };
        for bias in [None, Some(&b)] {
            let expected = first(20, bias);
            (1..20).for_each(|rows| assert_eq!(first(rows, bias), expected, "{rows} rows of {n} by {k}"));
        }
    }
}

#[test]
fn an_update_of_a_pack_has_the_bits_of_its_tensors_alone_on_any_number_of_threads() {
    // Gaps and ends of tensors at, before and behind the ends of the blocks that threads take.
    let lengths = [8190, 5, 1, 20_000, 8192, 128, 3, 40_000, 127];
    let of = |kind: &str, i: usize| {
        let t = uniform(&format!("{kind}{i}"), &[lengths[i]], DType::F32, Device::Cpu).unwrap();
        if kind == "v" { t.square().unwrap() } else { t }
    };
    let step = |length: usize| AdamStep {
        shape: vec![length],
        learning_rate: 0.01,
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 3,
        rectified: false,
    };
    let alone: Vec<[Tensor; 3]> = (0..lengths.len())
        .map(|i| step(lengths[i]).apply(&of("p", i), &[&of("g", i)], &of("m", i), &of("v", i)).unwrap())
        .collect();
    let expected: Vec<u32> =
        alone.iter().flat_map(|t| t.iter().flat_map(|t| t.to_vec().unwrap())).map(f32::to_bits).collect();
    let all = |kind: &str| (0..lengths.len()).map(|i| of(kind, i)).collect::<Vec<_>>();
    let shapes: Vec<&[usize]> = lengths.iter().map(std::slice::from_ref).collect();
    for gathered in [false, true] {
        let update = || {
            let pack = |kind: &str| Tensor::pack(&all(kind).iter().collect::<Vec<_>>());
            let (p, m, v, g) = (pack("p")?, pack("m")?, pack("v")?, pack("g")?);
            let pieces = all("g");
            let gradients = if gathered { vec![&g] } else { pieces.iter().collect() };
            let made = step(p.len()).apply(&p, &gradients, &m, &v)?;
            let [p, m, v] = [made[0].unpack(&shapes)?, made[1].unpack(&shapes)?, made[2].unpack(&shapes)?];
            let in_order: Vec<&Tensor> = p.iter().zip(&m).zip(&v).flat_map(|((p, m), v)| [p, m, v]).collect();
            Tensor::concat(&in_order, 0)
        };
        for threads in [1, 2, 5] {
            assert!(bits(threads, &update) == expected, "{threads} threads, gathered {gathered}");
        }
    }
}
