//! Results of parts of a run of tokens to those of the run.

use cubecl::prelude::*;

/// `y = Σ_p w_p y_p / Σ_p w_p` with `w_p = exp(m_p + ln Σ_p − m)`, m the largest of the parts' m_p: a unit makes one vector of channels of a query's
/// head, its sums in the parts' order. With it go m and ln Σ_p w_p.
#[cube(launch_unchecked)]
pub(crate) fn join<F: Float, N: Size>(
    part_y: &Array<Vector<F, N>>, // [sets, parts, queries, C]
    part_stats: &Array<F>,        // [sets, parts, queries, heads, 2]
    y: &mut Array<Vector<F, N>>,  // [sets, queries, C]
    stats: &mut Array<F>,         // [sets, queries, heads, 2]
    parts: u32,
    queries: u32,
    heads: u32,
    vectors: u32, // of a head
    #[define(F)] _dtype: StorageType,
) {
    let index = ABSOLUTE_POS;
    if index >= y.len() {
        terminate!();
    }
    let at = index as u32;
    let vector = at % vectors;
    let head = at / vectors % heads;
    let row = at / vectors / heads;
    // Heads of a query in one part, and of all queries from a part to the next.
    let first = (row / queries * parts * queries + row % queries) * heads + head;
    let step = queries * heads;
    let mut max = f32::cast_from(part_stats[2 * first as usize]);
    for p in 1..parts {
        max = f32::max(max, f32::cast_from(part_stats[2 * (first + p * step) as usize]));
    }
    let mut total = 0.0f32;
    let mut sum = Vector::<f32, N>::new(0.0);
    for p in 0..parts {
        let from = first + p * step;
        let (own, ln_sum) =
            (f32::cast_from(part_stats[2 * from as usize]), f32::cast_from(part_stats[2 * from as usize + 1]));
        let weight = (own - max + ln_sum).exp();
        total += weight;
        sum += Vector::new(weight) * Vector::cast_from(part_y[(from * vectors + vector) as usize]);
    }
    y[index] = Vector::cast_from(sum / Vector::new(total));
    if vector == 0 {
        let to = 2 * (row * heads + head) as usize;
        stats[to] = F::cast_from(max);
        stats[to + 1] = F::cast_from(total.ln());
    }
}
