//! Tensors of training states, in the memory layout: nobody but this program reads them.

use swinstyle_models::Params;
use swinstyle_tensor::Tensor;
use swinstyle_weights::{Archive, Array};

use crate::Result;

/// Puts one tensor into a state.
pub(crate) fn save_tensor(name: &str, value: &Tensor, archive: &mut Archive) -> Result<()> {
    archive.arrays.insert(name.into(), Array::new(value.shape().to_vec(), value.to_vec()?)?);
    Ok(())
}

/// Puts tensors into a state under a prefix.
pub(crate) fn save_tensors(prefix: &str, tensors: &Params, archive: &mut Archive) -> Result<()> {
    tensors.iter().try_for_each(|(name, value)| save_tensor(&format!("{prefix}{name}"), value, archive))
}

/// Takes tensors back; names and shapes must be those of `tensors`.
pub(crate) fn load_tensors(prefix: &str, tensors: &mut Params, archive: &Archive) -> Result<()> {
    let part = archive.subset(prefix);
    let expected: Vec<(String, Vec<usize>)> = tensors.iter().map(|(n, t)| (n.clone(), t.shape().to_vec())).collect();
    part.match_names(&expected)?;
    for (name, shape) in expected {
        let device = tensors.get(&name)?.device();
        let data = part.get(&name)?.data.clone();
        tensors.insert(name, Tensor::from_vec(data, &shape, device)?);
    }
    Ok(())
}
