//! What the code of every kernel must hold; continuous integration stops where it does not.

use std::collections::BTreeSet;

use super::{
    report::{CaseReport, Line},
    resources::Resources,
    sass::Sass,
};

/// Spilled bytes that are let pass: ptxas spills a few values, most often around a loop, to reach a round number of registers that allows
/// one more cube on a multiprocessor. Whether it does hangs on the order of the source, which CubeCL writes in another order from run to run.
/// Arrays that do not fit the registers spill hundreds.
const SPILLED_BYTES: u32 = 16;

/// Kernels whose loops are fed from global memory, which must come in full vectors where the shapes allow vectors of four.
const STREAMING: [&str; 9] = [
    "bias_act::forward",
    "layer_norm::forward",
    "modulated_conv2d::conv",
    "modulated_conv2d::to_rgb",
    "query_attention::forward",
    "tensor::matmul",
    "upfirdn2d::gather",
    "upfirdn2d::slide",
    "window_attention::forward",
];

/// Kernels on matrix units: their code must hold matrix instructions, and their loops full vectors of halves.
const ON_MATRIX_UNITS: [&str; 7] = [
    "modulated_conv2d::conv_matrix",
    "modulated_conv2d::weight_gradient_matrix",
    "query_attention::backward_matrix",
    "query_attention::forward_matrix",
    "tensor::matmul_matrix",
    "window_attention::backward_matrix",
    "window_attention::forward_matrix",
];

/// What must not run where a half type allows the forms above, which all shapes of the bench do.
const OFF_MATRIX_UNITS: [&str; 7] = [
    "modulated_conv2d::conv",
    "modulated_conv2d::weight_gradient",
    "query_attention::backward",
    "query_attention::forward",
    "tensor::matmul",
    "window_attention::backward",
    "window_attention::forward",
];

/// The broken gates, a line each.
pub(super) fn check(cases: &[CaseReport]) -> Vec<String> {
    let mut broken: Vec<String> =
        cases.iter().filter_map(|c| Some(format!("{} stopped: {}", c.case, c.error.as_ref()?))).collect();
    let mut seen = BTreeSet::new();
    for case in cases {
        for line in &case.launches {
            // The tour goes through shapes that nobody runs; they need only compile.
            let fault = match (&line.resources, &line.sass) {
                (Some(_), Some(_)) if case.is_tour() => continue,
                (Some(resources), Some(sass)) => {
                    spilled(resources, sass).or_else(|| narrow(line, sass)).or_else(|| scalar(line, sass))
                }
                _ => Some(format!("does not compile: {}", line.error.as_deref().unwrap_or("no code"))),
            };
            if let Some(fault) = fault.filter(|_| seen.insert(&line.file)) {
                broken.push(format!("{} ({}): {fault}", line.kernel, line.variant));
            }
        }
    }
    broken
}

/// Spills that no gate stops, a line each.
pub(super) fn tolerated(cases: &[CaseReport]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let launches = cases.iter().filter(|c| !c.is_tour()).flat_map(|c| &c.launches);
    let few = launches.filter_map(|line| {
        let (resources, sass) = (line.resources.as_ref()?, line.sass.as_ref()?);
        let few = (1..=SPILLED_BYTES).contains(&resources.spilled_bytes) && seen.insert(&line.file);
        let spill = few.then(|| spill(resources, sass))?;
        Some(format!("{} ({}): {spill}; up to {SPILLED_BYTES} are let pass", line.kernel, line.variant))
    });
    few.collect()
}

fn spilled(resources: &Resources, sass: &Sass) -> Option<String> {
    (resources.spilled_bytes > SPILLED_BYTES).then(|| spill(resources, sass))
}

fn spill(resources: &Resources, sass: &Sass) -> String {
    let (bytes, times) = (resources.spilled_bytes, sass.spills_in_loops);
    format!("{bytes} bytes are spilled, and {times} instructions in loops touch them")
}

fn narrow(line: &Line, sass: &Sass) -> Option<String> {
    // The first of the compile-time values is the vector width, whatever its name.
    let first = line.variant.split(", ").next().unwrap_or_default();
    let full = first.ends_with(" 4") && line.variant.contains("f32") && !line.variant.contains("f16");
    if !full || !STREAMING.contains(&line.kernel.as_str()) {
        return None;
    }
    let (loads, place) = match sass.loads_in_loops.total() {
        0 => (&sass.loads, "there"),
        _ => (&sass.loads_in_loops, "in its loops"),
    };
    (loads.of(128) == 0).then(|| format!("no load of 128 bits {place} (by bits: {loads})"))
}

