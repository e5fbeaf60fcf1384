//! What a room tells the shared kernels of one head of one set.

use cubecl::prelude::*;

use super::super::cube::PADDING;

/// One head of one set: a window, or the tokens of an image. Rows are those of all groups and images; vectors hold eight channels.
#[cube]
pub trait Head<F: Float, N: Size>: CubeType + Send + Sync + 'static {
    /// The row of a query's result, or [`PADDING`] where it is dropped or there is no such query.
    fn result_row(&self, query: u32) -> u32;
    /// The row of a token, or [`PADDING`]; beyond the set too.
    fn token_row(&self, token: u32) -> u32;
    /// A vector of a query whose result has a row.
    fn query(&self, query: u32, row: u32, vector: usize) -> Vector<F, N>;
    /// A vector of a token's key or value (`part` 0, 1); the padded token's where it has no row.
    fn token(&self, row: u32, part: u32, vector: usize) -> Vector<F, N>;
    /// Where the gradient of a token's key or value (`part` 0, 1) begins, in vectors.
    fn token_gradient(&self, row: u32, part: u32) -> usize;
    /// What [`Self::logit`] must know of a query of the set.
    fn query_place(&self, query: u32) -> u32;
    /// What [`Self::logit`] must know of a token of the set.
    fn token_place(&self, token: u32) -> u32;
    /// The logit of a query and a token, by their places, from q·k.
    fn logit(&self, product: f32, query: u32, token: u32) -> f32;
}

/// Extents of a set, and which of its heads it is.
#[derive(CubeType, Clone, Copy)]
pub struct Extent {
    pub queries: u32,
    pub tokens: u32,
    pub heads: u32,
    pub head: u32,
    /// Whether there is such a set: units without one follow along to the barriers and leave nothing.
    pub active: bool,
}

/// Fills a tile's rows with keys and values, and their places; units from `unit` on, `units` apart.
#[cube]
pub(super) fn fill_tokens<F: Float, N: Size, H: Head<F, N>>(
    head: &H,
    keys: &mut SharedMemory<Vector<F, N>>,
    values: &mut SharedMemory<Vector<F, N>>,
    places: &mut SharedMemory<u32>,
    extent: &Extent,
    task: usize,
    first: u32,
    unit: usize,
    #[comptime] units: usize,
    #[comptime] rows: usize,
    #[comptime] head_vectors: usize,
    #[comptime] pitch: usize,
) {
    // The last vector of a row keeps rows apart.
    let vectors = comptime!(pitch - 1);
    let mut at = unit;
    while at < comptime!(rows * vectors) {
        let to = task * comptime!(rows * pitch) + at / vectors * pitch + at % vectors;
        let mut key = Vector::<F, N>::cast_from(Vector::<f32, N>::new(0.0));
        let mut value = key;
        if at % vectors < head_vectors {
            let row = head.token_row(first + (at / vectors) as u32);
            key = head.token(row, 0u32, at % vectors);
            value = head.token(row, 1u32, at % vectors);
        }
        keys[to] = key;
        values[to] = value;
        at += units;
    }
    let mut at = unit;
    while at < rows {
        let token = first + at as u32;
        let mut place = PADDING.runtime();
        if token < extent.tokens {
            place = head.token_place(token);
        }
        places[task * rows + at] = place;
        at += units;
    }
}
