//! Torch checkpoints and safetensors headers made by hand, to say what no honest writer says.

/// A zip archive of stored entries.
pub(super) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let offset = (file.len() as u32).to_le_bytes();
        let size = (content.len() as u32).to_le_bytes();
        // Version 2.0, no flags, stored, no time, checksum, sizes, lengths of name and extra field.
        let mut about = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        about.extend(crc32(content).to_le_bytes());
        about.extend(size);
        about.extend(size);
        about.extend((name.len() as u16).to_le_bytes());
        about.extend([0, 0]);
        file.extend(b"PK\x03\x04");
        file.extend(&about);
        file.extend(name.as_bytes());
        file.extend(*content);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&about);
        directory.extend([0; 10]);
        directory.extend(offset);
        directory.extend(name.as_bytes());
    }
    let start = (file.len() as u32).to_le_bytes();
    let count = (entries.len() as u16).to_le_bytes();
    let size = (directory.len() as u32).to_le_bytes();
    file.append(&mut directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend(count);
    file.extend(count);
    file.extend(size);
    file.extend(start);
    file.extend([0, 0]);
    file
}

/// CRC-32 bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

/// The pickle of `{"w": tensor}` on storage 0, as `torch.save` writes it at protocol 2.
pub(super) fn pickle_of_one_tensor(storage: &str, numel: i32, shape: &[i32], stride: &[i32]) -> Vec<u8> {
    let int = |value: i32| [b"J".as_slice(), &value.to_le_bytes()].concat();
    let tuple = |items: &[i32]| {
        let items: Vec<u8> = items.iter().flat_map(|&item| int(item)).collect();
        [b"(".as_slice(), &items, b"t"].concat()
    };
    let text = |text: &str| [b"U", [text.len() as u8].as_slice(), text.as_bytes()].concat();
    [
        b"\x80\x02}".to_vec(),
        text("w"),
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        format!("ctorch\n{storage}\n").into_bytes(),
        text("0"),
        text("cpu"),
        int(numel),
        b"tQ".to_vec(),
        int(0),
        tuple(shape),
        tuple(stride),
        b"\x89}tRs.".to_vec(),
    ]
    .concat()
}

/// A torch checkpoint of one tensor `w`.
pub(super) fn torch(pickle: &[u8], data: &[u8]) -> Vec<u8> {
    zip(&[("m/data.pkl", pickle), ("m/data/0", data)])
}

/// A safetensors file of this header and as many zero bytes of values.
pub(super) fn safetensors(header: &str, values: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + values, 0);
    file
}