fn scalar(line: &Line, sass: &Sass) -> Option<String> {
    let kernel = line.kernel.as_str();
    let half = line.variant.ends_with("f16");
    if half && OFF_MATRIX_UNITS.contains(&kernel) {
        return Some("runs in a half type without matrix units".to_string());
    }
    if !ON_MATRIX_UNITS.contains(&kernel) {
        return None;
    }
    if sass.matrix + sass.group_matrix == 0 {
        return Some("no matrix instruction".to_string());
    }
    let loads = &sass.loads_in_loops;
    (loads.of(128) == 0).then(|| format!("no load of 128 bits in its loops (by bits: {loads})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A case of one launch: registers spilled, and the loads of a loop.
    fn case(name: &str, kernel: &str, spilled_bytes: u32, load: &str) -> CaseReport {
        let listing = format!(
            "\t.section\t.text.k\n.L_x_0:\n/*0000*/ {load} R4, desc[UR6][R2.64] ;\n/*0010*/ @P0 BRA `(.L_x_0) ;\n"
        );
        let resources = Resources { registers: 32, spilled_bytes, stack_bytes: 0, declared_shared_bytes: 0 };
        let line = Line {
            kernel: kernel.to_string(),
            variant: "n 4, dtype f32".to_string(),
            resources: Some(resources),
            sass: Some(Sass::count(&listing)),
            ..Line::default()
        };
        CaseReport { case: name.to_string(), error: None, launches: vec![line] }
    }

    #[test]
    fn spills_and_narrow_loads_break_a_gate_and_a_few_bytes_do_not() {
        let broken = |spilled, load| check(&[case("modconv/a", "modulated_conv2d::conv", spilled, load)]).len();
        assert_eq!(broken(16, "LDG.E.128"), 0);
        assert_eq!(broken(20, "LDG.E.128"), 1);
        assert_eq!(broken(0, "LDG.E"), 1);
        assert!(check(&[case("modconv/a", "modulated_conv2d::weight_gradient", 0, "LDG.E")]).is_empty());
        assert!(check(&[case("tour/f32/convolution", "modulated_conv2d::conv", 500, "LDG.E")]).is_empty());
    }

    #[test]
    fn a_few_spilled_bytes_are_let_pass_and_said() {
        let said =
            |name: &str, bytes| tolerated(&[case(name, "window_attention::backward_matrix", bytes, "LDG.E.128")]);
        assert!(said("a", 0).is_empty() && said("a", 20).is_empty() && said("tour/f32/a", 4).is_empty());
        let lines = said("a", 4);
        assert!(lines.len() == 1 && lines[0].contains("4 bytes") && lines[0].contains("up to 16"), "{lines:?}");
    }

    #[test]
    fn half_types_without_matrix_instructions_break_a_gate() {
        let broken = |kernel: &str, body: &str| {
            let mut case = case("modconv/a/bf16/fwd", kernel, 0, body);
            case.launches[0].variant = "n 8, dtype bf16".to_string();
            check(&[case]).len()
        };
        let product = "HMMA.16816.F32.BF16 R8, R4, R2, R8 ;\n/*0008*/ LDG.E.128";
        assert_eq!(broken("modulated_conv2d::conv_matrix", product), 0);
        assert_eq!(broken("modulated_conv2d::conv_matrix", "LDG.E.128"), 1);
        assert_eq!(broken("modulated_conv2d::conv_matrix", "HMMA.16816.F32 R8, R4, R2, R8 ;\n/*0008*/ LDG.E.64"), 1);
        assert_eq!(broken("modulated_conv2d::conv", product), 1);
        assert_eq!(broken("modulated_conv2d::epilogue", "LDG.E.64"), 0);
    }

    #[test]
    fn what_does_not_compile_and_a_case_that_stops_break_a_gate() {
        let mut failed = case("tour/f16/matmul", "tensor::matmul", 0, "LDG.E.128");
        failed.launches[0].sass = None;
        failed.launches[0].error = Some("no operator".to_string());
        assert!(check(&[failed])[0].contains("does not compile: no operator"));
        let stopped = CaseReport { case: "a".to_string(), error: Some("why".to_string()), launches: Vec::new() };
        assert_eq!(check(&[stopped]), ["a stopped: why"]);
    }
}
