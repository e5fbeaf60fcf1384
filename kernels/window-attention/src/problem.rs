//! Shapes and parameters of a window attention: plain data, checked once.

use swinstyle_kit::attention::{Chunks, Cost, Windows};
use swinstyle_tensor::{Device, Result, TensorError};

/// Name in errors and profiles.
pub const OP: &str = "window_attention";

/// What a caller chooses: window, shift, heads and the factor on the logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowAttention {
    /// Rows and columns of a window.
    pub window: [usize; 2],
    /// Cyclic shift in rows and columns, each below the window's; an axis that one window covers is not shifted.
    pub shift: [usize; 2],
    /// Heads; they divide the channels.
    pub heads: usize,
    /// Factor on q·k, usually head_dim^−½.
    pub scale: f64,
}

impl WindowAttention {
    /// Parameters with the usual scale, (channels / heads)^−½.
    pub fn new(window: [usize; 2], shift: [usize; 2], heads: usize, channels: usize) -> Self {
        Self { window, shift, heads, scale: (channels as f64 / heads.max(1) as f64).powf(-0.5) }
    }
}

/// A window attention on one shape of map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Problem {
    /// The windows of the map.
    pub windows: Windows,
    /// Heads.
    pub heads: usize,
    /// Channels of one head.
    pub head_dim: usize,
    /// Factor on q·k.
    pub scale: f64,
}

impl Problem {
    /// The problem for a `qkv` of shape `[B, H, W, 3C]`, `pad_qkv` `[3C]` and a bias table `[(2wh−1)(2ww−1), heads]`.
    ///
    /// Errors: any shape that does not fit, heads that do not divide the channels, a shift that reaches the window.
    pub fn new(qkv: &[usize], pad_qkv: Option<&[usize]>, table: &[usize], attention: &WindowAttention) -> Result<Self> {
        let WindowAttention { window, shift, heads, scale } = *attention;
        let &[batch, height, width, channels] = qkv else {
            return Err(TensorError::shape(OP, format!("qkv {qkv:?} is not [B, H, W, 3C]")));
        };
        if heads == 0 || heads > channels || !channels.is_multiple_of(3 * heads) {
            let detail = format!("qkv {qkv:?} does not hold 3 · {heads} heads of equal length");
            return Err(TensorError::shape(OP, detail));
        }
        let windows = Windows::new([batch, height, width], window, shift);
        let problem = Self { windows, heads, head_dim: channels / (3 * heads), scale };
        if window.contains(&0) || (0..2).any(|axis| shift[axis] >= window[axis]) {
            let detail = format!("window {window:?} with shift {shift:?}; a shift must be below its window");
            return Err(TensorError::shape(OP, detail));
        }
        if table != [windows.table_len(), heads] {
            let wanted = [windows.table_len(), heads];
            let detail = format!("bias table {table:?}; window {window:?} with {heads} heads has {wanted:?}");
            return Err(TensorError::shape(OP, detail));
        }
        if pad_qkv.is_some_and(|pad| pad != [channels]) {
            return Err(TensorError::shape(OP, format!("pad_qkv {pad_qkv:?} for qkv {qkv:?}")));
        }
        swinstyle_kit::Problem::validate(&problem)?;
        Ok(problem)
    }

    /// Channels C of the output.
    pub fn channels(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Shape of the output, `[B, H, W, C]`.
    pub fn output_shape(&self) -> Vec<usize> {
        let Windows { batch, height, width, .. } = self.windows;
        vec![batch, height, width, self.channels()]
    }

    /// Multiply-adds of one n×n×head_dim product over all windows and heads.
    fn product(&self) -> u64 {
        let n = self.windows.cells() as u64;
        n * n * (self.windows.count() * self.channels()) as u64
    }

    /// Floating-point operations of the backward pass: five products where the forward has two.
    pub fn backward_flops(&self) -> u64 {
        10 * self.product()
    }
}

impl swinstyle_kit::Problem for Problem {
    fn validate(&self) -> Result<()> {
        if !self.scale.is_finite() {
            return Err(TensorError::shape(OP, format!("scale {}", self.scale)));
        }
        let w = &self.windows;
        let n = w.window[0].checked_mul(w.window[1]);
        let work = n.and_then(|n| n.checked_mul(n)).and_then(|n| n.checked_mul(self.heads));
        if work.is_none_or(|n| n > 1 << 30) {
            return Err(TensorError::shape(OP, format!("window {:?} is too large", w.window)));
        }
        Ok(())
    }

    fn flops(&self) -> u64 {
        4 * self.product()
    }

    /// qkv and the table in, y out.
    fn min_bytes(&self, element_size: usize) -> u64 {
        let elements = 4 * self.windows.tokens() * self.channels() + self.windows.table_len() * self.heads;
        (elements * element_size) as u64
    }
}

/// What the backward pass computes beside the gradient of qkv, and where its partial sums lie.
///
/// A row of the partial sums belongs to one run of windows and one head: `[n, n]` (keys down) of logit gradients if
/// `table`, then `[n, 2, head_dim]` of k and v gradients at padded cells if `pad`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partials {
    /// The bias table's gradient is wanted.
    pub table: bool,
    /// The padded token's gradient is wanted.
    pub pad: bool,
    /// Runs of windows.
    pub chunks: Chunks,
}

impl Partials {
    /// The partial sums of a problem on a device.
    pub fn new(p: &Problem, table: bool, pad: bool, device: Device) -> Self {
        let cells = p.windows.cells();
        let elements = p.heads * Self::row_length(p, table, pad);
        let cost = Cost { elements, units: p.heads * cells, values: 3 * cells * p.channels() };
        Self { table, pad, chunks: Chunks::new(p.windows.count(), cost, device) }
    }

    fn row_length(p: &Problem, table: bool, pad: bool) -> usize {
        let n = p.windows.cells();
        usize::from(table) * n * n + usize::from(pad) * 2 * n * p.head_dim
    }

    /// Elements of a row.
    pub fn row(&self, p: &Problem) -> usize {
        Self::row_length(p, self.table, self.pad)
    }

    /// Where the padding's part of a row begins.
    pub fn pad_offset(&self, p: &Problem) -> usize {
        Self::row_length(p, self.table, false)
    }

    /// Shape of the partial sums.
    pub fn shape(&self, p: &Problem) -> Vec<usize> {
        vec![self.chunks.count, p.heads, self.row(p)]
    }
}
