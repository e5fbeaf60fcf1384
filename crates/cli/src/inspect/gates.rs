//! What the code of every kernel must hold; continuous integration stops where it does not.

use std::collections::BTreeSet;

use super::report::{CaseReport, Line};

/// Spilled bytes that are let pass: ptxas spills a value or two, most often around a loop, to reach a round number of registers
/// that allows one more warp. Arrays that do not fit the registers spill hundreds.
const SPILLED_BYTES: u32 = 16;

/// The broken gates, a line each.
pub(super) fn check(cases: &[CaseReport]) -> Vec<String> {
    let mut broken: Vec<String> =
        cases.iter().filter_map(|c| Some(format!("{} stopped: {}", c.case, c.error.as_ref()?))).collect();
    let mut seen = BTreeSet::new();
    for line in cases.iter().flat_map(|c| &c.launches).filter(|l| seen.insert(&l.file)) {
        if let Some(fault) = fault(line) {
            broken.push(format!("{} ({}): {fault}", line.kernel, line.variant));
        }
    }
    broken
}

/// What is wrong with a program.
fn fault(line: &Line) -> Option<String> {
    let (Some(r), Some(s)) = (&line.resources, &line.sass) else {
        return Some(format!("does not compile: {}", line.error.as_deref().unwrap_or("no code")));
    };
    if r.spilled_bytes > SPILLED_BYTES {
        let (bytes, times) = (r.spilled_bytes, s.spills_in_loops);
        return Some(format!("{bytes} bytes are spilled, and {times} instructions in loops touch them"));
    }
    None
}
