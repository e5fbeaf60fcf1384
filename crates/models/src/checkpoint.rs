//! Parameters to and from checkpoint archives, in PyTorch's names and layouts.

use swinstyle_tensor::{Device, Tensor};
use swinstyle_weights::{
    Archive, Array, WeightsError,
    layout::{hwio_to_modulated_oihw, hwio_to_oihw, nchw_to_nhwc, nhwc_to_nchw, oihw_to_hwio},
};

use crate::{Layout, ModelError, Params, Result, Spec};

impl Params {
    /// Reads the parameters that `specs` name from under `prefix` in an archive.
    ///
    /// The resampling filters that the common port stores beside its weights (`*.kernel`) are checked to be [1, 3, 3, 1]
    /// and otherwise ignored. Errors: missing, surplus or misshaped tensors (all are listed), values that are not finite,
    /// another filter.
    pub fn from_archive(archive: &Archive, prefix: &str, specs: &[Spec], device: Device) -> Result<Self> {
        let mut part = archive.part(prefix);
        for (name, kernel) in part.take(|name| name.ends_with(".kernel")) {
            check_filter(name, kernel)?;
        }
        // Nothing is allocated before every name and shape is known to be in the file.
        let expected: Vec<(&str, Vec<usize>)> = specs.iter().map(|s| (s.name.as_str(), s.stored_shape())).collect();
        part.match_names(&expected)?;
        part.check_finite()?;
        specs
            .iter()
            .map(|s| {
                let array = from_stored(s, part.get(&s.name)?)?;
                Ok((s.name.clone(), Tensor::from_vec(array.data, &s.shape, device)?))
            })
            .collect()
    }

    /// Puts the parameters that `specs` name into an archive under `prefix`.
    pub fn to_archive(&self, prefix: &str, specs: &[Spec], archive: &mut Archive) -> Result<()> {
        for s in specs {
            let value = self.get(&s.name)?;
            let array = to_stored(s, Array::new(value.shape().to_vec(), value.to_vec()?)?)?;
            archive.arrays.insert(format!("{prefix}{}", s.name), array);
        }
        Ok(())
    }
}

fn from_stored(spec: &Spec, stored: &Array) -> std::result::Result<Array, WeightsError> {
    match spec.layout {
        Layout::Plain => Ok(stored.clone()),
        Layout::Oihw | Layout::ModulatedOihw => oihw_to_hwio(stored),
        Layout::Nchw => nchw_to_nhwc(stored),
        Layout::LinearFromNchw { channels } => regroup(spec, stored, channels, true),
    }
}

fn to_stored(spec: &Spec, value: Array) -> std::result::Result<Array, WeightsError> {
    match spec.layout {
        Layout::Plain => Ok(value),
        Layout::Oihw => hwio_to_oihw(&value),
        Layout::ModulatedOihw => hwio_to_modulated_oihw(&value),
        Layout::Nchw => nhwc_to_nchw(&value),
        Layout::LinearFromNchw { channels } => regroup(spec, &value, channels, false),
    }
}

/// Columns of a linear weight from channel-major `[O, C, P]` to pixel-major `[O, P, C]`, or back.
fn regroup(spec: &Spec, weight: &Array, channels: usize, to_memory: bool) -> std::result::Result<Array, WeightsError> {
    let (rows, pixels) = (spec.shape[0], spec.shape[1] / channels);
    let (from, to) =
        if to_memory { ([channels, pixels], [pixels, channels]) } else { ([pixels, channels], [channels, pixels]) };
    let grouped = Array::new(vec![rows, from[0], 1, from[1]], weight.data.clone())?;
    // [O, a, 1, b] as NCHW gives [O, 1, b, a].
    let swapped = nchw_to_nhwc(&grouped)?;
    debug_assert_eq!(swapped.shape, [rows, 1, to[0], to[1]]);
    Array::new(spec.shape.clone(), swapped.data)
}

fn check_filter(name: &str, kernel: &Array) -> Result<()> {
    let taps = [1.0, 3.0, 3.0, 1.0_f32];
    let sum: f32 = kernel.data.iter().sum();
    let outer = taps.iter().flat_map(|a| taps.map(|b| a * b / 64.0));
    let same = kernel.shape == [4, 4] && kernel.data.iter().zip(outer).all(|(k, e)| (k / sum - e).abs() < 1e-4);
    match same {
        true => Ok(()),
        false => {
            let detail =
                format!("`{name}` of shape {:?} is not the filter [1, 3, 3, 1], the only one supported", kernel.shape);
            Err(ModelError::config("checkpoint", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Init;

    #[test]
    fn every_layout_survives_a_round_trip_and_the_stored_order_is_torchs() {
        let specs = [
            Spec::new("plain", &[3, 2], Init::Normal { std: 1.0 }),
            Spec::new("conv", &[3, 1, 2, 4], Init::Normal { std: 1.0 }).stored(Layout::Oihw),
            Spec::new("modulated", &[3, 3, 2, 4], Init::Normal { std: 1.0 }).stored(Layout::ModulatedOihw),
            Spec::new("image", &[1, 4, 5, 2], Init::Normal { std: 1.0 }).stored(Layout::Nchw),
            Spec::new("flat", &[3, 8], Init::Normal { std: 1.0 }).stored(Layout::LinearFromNchw { channels: 2 }),
        ];
        let params = Params::init(&specs, 1, Device::Cpu).unwrap();
        let mut archive = Archive::new();
        params.to_archive("g.", &specs, &mut archive).unwrap();
        assert_eq!(archive.get("g.modulated").unwrap().shape, [1, 4, 2, 3, 3]);
        let flat = params.get("flat").unwrap().to_vec().unwrap();
        // Column c·4 + p of the file is column p·2 + c in memory.
        assert_eq!(archive.get("g.flat").unwrap().data[5], flat[3]);
        let back = Params::from_archive(&archive, "g.", &specs, Device::Cpu).unwrap();
        for (name, value) in params.iter() {
            assert_eq!(value.to_vec().unwrap(), back.get(name).unwrap().to_vec().unwrap(), "{name}");
        }
    }
}
