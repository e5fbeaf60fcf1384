//! Shapes and parameters of an attention of learned queries: plain data, checked once.

use swinstyle_kit::attention::{Chunks, Cost, Windows};
use swinstyle_tensor::{Device, Result, Tensor, TensorError};

/// Name in errors and profiles.
pub const OP: &str = "query_attention";

/// What a caller chooses: heads and the factor on the logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueryAttention {
    /// Heads; they divide the channels.
    pub heads: usize,
    /// Factor on q·k, usually head_dim^−½.
    pub scale: f64,
}

impl QueryAttention {
    /// Parameters with the usual scale, (channels / heads)^−½.
    pub fn new(heads: usize, channels: usize) -> Self {
        Self { heads, scale: usual_scale(heads, channels) }
    }
}

/// [`QueryAttention`] with the window whose tokens the queries see.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowQueryAttention {
    /// Rows and columns of a window; there is one query a cell.
    pub window: [usize; 2],
    /// Heads; they divide the channels.
    pub heads: usize,
    /// Factor on q·k, usually head_dim^−½.
    pub scale: f64,
}

impl WindowQueryAttention {
    /// Parameters with the usual scale, (channels / heads)^−½.
    pub fn new(window: [usize; 2], heads: usize, channels: usize) -> Self {
        Self { window, heads, scale: usual_scale(heads, channels) }
    }
}

fn usual_scale(heads: usize, channels: usize) -> f64 {
    (channels as f64 / heads.max(1) as f64).powf(-0.5)
}

/// What is added to the logits of the windowed form.
#[derive(Debug, Clone, Copy)]
pub enum Bias<'a> {
    /// Nothing.
    None,
    /// One number a query, key and head: `[heads, M, N]`, or `[G, heads, M, N]`.
    Dense(&'a Tensor),
    /// A relative-position table: `[(2wh − 1)(2ww − 1), heads]`, or `[G, (2wh − 1)(2ww − 1), heads]`.
    Table(&'a Tensor),
}

impl<'a> Bias<'a> {
    /// Its tensor.
    pub(crate) fn tensor(&self) -> Option<&'a Tensor> {
        match self {
            Self::None => None,
            Self::Dense(t) | Self::Table(t) => Some(t),
        }
    }

    pub(crate) fn kind(&self) -> BiasKind {
        match self {
            Self::None => BiasKind::None,
            Self::Dense(_) => BiasKind::Dense,
            Self::Table(_) => BiasKind::Table,
        }
    }
}

/// Where the tokens of a set lie, and where its results go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Set s holds the tokens s·tokens.. and gives the rows s·queries..
    Run {
        /// Sets (images) of a group.
        sets: usize,
        /// Queries of a set.
        queries: usize,
        /// Tokens of a set.
        tokens: usize,
    },
    /// Sets are windows of maps, with a query for each cell, whose result goes where the cell is.
    Windows(Windows),
}

/// Form of the bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BiasKind {
    /// No bias.
    None,
    /// `[groups, heads, queries, tokens]`
    Dense,
    /// `[groups, (2wh − 1)(2ww − 1), heads]`
    Table,
}

/// An attention of learned queries on given shapes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Problem {
    /// Independent problems of one shape, each with its own queries, bias and padded token.
    pub groups: usize,
    /// The sets of one group.
    pub layout: Layout,
    /// Heads.
    pub heads: usize,
    /// Channels of one head.
    pub head_dim: usize,
    /// Factor on q·k.
    pub scale: f64,
    /// Form of the bias.
    pub bias: BiasKind,
    /// Every set has queries of its own, instead of sharing the group's.
    pub own_queries: bool,
}

