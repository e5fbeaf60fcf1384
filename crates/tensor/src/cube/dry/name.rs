//! Kernels and their variants in words, from what CubeCL says of them.

/// Where a kernel is defined: the type's path without its parameters and without the module that the macro puts it into.
pub(super) fn path(type_name: &str) -> String {
    let path = type_name.split('<').next().unwrap_or_default();
    path.rsplit_once("::").map_or(path, |(module, _)| module).to_string()
}

/// The compile-time values in a kernel's identifier, which ends with `-Some(Info { name: value, .. })`.
///
/// Structures are told by their fields, one level of names for all; what is not known at compile time has no value and is left out.
pub(super) fn variant(id: &str) -> String {
    let Some((_, info)) = id.split_once("-Some(") else { return String::new() };
    let info = info.strip_suffix(')').unwrap_or(info);
    let mut all = Vec::new();
    collect("", info, &mut all);
    all.join(", ")
}

fn collect(name: &str, value: &str, all: &mut Vec<String>) {
    let value = value.trim();
    if value == "()" || value.starts_with("ArrayCompilationArg") {
        return;
    }
    // `Scalar(Float(F32))`: the innermost word is the type's name.
    if let Some(element) = value.strip_prefix("Scalar(") {
        let element = element.trim_end_matches(')').rsplit('(').next().unwrap_or_default();
        all.push(format!("{name} {}", element.to_lowercase()));
        return;
    }
    // A list of run-time values: how many there are is known.
    if let Some(elements) = value.strip_prefix("Sequence ") {
        all.push(format!("{name} {}", split(elements.trim_start_matches('[').trim_end_matches(']')).len()));
        return;
    }
    match value.split_once(" { ").and_then(|(_, inner)| inner.strip_suffix(" }")) {
        Some(inner) => {
            for field in split(inner) {
                let (name, value) = field.split_once(": ").unwrap_or(("", field));
                collect(name, value, all);
            }
        }
        None if value.starts_with('[') => {
            for element in split(value.trim_start_matches('[').trim_end_matches(']')) {
                collect(name, element, all);
            }
        }
        None => all.push(format!("{name} {value}").trim_start().to_string()),
    }
}

/// Splits at commas outside of brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.into_iter().filter(|p| !p.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_neither_parameters_nor_the_macros_module() {
        let name = "swinstyle_bias_act::cube::forward::Forward<swinstyle_tensor::cube::dry::runtime::DryRuntime>";
        assert_eq!(path(name), "swinstyle_bias_act::cube::forward");
    }

    #[test]
    fn a_variant_tells_what_is_known_at_compile_time() {
        let id = "a::Forward<R>-u32-CubeDim { x: 48, y: 1, z: 1 }-Unchecked-Some(ForwardInfo { n: 4, b: Blueprint { \
                  units: 16, pair: (1, 2) }, dtypes: [Scalar(Float(F32)), Scalar(Float(BF16))], clamped: true, \
                  dims: Sequence [(), ()], \
                  qkv: ArrayCompilationArg { inplace: None }, m: Map { height: (), width: () }, length: () })";
        assert_eq!(variant(id), "n 4, units 16, pair (1, 2), dtypes f32, dtypes bf16, clamped true, dims 2");
        assert_eq!(variant("a::Kernel-u32-CubeDim { x: 1, y: 1, z: 1 }-Checked-None"), "");
    }
}
