//! Whether a file ends before its image does: decoders fill what is missing of some with grey and call it a success.

/// Whether a JPEG or WebP file stops short; PNG's decoder notices by itself.
pub(super) fn is_truncated(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xd8, ..] => !jpeg_is_whole(bytes),
        // A RIFF file counts what follows its first 8 bytes.
        [b'R', b'I', b'F', b'F', a, b, c, d, ..] => bytes.len() - 8 < u32::from_le_bytes([*a, *b, *c, *d]) as usize,
        _ => false,
    }
}

/// Whether the end-of-image marker follows the last scan; whatever a camera has put behind it does not matter.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    // Behind the start-of-image marker.
    let mut at = 2;
    loop {
        // Entropy-coded data, then a marker: one or more 0xff and its code.
        while bytes.get(at).is_some_and(|&byte| byte != 0xff) {
            at += 1;
        }
        while bytes.get(at) == Some(&0xff) {
            at += 1;
        }
        match bytes.get(at..) {
            Some([0xd9, ..]) => return true,
            // A 0xff of the data, a temporary marker, a restart: no segment follows.
            Some([0x00 | 0x01 | 0xd0..=0xd7, ..]) => at += 1,
            // A segment, which counts its own two bytes of length.
            Some([_, high, low, ..]) => at += 1 + usize::from(u16::from_be_bytes([*high, *low])),
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_is_whole_when_its_end_marker_follows_the_scan() {
        // Start, a comment of 4 bytes that holds an end marker, a scan header, data with a stuffed byte and a restart, end, a tail.
        let jpeg = [
            &[0xff, 0xd8, 0xff, 0xfe, 0, 4, 0xff, 0xd9][..],
            &[0xff, 0xda, 0, 2, 5, 0xff, 0, 6, 0xff, 0xd0, 7, 0xff, 0xd9, 1, 2],
        ]
        .concat();
        assert!(jpeg_is_whole(&jpeg));
        for cut in 0..jpeg.len() - 2 {
            assert!(!jpeg_is_whole(&jpeg[..cut]), "{cut}");
        }
    }

    #[test]
    fn a_webp_is_truncated_when_it_is_shorter_than_it_says() {
        let webp = b"RIFF\x04\0\0\0WEBP";
        assert!(!is_truncated(webp));
        assert!(is_truncated(&webp[..11]));
    }
}
