//! Tensors side by side in one buffer, so that one launch serves many of them.
//!
//! An optimiser has hundreds of parameters, most of them small. Packed, they are one tensor to the kernels that treat every element
//! alike, and stay tensors of their own to everything else: what [`Tensor::unpack`] gives shares the buffer. Packing copies once;
//! what is packed already is packed again for nothing.

use std::collections::BTreeMap;

use cubecl::prelude::{ComputeClient, Runtime};
use rayon::prelude::*;

use super::PARALLEL_MIN;
use crate::{
    DType, Device, Result, Scalar, Tensor, TensorError,
    cube::{self, CubeArg},
    kernel::{Kernel, launch},
};

/// Tensors of a pack begin at multiples of so many elements: 256 bytes of a half type, which is what every device may bind from.
const ALIGNMENT: usize = 128;

/// Elements of a pack at most where [`Tensor::packs`] makes it, 64 MiB of f32: half of what WebGPU binds at least. A pack's old and
/// new buffers are there at once, so this also bounds what an update takes beside the parameters.
const MOST: usize = 1 << 24;

/// Where tensors of these lengths begin in their pack, and the pack's length. A tensor alone has no room after it.
pub(crate) fn slots(lengths: &[usize]) -> (Vec<usize>, usize) {
    if let &[one] = lengths {
        return (vec![0], one);
    }
    let (mut starts, mut total) = (Vec::with_capacity(lengths.len()), 0);
    for length in lengths {
        starts.push(total);
        total += length.next_multiple_of(ALIGNMENT);
    }
    (starts, total)
}

/// Copies tensors into one buffer, each from a multiple of 128 elements on, with zeros between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// Elements of each tensor.
    pub lengths: Vec<usize>,
}

impl Kernel for Pack {
    fn name(&self) -> &'static str {
        "pack"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![slots(&self.lengths).1]]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let mut rest = &mut *outputs[0];
        let small = rest.len() < PARALLEL_MIN;
        // Pieces short enough that the threads share one large tensor.
        let mut pieces: Vec<(&[T], &mut [T])> = Vec::new();
        for x in inputs {
            let slot = x.len().next_multiple_of(ALIGNMENT).min(rest.len());
            let (mine, others) = std::mem::take(&mut rest).split_at_mut(slot);
            let (filled, gap) = mine.split_at_mut(x.len());
            gap.fill(T::ZERO);
            pieces.extend(x.chunks(PARALLEL_MIN).zip(filled.chunks_mut(PARALLEL_MIN)));
            rest = others;
        }
        match small {
            true => pieces.into_iter().for_each(|(x, y)| y.copy_from_slice(x)),
            false => pieces.into_par_iter().for_each(|(x, y)| y.copy_from_slice(x)),
        }
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        cube::pack::pack(client, inputs, &outputs[0])
    }
}

impl Tensor {
    /// The one-dimensional tensor of a buffer that holds these tensors as a pack does, if there is such a buffer.
    pub(crate) fn packed(tensors: &[&Tensor]) -> Option<Tensor> {
        let first = tensors.first()?;
        if let [one] = tensors {
            return Some(one.with_shape(vec![one.len()]));
        }
        let (starts, total) = slots(&tensors.iter().map(|t| t.len()).collect::<Vec<_>>());
        let placed = |(t, &start): (&&Tensor, &usize)| t.start() == start && t.shares_buffer(first);
        (first.buffer_len() == total && tensors.iter().zip(&starts).all(placed)).then(|| first.whole_buffer())
    }

