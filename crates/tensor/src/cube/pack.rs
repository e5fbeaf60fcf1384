//! Tensors into one buffer, as many a launch as the device binds.

use cubecl::prelude::*;

use super::{
    CubeArg,
    glue::{check_len, storage_type, units},
};
use crate::{Result, ops::slots};

/// Elements of a vector.
const WIDTH: usize = 4;

/// Tensors of a launch at most: each is a comparison more in every unit.
const MOST: usize = 30;

/// One vector of the pack a unit. Tensor `i` has the vectors from `starts[i]` to `starts[i + 1]`, `lengths[i]` elements and then zeros.
#[cube(launch_unchecked)]
fn pack_kernel<F: Float, N: Size>(
    xs: &Sequence<Array<Vector<F, N>>>,
    y: &mut Array<Vector<F, N>>,
    starts: &Sequence<usize>,
    lengths: &Sequence<usize>,
    first: usize,
    vectors: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < vectors {
        let at = first + ABSOLUTE_POS;
        let tensors = xs.len().comptime();
        #[unroll]
        for i in 0..tensors {
            let start = *starts.index(i);
            if at >= start && at < *starts.index(comptime!(i + 1)) {
                let from = (at - start) * N::value();
                let length = *lengths.index(i);
                let mut value = Vector::<F, N>::new(F::new(0.0));
                if from < length {
                    let x = xs.index(i);
                    value = x[at - start];
                    // What lies behind a tensor's last element in its buffer is not its own.
                    #[unroll]
                    for j in 1..N::value() {
                        if from + j >= length {
                            value[j] = F::new(0.0);
                        }
                    }
                }
                y[at] = value;
            }
        }
    }
}

/// Launches a [`Pack`](crate::ops::Pack): `y` holds the inputs one after the other.
pub fn pack<R: Runtime>(client: &ComputeClient<R>, inputs: &[CubeArg], y: &CubeArg) -> Result<()> {
    check_len("pack", y.len)?;
    let (mut starts, total) = slots(&inputs.iter().map(|x| x.len).collect::<Vec<_>>());
    starts.push(total);
    // Beside the inputs a launch binds the output.
    let most = (client.properties().hardware.max_bindings as usize).saturating_sub(1).clamp(1, MOST);
    let dtype = storage_type("pack", client, y.dtype)?;
    for (at, some) in (0..inputs.len()).step_by(most).zip(inputs.chunks(most)) {
        let (first, end) = (starts[at] / WIDTH, starts[at + some.len()].div_ceil(WIDTH));
        if end == first {
            continue;
        }
        // Where fewer are left, the last one fills up with nothing of it taken: one kernel serves every number.
        let filled = |i: usize| &some[i.min(some.len() - 1)];
        let begins = (0..=most).map(|i| if i < some.len() { starts[at + i] / WIDTH } else { end });
        let lengths = (0..most).map(|i| if i < some.len() { some[i].len } else { 0 });
        let (grid, cube) = units(end - first);
        // SAFETY: each unit writes one vector of the pack's range and reads one that its tensor's padded buffer holds.
        unsafe {
            pack_kernel::launch_unchecked::<R>(
                client,
                grid,
                cube,
                WIDTH,
                (0..most).map(|i| filled(i).padded(WIDTH)).collect(),
                y.padded(WIDTH),
                begins.collect(),
                lengths.collect(),
                first,
                end - first,
                dtype,
            );
        }
    }
    Ok(())
}
