//! Damaged copies of real files: any result but a panic, a crash or a hang.

use std::fs;
use std::path::Path;

use super::{forge, golden};
use crate::{Archive, verify};

/// Steele and Vigna's SplitMix64, to have the same damage in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// Damage one copy: overwritten, inserted, removed or cut-off bytes, mostly where the structure is.
fn damage(whole: &[u8], structure: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=random.below(3) {
        let end = bytes.len();
        if end == 0 {
            break;
        }
        // The head holds a safetensors header or a zip's pickle, the tail a zip's directory.
        let at = match random.below(4) {
            0 | 1 => random.below(structure.min(end)),
            2 => end - 1 - random.below(structure.min(end)),
            _ => random.below(end),
        };
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.below(256) as u8),
            2 => drop(bytes.remove(at)),
            3 => {
                let run = (at + 1 + random.below(16)).min(end);
                bytes[at..run].fill([0, 0xff, 0x7f, b'9'][random.below(4)]);
            }
            4 => bytes[at] ^= 1 << random.below(8),
            _ => bytes[at] = random.below(256) as u8,
        }
    }
    bytes
}

/// Read damaged copies of a file; every error must be one line that begins with the file's path.
fn survive(whole: &[u8], structure: usize, copies: usize, pack: impl Fn(Vec<u8>) -> Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged");
    let mut random = Random(copies as u64);
    let mut refused = 0;
    for copy in 0..copies {
        fs::write(&path, pack(damage(whole, structure, &mut random))).unwrap();
        refused += usize::from(read_is_sound(&path, copy));
    }
    // Else the damage missed what it aims at.
    assert!(refused > copies / 4, "{refused} of {copies} refused");
}

fn read_is_sound(path: &Path, copy: usize) -> bool {
    let begin = path.display().to_string();
    for line in [verify(path).err(), Archive::read(path).err()].into_iter().flatten() {
        let line = line.to_string();
        assert!(line.starts_with(&begin) && !line.contains('\n'), "copy {copy}: {line}");
    }
    Archive::read(path).is_err()
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(golden(name)).unwrap()
}

#[test]
fn damaged_safetensors_files_are_errors_never_panics() {
    let small = fixture("layers/pixel_norm.safetensors");
    survive(&small, 700, 1500, |bytes| bytes);
    let large = fixture("checkpoints/stylegan2_tiny_64px.safetensors");
    survive(&large, 9000, 100, |bytes| bytes);
}

#[test]
fn damaged_torch_files_are_errors_never_panics() {
    let whole = fixture("checkpoints/stylegan2_tiny_64px.pt");
    survive(&whole, 12_000, 400, |bytes| bytes);
}

/// A zip's checksum hides most damage from the pickle's parser, so it is done before zipping.
#[test]
fn damaged_pickles_in_sound_archives_are_errors_never_panics() {
    let whole = fixture("checkpoints/stylegan2_tiny_64px.pt");
    let start = whole.windows(3).position(|b| b == b"\x80\x02}").unwrap();
    // What follows the pickle's last opcode is never read.
    let real = &whole[start..start + 14_000];
    survive(real, 13_000, 300, |pickle| forge::torch(&pickle, &[0; 64]));
    let small = forge::pickle_of_one_tensor("FloatStorage", 6, &[3, 2], &[1, 3]);
    survive(&small, small.len(), 2000, |pickle| forge::torch(&pickle, &[0; 24]));
    survive(&small, small.len(), 300, |pickle| pickle);
}
