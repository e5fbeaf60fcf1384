//! CPU twins of every kernel of the room.

use rayon::prelude::*;
use swinstyle_tensor::{Result, Scalar, simd};

use crate::{
    LeakyRelu,
    launch::{ChannelDot, Channels, Conv, ConvInputs, Epilogue, EpilogueGradient, TapEnergy, WeightGradient},
    problem::Problem,
};

/// Input pixel that an output pixel meets through a tap, if any.
fn meets(p: &Problem, axis: usize, output: usize, tap: usize) -> Option<usize> {
    let g = &p.geometry;
    let frame = (output * g.down + tap) as isize - g.pad[axis];
    let up = g.up as isize;
    (frame >= 0 && frame % up == 0 && frame / up < p.input[axis] as isize).then_some((frame / up) as usize)
}

fn activate<T: Scalar>(a: LeakyRelu) -> impl Fn(T) -> T + Copy {
    let (slope, gain, bound) = (T::from_f64(a.slope), T::from_f64(a.gain), T::from_f64(a.bound()));
    move |z: T| {
        let y = gain * if z > T::ZERO { z } else { z * slope };
        let y = if y > bound { bound } else { y };
        if y < -bound { -bound } else { y }
    }
}

pub(crate) fn conv<T: Scalar>(kernel: &Conv, inputs: &[&[T]], y: &mut [T]) -> Result<()> {
    let p = &kernel.problem;
    let g = &p.geometry;
    let Some(t) = ConvInputs::new(&kernel.fusion, inputs.iter().copied()) else { return Ok(()) };
    let (i, o) = (p.in_channels, p.out_channels);
    let ([oh, ow], [h, w], [kh, kw]) = (g.output, p.input, g.kernel);
    let act = activate::<T>(kernel.fusion.activation.unwrap_or(LeakyRelu::LINEAR));
    y.par_chunks_mut(ow * o).enumerate().for_each(|(row, y)| {
        let (n, oy) = (row / oh, row % oh);
        simd::dispatch(|| {
            for ox in 0..ow {
                let y = &mut y[ox * o..][..o];
                y.fill(T::ZERO);
                for (ky, kx) in (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x))) {
                    let (Some(iy), Some(ix)) = (meets(p, 0, oy, ky), meets(p, 1, ox, kx)) else { continue };
                    let x = &t.x[((n * h + iy) * w + ix) * i..][..i];
                    let tap = if g.flip { (kh - 1 - ky) * kw + kw - 1 - kx } else { ky * kw + kx };
                    let weight = &t.weight[tap * i * o..][..i * o];
                    for c in 0..i {
                        let v = x[c] * t.pre.map_or(T::ONE, |p| p[n * i + c]);
                        for k in 0..o {
                            let w = if g.transpose { weight[k * i + c] } else { weight[c * o + k] };
                            y[k] = w.mul_add(v, y[k]);
                        }
                    }
                }
                let noise = t.noise.map_or(T::ZERO, |(z, s)| z[(row * ow + ox) % z.len()] * s[0]);
                for k in 0..o {
                    let z = y[k] * t.post.map_or(T::ONE, |p| p[n * o + k]) + noise + t.bias.map_or(T::ZERO, |b| b[k]);
                    y[k] = act(z);
                }
            }
        });
    });
    Ok(())
}

pub(crate) fn weight_gradient<T: Scalar>(kernel: &WeightGradient, inputs: &[&[T]], dw: &mut [T]) -> Result<()> {
    let p = &kernel.problem;
    let g = &p.geometry;
    let (pre, post) = kernel.scales(inputs);
    let (x, grad) = (inputs[0], inputs[1]);
    let (i, o) = (p.in_channels, p.out_channels);
    let ([oh, ow], [h, w], [kh, kw]) = (g.output, p.input, g.kernel);
    dw.par_chunks_mut(o).enumerate().for_each(|(r, dw)| {
        let (tap, c) = (r / i, r % i);
        let (a, b) = (tap / kw, tap % kw);
        let (ky, kx) = if g.flip { (kh - 1 - a, kw - 1 - b) } else { (a, b) };
        simd::dispatch(|| {
            dw.fill(T::ZERO);
            for (n, oy, ox) in (0..p.batch * oh * ow).map(|at| (at / ow / oh, at / ow % oh, at % ow)) {
                let (Some(iy), Some(ix)) = (meets(p, 0, oy, ky), meets(p, 1, ox, kx)) else { continue };
                let v = x[((n * h + iy) * w + ix) * i + c] * pre.map_or(T::ONE, |p| p[n * i + c]);
                let grad = &grad[((n * oh + oy) * ow + ox) * o..][..o];
                for k in 0..o {
                    dw[k] = grad[k].mul_add(v * post.map_or(T::ONE, |p| p[n * o + k]), dw[k]);
                }
            }
        });
    });
    Ok(())
}

pub(crate) fn channel_dot<T: Scalar>(kernel: &ChannelDot, inputs: &[&[T]], outputs: &mut [&mut [T]]) {
    let Channels { batch, pixels, channels } = kernel.extent;
    let (a, b) = (inputs[0], inputs[1]);
    outputs[0].fill(T::ZERO);
    for n in 0..batch {
        for at in n * pixels * channels..(n + 1) * pixels * channels {
            let c = n * channels + at % channels;
            outputs[0][c] += a[at] * b[at];
            if kernel.scale {
                outputs[1][at] = a[at] * inputs[2][c];
            }
        }
    }
}

pub(crate) fn epilogue<T: Scalar>(kernel: &Epilogue, inputs: &[&[T]], y: &mut [T]) {
    let Channels { channels, .. } = kernel.extent;
    let act = activate::<T>(kernel.activation);
    let noise = kernel.noise.map(|_| (inputs[1], inputs[2][0]));
    let bias = kernel.bias.then(|| inputs[inputs.len() - 1]);
    for (i, y) in y.iter_mut().enumerate() {
        let noise = noise.map_or(T::ZERO, |(n, s)| n[i / channels % n.len()] * s);
        *y = act(inputs[0][i] + noise + bias.map_or(T::ZERO, |b| b[i % channels]));
    }
}

pub(crate) fn epilogue_gradient<T: Scalar>(kernel: &EpilogueGradient, inputs: &[&[T]], outputs: &mut [&mut [T]]) {
    let Channels { pixels, channels, .. } = kernel.extent;
    let a = kernel.activation;
    let (slope, gain, bound) = (T::from_f64(a.slope), T::from_f64(a.gain), T::from_f64(a.bound()));
    for o in outputs.iter_mut().skip(1) {
        o.fill(T::ZERO);
    }
    for i in 0..kernel.extent.len() {
        let (g, y) = (inputs[0][i], inputs[1][i]);
        let (p, c) = (i / channels, i % channels);
        let inside = if y < bound && y > -bound { T::ONE } else { T::ZERO };
        let dz = inside * g * gain * if y > T::ZERO { T::ONE } else { slope };
        outputs[0][i] = dz;
        if kernel.sums {
            let at = p / pixels * channels + c;
            outputs[1][at] += dz;
            outputs[2][at] += inside * g * y;
            if kernel.noise.is_some() {
                outputs[3][at] += dz * inputs[2][p % inputs[2].len()];
            }
        }
    }
}

pub(crate) fn tap_energy<T: Scalar>(kernel: &TapEnergy, w: &[T], energy: &mut [T]) {
    let len = energy.len();
    for (i, e) in energy.iter_mut().enumerate() {
        *e = (0..kernel.taps).map(|t| w[t * len + i] * w[t * len + i]).sum();
    }
}
