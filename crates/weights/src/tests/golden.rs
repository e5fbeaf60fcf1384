//! The committed fixtures, written by torch and by safetensors' Python package.

use super::golden;
use crate::layout::{hwio_to_modulated_oihw, oihw_to_hwio};
use crate::{Archive, Dtype};

#[test]
fn torch_and_safetensors_twins_agree_bit_for_bit() {
    let torch = Archive::read(golden("checkpoints/stylegan2_tiny_64px.pt")).unwrap();
    let safe = Archive::read(golden("checkpoints/stylegan2_tiny_64px.safetensors")).unwrap();
    assert_eq!(safe.arrays.len(), 126);
    assert!(torch.arrays.keys().eq(safe.arrays.keys()));
    for (name, array) in &torch.arrays {
        let twin = &safe.arrays[name];
        assert_eq!(array.shape, twin.shape, "{name}");
        assert_eq!(array.dtype, Dtype::F32, "{name}");
        let same = array.data.iter().zip(&twin.data);
        assert!(same.into_iter().all(|(a, b)| a.to_bits() == b.to_bits()), "{name}");
    }
    torch.check_finite().unwrap();
    assert!(safe.metadata["note"].contains("same tensors"));
    assert_eq!(safe.header().unwrap(), None);
}

#[test]
fn nested_dicts_are_flattened_and_subset_takes_one_out() {
    let torch = Archive::read(golden("checkpoints/stylegan2_tiny_64px.pt")).unwrap();
    assert_eq!(torch.get("latent_avg").unwrap().shape, [16]);
    let generator = torch.subset("g_ema.");
    assert_eq!(generator.get("convs.0.conv.weight").unwrap().shape, [1, 16, 16, 3, 3]);
    assert!(generator.arrays.keys().all(|name| !name.starts_with("d.")));
    let mut again = Archive::new();
    again.extend("g_ema.", generator.clone());
    assert_eq!(again.subset("g_ema.").arrays, generator.arrays);
}

#[test]
fn every_modulated_weight_survives_the_change_of_layout() {
    let torch = Archive::read(golden("checkpoints/stylegan2_tiny_64px.pt")).unwrap();
    let modulated = torch.arrays.values().filter(|a| a.shape.len() == 5);
    for (seen, weight) in modulated.enumerate() {
        let back = hwio_to_modulated_oihw(&oihw_to_hwio(weight).unwrap()).unwrap();
        assert_eq!(&back, weight, "weight {seen}");
    }
}

#[test]
fn integer_fixtures_keep_their_type_and_values() {
    let folder = std::fs::read_dir(golden("window_attention")).unwrap();
    let mut seen = 0;
    for entry in folder {
        let archive = Archive::read(entry.unwrap().path()).unwrap();
        if let Some(index) = archive.arrays.get("in.rel_index") {
            assert_eq!(index.dtype, Dtype::I32);
            assert!(index.data.iter().all(|v| v.fract() == 0.0 && *v >= 0.0));
            assert!(index.data.iter().any(|v| *v > 0.0) || index.data.len() == 1);
            seen += 1;
        }
        assert!(archive.metadata.contains_key("params"), "{}", archive.origin());
    }
    assert!(seen > 0);
}
