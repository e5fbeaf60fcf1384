//! Label maps: which part of a picture each pixel belongs to, and PNG files of them.

use std::io::Cursor;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::folder::{check_size, complaint::damaged, read_file};
use crate::picture::Picture;
use crate::{DataError, Result};

/// Pixels of a label map's file at most: 64 Mi.
const MAX_PIXELS: u64 = 64 << 20;

/// A region of the label map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// The value in the label map.
    pub index: u8,
    /// What is drawn there.
    pub name: String,
    /// Its colour in the palette of label PNGs.
    pub color: [u8; 3],
}

/// A label for each pixel of a square picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelMap {
    /// The side in pixels.
    pub size: usize,
    /// Indices into the list of labels.
    pub labels: Vec<u8>, // [H, W]
}

impl LabelMap {
    /// The map, mirrored left to right where `flip` says so.
    pub fn flipped(mut self, flip: bool) -> Self {
        if flip {
            self.labels.chunks_exact_mut(self.size.max(1)).for_each(<[u8]>::reverse);
        }
        self
    }

    /// The map in its labels' colours; white where a label is not among `labels`.
    pub fn picture(&self, labels: &[Label]) -> Picture {
        let color = |&label: &u8| labels.get(usize::from(label)).map_or([255; 3], |label| label.color);
        Picture { width: self.size, height: self.size, rgb: self.labels.iter().flat_map(color).collect() }
    }
}

/// Checks a list of labels: numbered from 0 in order, names and colours each once.
///
/// # Errors
/// [`DataError::InvalidArgument`] names the first label that is wrong.
pub fn check_labels(labels: &[Label]) -> Result<()> {
    if !(1..=256).contains(&labels.len()) {
        return Err(DataError::argument("number of labels", labels.len(), "from 1 to 256"));
    }
    for (i, label) in labels.iter().enumerate() {
        let known = &labels[..i];
        if usize::from(label.index) != i {
            return Err(DataError::argument("label index", label.index, format!("{i}: labels are numbered in order")));
        }
        if known.iter().any(|other| other.name == label.name || other.color == label.color) {
            let value = format!("{} {}", label.name, hex(label.color));
            return Err(DataError::argument("label", value, "of a name and a colour that no other label has"));
        }
    }
    Ok(())
}

/// Reads a label map and brings it to `size` × `size` pixels: the middle square, each pixel the nearest of the file's.
///
/// The file is a PNG whose pixels say their label by number (grey, or indexed with the palette 0, 0, 0; 1, 1, 1; …) or by the
/// label's colour (any other palette, RGB, RGBA). So what [`crate::picture::write_label_png`] writes is read, and what a
/// paint program makes of it.
///
/// # Errors
/// [`DataError::Read`]; [`DataError::BadImage`] for another format, and for a number or colour that is no label's, with its
/// place and the labels there are.
pub fn load_label_map(path: &Path, labels: &[Label], size: usize) -> Result<LabelMap> {
    check_size(size)?;
    let raw = decode(path)?;
    let label_of = |value: Value| match value {
        Value::Number(number) => (usize::from(number) < labels.len()).then_some(number),
        Value::Color(color) => labels.iter().position(|label| label.color == color).map(|place| place as u8),
    };
    let mut map = Vec::with_capacity(raw.values.len());
    // Neighbours mostly have one label.
    let mut last = None;
    for (i, &value) in raw.values.iter().enumerate() {
        let label = match last {
            Some((known, label)) if known == value => label,
            _ => label_of(value).ok_or_else(|| {
                let (x, y) = (i % raw.width, i / raw.width);
                let said = match value {
                    Value::Number(number) => format!("the label {number}"),
                    Value::Color(color) => format!("the colour {}", hex(color)),
                };
                DataError::bad_image(path, format!("{said} at ({x}, {y}) is none of the model's: {}", list(labels)))
            })?,
        };
        last = Some((value, label));
        map.push(label);
    }
    let side = raw.width.min(raw.height);
    let (left, top) = ((raw.width - side) as f64 / 2.0, (raw.height - side) as f64 / 2.0);
    let source = |origin: f64, i: usize| (origin + (i as f64 + 0.5) * side as f64 / size as f64) as usize;
    let row = |y: usize| {
        let row = &map[source(top, y) * raw.width..][..raw.width];
        (0..size).map(move |x| row[source(left, x)])
    };
    Ok(LabelMap { size, labels: (0..size).flat_map(row).collect() })
}

/// What a pixel of the file says about its label.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    Number(u8),
    Color([u8; 3]),
}

struct Raw {
    width: usize,
    height: usize,
    values: Vec<Value>, // [H, W]
}

fn decode(path: &Path) -> Result<Raw> {
    let bytes = read_file(path)?;
    let bad = |reason: String| DataError::bad_image(path, reason);
    if !bytes.starts_with(b"\x89PNG") {
        return Err(bad("not a PNG image; label maps are PNG files".to_owned()));
    }
    let cannot = |error: png::DecodingError| match &error {
        png::DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            bad("the file is truncated".to_owned())
        }
        png::DecodingError::LimitsExceeded => bad("its header asks for too much memory".to_owned()),
        error => bad(damaged(&error.to_string(), "PNG")),
    };
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    // Indices as they are in the file, not their colours.
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(cannot)?;
    let info = reader.info();
    let (width, height, depth) = (info.width as usize, info.height as usize, info.bit_depth as usize);
    let palette: Vec<[u8; 3]> =
        info.palette.iter().flat_map(|p| p.chunks_exact(3)).map(|color| [color[0], color[1], color[2]]).collect();
    let kind = info.color_type;
    if (width * height) as u64 > MAX_PIXELS {
        return Err(bad(format!(
            "{width} x {height} pixels are too many, the limit of label maps is {} million: make it smaller first",
            MAX_PIXELS / 1_000_000
        )));
    }
    if depth == 16 {
        return Err(bad("has 16 bits a channel; a label map has 8 or fewer".to_owned()));
    }
    let length = reader.output_buffer_size().ok_or_else(|| bad("is too large".to_owned()))?;
    let mut buffer = vec![0; length];
    let frame = reader.next_frame(&mut buffer).map_err(cannot)?;
    // A palette that is a ramp of greys says numbers.
    let ramp = kind != png::ColorType::Indexed || palette.iter().enumerate().all(|(i, color)| *color == [i as u8; 3]);
    let samples = kind.samples();
    let per_byte = 8 / depth;
    let mask = ((1_u32 << depth) - 1) as u8;
    let mut values = Vec::with_capacity(width * height);
    for (y, line) in buffer.chunks_exact(frame.line_size.max(1)).take(height).enumerate() {
        for x in 0..width {
            let at = x * samples;
            values.push(match kind {
                png::ColorType::Rgb | png::ColorType::Rgba => Value::Color([line[at], line[at + 1], line[at + 2]]),
                png::ColorType::GrayscaleAlpha => Value::Number(line[at]),
                png::ColorType::Grayscale | png::ColorType::Indexed => {
                    let shift = 8 - depth * (x % per_byte + 1);
                    let number = line[x / per_byte] >> shift & mask;
                    match palette.get(usize::from(number)) {
                        _ if ramp => Value::Number(number),
                        Some(&color) => Value::Color(color),
                        None => return Err(bad(format!("the index {number} at ({x}, {y}) is not in its palette"))),
                    }
                }
            });
        }
    }
    Ok(Raw { width, height, values })
}

fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn list(labels: &[Label]) -> String {
    let all = labels.iter().map(|label| format!("{} {} {}", label.index, label.name, hex(label.color)));
    all.collect::<Vec<_>>().join(", ")
}