    /// Tensors as one of one dimension, each from a multiple of 128 elements on, without history; one alone is only flattened.
    ///
    /// Free where they lie so already, as what [`Tensor::unpack`] gives does; else a copy, in one launch for some 30 tensors
    /// where the device binds so many, and on the cpu for all. Zeros are between what was copied; an operation leaves there what it makes
    /// of them. PyTorch: `torch._utils._flatten_dense_tensors`. Errors: no tensor, mixed devices or types.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], &[2, 2], Cpu)?;
    /// let packed = Tensor::pack(&[&x, &x.reshape(&[4])?])?;
    /// let parts = packed.unpack(&[&[2, 2], &[4]])?;
    /// assert_eq!(parts[1].to_vec()?, [1.0, 2.0, 3.0, 4.0]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn pack(tensors: &[&Tensor]) -> Result<Tensor> {
        if tensors.is_empty() {
            return Err(TensorError::shape("pack", "no tensors"));
        }
        match Self::packed(tensors) {
            Some(pack) => Ok(pack),
            None => Ok(launch(&Pack { lengths: tensors.iter().map(|t| t.len()).collect() }, tensors)?.remove(0)),
        }
    }

    /// The tensors of a pack, without a copy and without history: they share its buffer, which stays as long as one of them.
    ///
    /// Errors: shapes that are not those of a pack of this length.
    pub fn unpack(&self, shapes: &[&[usize]]) -> Result<Vec<Tensor>> {
        let lengths: Vec<usize> = shapes.iter().map(|s| s.iter().product()).collect();
        let (starts, total) = slots(&lengths);
        if self.shape() != [total] {
            let detail = format!("{:?} is not a pack of {shapes:?}, which has {total} elements", self.shape());
            return Err(TensorError::shape("unpack", detail));
        }
        Ok(shapes.iter().zip(starts).map(|(shape, start)| self.part(start, shape.to_vec())).collect())
    }

    /// Groups of indices for [`Tensor::pack`]: what lies packed is a group; the others are cut, in their order, into groups of
    /// at most 16,777,216 elements.
    ///
    /// Every tensor is in one group, and all of a group have one device and one type.
    pub fn packs(tensors: &[&Tensor]) -> Vec<Vec<usize>> {
        let mut buffers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, t) in tensors.iter().enumerate() {
            buffers.entry(t.buffer_address()).or_default().push(i);
        }
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for of_one in buffers.values_mut() {
            of_one.sort_by_key(|&i| (tensors[i].start(), i));
            let lying: Vec<&Tensor> = of_one.iter().map(|&i| tensors[i]).collect();
            if lying.len() > 1 && Self::packed(&lying).is_some() {
                groups.push(std::mem::take(of_one));
            }
        }
        // By their first tensor, not by addresses, which are others in every run.
        groups.sort();
        let mut taken = vec![false; tensors.len()];
        groups.iter().flatten().for_each(|&i| taken[i] = true);
        let mut open: BTreeMap<(Device, DType), (usize, Vec<usize>)> = BTreeMap::new();
        for (i, t) in tensors.iter().enumerate().filter(|(i, _)| !taken[*i]) {
            let (total, group) = open.entry((t.device(), t.dtype())).or_default();
            let slot = t.len().next_multiple_of(ALIGNMENT);
            if !group.is_empty() && *total + slot > MOST {
                groups.push(std::mem::take(group));
                *total = 0;
            }
            *total += slot;
            group.push(i);
        }
        groups.extend(open.into_values().map(|(_, group)| group));
        groups
    }

    /// Applies an operation on every element alike to many tensors, a pack at a time; the results in the tensors' order.
    ///
    /// `f` gets a pack, of one dimension, and gives one of the same length.
    pub fn map_packed(tensors: &[&Tensor], mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Vec<Tensor>> {
        let mut out: Vec<Option<Tensor>> = vec![None; tensors.len()];
        for group in Self::packs(tensors) {
            let of_group: Vec<&Tensor> = group.iter().map(|&i| tensors[i]).collect();
            let shapes: Vec<&[usize]> = of_group.iter().map(|t| t.shape()).collect();
            let made = f(&Self::pack(&of_group)?)?.unpack(&shapes)?;
            group.iter().zip(made).for_each(|(&i, t)| out[i] = Some(t));
        }
        Ok(out.into_iter().flatten().collect())
    }

    /// The values of several tensors as f32, with one copy to the host and one wait for all of a device and a type.
    ///
    /// PyTorch: `torch.stack(scalars).tolist()` for many scalars.
    pub fn to_vecs(tensors: &[&Tensor]) -> Result<Vec<Vec<f32>>> {
        let mut by_place: BTreeMap<(Device, DType), Vec<usize>> = BTreeMap::new();
        for (i, t) in tensors.iter().enumerate() {
            by_place.entry((t.device(), t.dtype())).or_default().push(i);
        }
        let mut out = vec![Vec::new(); tensors.len()];
        for of_one in by_place.values() {
            let lying: Vec<&Tensor> = of_one.iter().map(|&i| tensors[i]).collect();
            let (starts, _) = slots(&lying.iter().map(|t| t.len()).collect::<Vec<_>>());
            let values = Self::pack(&lying)?.to_vec()?;
            for (&i, start) in of_one.iter().zip(starts) {
                out[i] = values[start..start + tensors[i].len()].to_vec();
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::region;

    fn tensors(lengths: &[usize], device: Device) -> Vec<Tensor> {
        let make = |(i, &n): (usize, &usize)| {
            let values: Vec<f32> = (0..n).map(|j| (1000 * i + j + 1) as f32).collect();
            Tensor::from_vec(values, &[n], device).unwrap()
        };
        lengths.iter().enumerate().map(make).collect()
    }

    fn refs(tensors: &[Tensor]) -> Vec<&Tensor> {
        tensors.iter().collect()
    }

    fn wgpu() -> Device {
        Device::Wgpu(0)
    }

    #[test]
    fn a_pack_has_zeros_between_its_tensors_and_gives_them_back_without_a_launch() {
        // More tensors than one launch takes, of lengths that are no whole vectors, one empty, one as long as its slot.
        let lengths: Vec<usize> = (0..37).map(|i| [5, 0, 128, 131, 1, 1000][i % 6]).collect();
        for device in [Device::Cpu, wgpu()] {
            let all = tensors(&lengths, device);
            let pack = Tensor::pack(&refs(&all)).unwrap();
            let (starts, total) = slots(&lengths);
            let mut expected = vec![0.0; total];
            for (t, &start) in all.iter().zip(&starts) {
                expected[start..start + t.len()].copy_from_slice(&t.to_vec().unwrap());
            }
            assert_eq!(pack.to_vec().unwrap(), expected, "{device}");
            let shapes: Vec<&[usize]> = all.iter().map(|t| t.shape()).collect();
            let ((), counts) = region(|| {
                let again = pack.unpack(&shapes).unwrap();
                assert!(Tensor::pack(&refs(&again)).unwrap().shares_buffer(&pack));
            });
            assert_eq!((counts.launches, counts.allocated), (0, 0));
            for (back, t) in pack.unpack(&shapes).unwrap().iter().zip(&all) {
                assert_eq!((back.shape(), back.to_vec().unwrap()), (t.shape(), t.to_vec().unwrap()), "{device}");
            }
        }
    }

    #[test]
    fn a_part_of_a_pack_computes_like_a_tensor_of_its_own() {
        for device in [Device::Cpu, wgpu()] {
            let all = tensors(&[6, 130, 12], device);
            let shapes: [&[usize]; 3] = [&[2, 3], &[130], &[3, 4]];
            let parts = Tensor::pack(&refs(&all)).unwrap().unpack(&shapes).unwrap();
            let alone: Vec<Tensor> = all.iter().zip(shapes).map(|(t, s)| t.reshape(s).unwrap()).collect();
            let work = |t: &[Tensor]| {
                let y = t[0].matmul(&t[2]).unwrap().add(&t[1].sum_all().unwrap()).unwrap();
                y.sub(&t[2].slice(0, 1, 2).unwrap()).unwrap().to_vec().unwrap()
            };
            assert_eq!(work(&parts), work(&alone), "{device}");
            let leaf = parts[2].as_leaf();
            let gradient = crate::grad(&[(&leaf.square().unwrap().sum_all().unwrap(), None)], &[&leaf], false).unwrap();
            let expected = alone[2].scale(2.0).unwrap().to_vec().unwrap();
            assert_eq!(gradient[0].as_ref().unwrap().to_vec().unwrap(), expected, "{device}");
        }
    }

    #[test]
    fn packs_keep_what_lies_packed_and_cut_the_rest_to_their_bound() {
        let loose = tensors(&[3, 200, 7], Device::Cpu);
        let lying = Tensor::pack(&refs(&tensors(&[9, 1], Device::Cpu))).unwrap().unpack(&[&[9], &[1]]).unwrap();
        let all = [&loose[0], &lying[1], &loose[1], &lying[0], &loose[2]];
        assert_eq!(Tensor::packs(&all), [vec![3, 1], vec![0, 2, 4]]);
        // Half of a pack is none.
        assert_eq!(Tensor::packs(&[&lying[1], &loose[0]]), [vec![0, 1]]);
        let large = Tensor::full(0.0, &[MOST - 128], DType::F32, Device::Cpu).unwrap();
        assert_eq!(Tensor::packs(&[&large, &loose[0], &loose[2]]), [vec![0, 1], vec![2]]);
        let other = Tensor::full(0.0, &[3], DType::F64, Device::Cpu).unwrap();
        assert_eq!(Tensor::packs(&[&other, &loose[0]]).len(), 2);
        let doubled = Tensor::map_packed(&all, |t| t.scale(2.0)).unwrap();
        for (d, t) in doubled.iter().zip(all) {
            assert_eq!(d.to_vec().unwrap(), t.scale(2.0).unwrap().to_vec().unwrap());
        }
    }

    #[test]
    fn many_scalars_come_home_in_one_copy() {
        let scalars = tensors(&[1; 40], wgpu());
        let mixed: Vec<&Tensor> = scalars.iter().collect();
        let (values, counts) = region(|| Tensor::to_vecs(&mixed).unwrap());
        assert_eq!(counts.downloads, 1);
        assert_eq!(values.concat(), (0..40).map(|i| (1000 * i + 1) as f32).collect::<Vec<_>>());
        assert!(Tensor::to_vecs(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_pack_is_an_error_that_names_the_shapes() {
        let [a, b] = [tensors(&[3], Device::Cpu), tensors(&[4], Device::Cpu)].map(|mut t| t.remove(0));
        let pack = Tensor::pack(&[&a, &b]).unwrap();
        let error = pack.unpack(&[&[3], &[4], &[5]]).unwrap_err().to_string();
        assert!(error.contains("[256]") && error.contains("[5]"), "{error}");
        assert!(Tensor::pack(&[]).is_err());
        let other = Tensor::full(0.0, &[3], DType::F64, Device::Cpu).unwrap();
        assert!(matches!(Tensor::pack(&[&a, &other]), Err(TensorError::MixedDTypes { .. })));
    }
}