impl Problem {
    /// Channels C of queries and results.
    pub fn channels(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Sets of one group.
    pub fn sets(&self) -> usize {
        match self.layout {
            Layout::Run { sets, .. } => sets,
            Layout::Windows(w) => w.count(),
        }
    }

    /// Queries of a set.
    pub fn queries(&self) -> usize {
        match self.layout {
            Layout::Run { queries, .. } => queries,
            Layout::Windows(w) => w.cells(),
        }
    }

    /// Tokens of a set, padding included.
    pub fn tokens(&self) -> usize {
        match self.layout {
            Layout::Run { tokens, .. } => tokens,
            Layout::Windows(w) => w.cells(),
        }
    }

    /// Rows of results of one group.
    pub fn rows(&self) -> usize {
        match self.layout {
            Layout::Run { sets, queries, .. } => sets * queries,
            Layout::Windows(w) => w.tokens(),
        }
    }

    /// Rows of keys and values of one group.
    pub fn token_rows(&self) -> usize {
        match self.layout {
            Layout::Run { sets, tokens, .. } => sets * tokens,
            Layout::Windows(w) => w.tokens(),
        }
    }

    /// Whether some sets hold padding.
    pub fn is_padded(&self) -> bool {
        matches!(self.layout, Layout::Windows(w) if w.is_padded())
    }

    /// Sets of queries in all: one a group, or one a set.
    pub fn owners(&self) -> usize {
        self.groups * if self.own_queries { self.sets() } else { 1 }
    }

    /// Elements of one group's bias.
    pub fn bias_len(&self) -> usize {
        match (self.bias, self.layout) {
            (BiasKind::Dense, _) => self.heads * self.queries() * self.tokens(),
            (BiasKind::Table, Layout::Windows(w)) => w.table_len() * self.heads,
            _ => 0,
        }
    }

    /// Where the logit of a query and a key of one head finds its bias within its group's.
    pub fn bias_index(&self, head: usize, query: usize, key: usize) -> usize {
        match (self.bias, self.layout) {
            (BiasKind::Table, Layout::Windows(w)) => w.table_index(query, key) * self.heads + head,
            _ => (head * self.queries() + query) * self.tokens() + key,
        }
    }

    /// Multiply-adds of one product over all sets and heads.
    fn product(&self) -> u64 {
        (self.groups * self.sets()) as u64 * (self.queries() * self.tokens()) as u64 * self.channels() as u64
    }

    /// Floating-point operations of the backward pass: five products where the forward has two.
    pub fn backward_flops(&self) -> u64 {
        10 * self.product()
    }
}

impl swinstyle_kit::Problem for Problem {
    fn validate(&self) -> Result<()> {
        let fail = |detail: String| Err(TensorError::shape(OP, detail));
        if !self.scale.is_finite() {
            return fail(format!("scale {}", self.scale));
        }
        if self.tokens() == 0 {
            return fail("queries need at least one token".to_string());
        }
        let bias = self.queries().checked_mul(self.tokens()).and_then(|n| n.checked_mul(self.heads));
        if bias.is_none_or(|n| n > 1 << 30) {
            let (m, n) = (self.queries(), self.tokens());
            return fail(format!("{m} queries on {n} tokens with {} heads are too many", self.heads));
        }
        Ok(())
    }

    fn flops(&self) -> u64 {
        4 * self.product()
    }

    /// Queries, keys, values and bias in, results out.
    fn min_bytes(&self, element_size: usize) -> u64 {
        let c = self.channels();
        let rows = self.owners() * self.queries() + self.groups * (2 * self.token_rows() + self.rows());
        ((rows * c + self.groups * self.bias_len()) * element_size) as u64
    }
}

/// What the backward pass computes beside the gradient of keys and values, and where its partial sums lie.
///
/// A row of the partial sums belongs to one owner of queries, one run of its sets and one head: `[queries, head_dim]` of query
/// gradients if `q`, then `[tokens, queries]` of logit gradients if `bias`, then `[tokens, 2, head_dim]` of k and v gradients at
/// padded cells if `pad`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partials {
    /// The queries' gradient is wanted.
    pub q: bool,
    /// The bias's gradient is wanted.
    pub bias: bool,
    /// The padded tokens' gradient is wanted.
    pub pad: bool,
    /// Runs of an owner's sets.
    pub chunks: Chunks,
}

impl Partials {
    /// The partial sums of a problem on a device.
    pub fn new(p: &Problem, [q, bias, pad]: [bool; 3], device: Device) -> Self {
        let mut partials = Self { q, bias, pad, chunks: Chunks { length: 1, count: 1, sets: 1 } };
        let sets = if p.own_queries { 1 } else { p.sets() };
        let heads = p.owners() * p.heads;
        let cost = Cost {
            elements: heads * partials.row(p),
            units: heads * p.queries(),
            values: 2 * p.owners() * p.tokens() * p.channels(),
        };
        partials.chunks = Chunks::new(sets, cost, device);
        partials
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        !(self.q || self.bias || self.pad)
    }

    /// Where the bias's part of a row begins.
    pub fn bias_offset(&self, p: &Problem) -> usize {
        usize::from(self.q) * p.queries() * p.head_dim
    }

    /// Where the padding's part of a row begins.
    pub fn pad_offset(&self, p: &Problem) -> usize {
        self.bias_offset(p) + usize::from(self.bias) * p.tokens() * p.queries()
    }

    /// Elements of a row.
    pub fn row(&self, p: &Problem) -> usize {
        self.pad_offset(p) + usize::from(self.pad) * p.tokens() * 2 * p.head_dim
    }

    /// Shape of the partial sums.
    pub fn shape(&self, p: &Problem) -> Vec<usize> {
        vec![p.owners(), self.chunks.count, p.heads, self.row(p)]
    }
}
