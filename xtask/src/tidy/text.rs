//! Rules on the text of files: no leftovers, no home directories, no backend outside `tensor`, a first line that says what the file is.

use super::{Findings, Source};

/// Lines after which a file is probably two.
const LONG_FILE: usize = 450;

// The needles are joined at compile time, so that this file does not find itself.
const LEFTOVERS: [&str; 4] =
    [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("db", "g!("), concat!("#[ig", "nore")];
const HOMES: [&str; 4] =
    [concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/ro", "ot/"), concat!(":\\Us", "ers\\")];
const BACKENDS: [&str; 4] =
    [concat!("cubecl_w", "gpu"), concat!("cubecl_c", "uda"), concat!("Wgpu", "Runtime"), concat!("Cuda", "Runtime")];

/// Checks every file.
pub fn check(sources: &[Source], findings: &mut Findings) {
    for source in sources {
        check_lines(source, findings);
        if !source.path.ends_with(".rs") {
            continue;
        }
        // A crate's README is its page of documentation, and says it.
        if !source.text.starts_with("//! ") && !source.text.starts_with("#![doc = include_str!(\"../README.md\")]") {
            findings.error(&source.path, "the first line does not say what the file is (`//! ...`)");
        }
        let lines = source.text.lines().count();
        if lines > LONG_FILE {
            findings.warnings.push(format!("{}: {lines} lines; is this one thing?", source.path));
        }
    }
}

fn check_lines(source: &Source, findings: &mut Findings) {
    let rust = source.path.ends_with(".rs");
    let may_name_backends = source.path.starts_with("crates/tensor/");
    for (number, line) in source.text.lines().enumerate() {
        let place = format!("{}:{}", source.path, number + 1);
        if let Some(home) = HOMES.iter().find(|needle| names_home(line, needle)) {
            findings.error(&place, format!("a path of someone's home directory ({home})"));
        }
        // Comments may speak of anything.
        if !rust || line.trim_start().starts_with("//") {
            continue;
        }
        if let Some(left) = LEFTOVERS.iter().find(|needle| starts_word(line, needle)) {
            findings.error(&place, format!("`{left}` is left over"));
        }
        if let Some(backend) = BACKENDS.iter().find(|needle| !may_name_backends && starts_word(line, needle)) {
            findings.error(&place, format!("`{backend}`: only crates/tensor names a backend"));
        }
    }
}

/// Whether `needle` occurs where no word runs into it.
fn starts_word(line: &str, needle: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(needle).any(|(at, _)| !line[..at].ends_with(word))
}

/// Whether a path begins with a home directory and goes on with a name: not the `.../home/` of an address.
fn names_home(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before =
            needle.starts_with(':') || !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-.".contains(c));
        before && line[at + needle.len()..].starts_with(|c: char| c.is_alphanumeric() || "_.".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::{super::source, *};

    fn errors(path: &str, text: &str) -> Vec<String> {
        let mut findings = Findings::default();
        check(&[source(path, text)], &mut findings);
        findings.errors
    }

    #[test]
    fn leftovers_are_found_with_their_line() {
        for left in LEFTOVERS {
            let found = errors("a.rs", &format!("//! A file.\nfn f() {{}}\n    {left}\n"));
            assert_eq!(found.len(), 1, "{left}");
            assert!(found[0].starts_with("a.rs:3: "), "{found:?}");
        }
    }

    #[test]
    fn comments_other_words_and_other_languages_are_not_leftovers() {
        let dbg = LEFTOVERS[2];
        assert!(errors("a.rs", &format!("//! A file.\n// {dbg}x)\nmy_{dbg}x)\n")).is_empty());
        assert!(errors("a.md", &format!("{dbg}x)\n")).is_empty());
    }

    #[test]
    fn home_directories_are_found_in_every_kind_of_file() {
        for home in HOMES {
            assert_eq!(errors("a.toml", &format!("path = \"{home}me/x\"")).len(), 1, "{home}");
        }
        let home = HOMES[0];
        assert!(errors("a.md", &format!("https://example.com{home}page, {home}, $HOME/x")).is_empty());
    }

    #[test]
    fn backends_are_named_in_the_tensor_crate_alone() {
        for backend in BACKENDS {
            let text = format!("//! A file.\nuse {backend};\n");
            assert_eq!(errors("kernels/a/src/lib.rs", &text).len(), 1, "{backend}");
            assert!(errors("crates/tensor/src/a.rs", &text).is_empty());
        }
    }

    #[test]
    fn a_file_says_what_it_is_and_long_ones_are_listed() {
        assert_eq!(errors("a.rs", "fn f() {}\n").len(), 1);
        let mut findings = Findings::default();
        check(&[source("a.rs", &format!("//! A file.\n{}", "\n".repeat(LONG_FILE)))], &mut findings);
        assert!(findings.errors.is_empty());
        assert_eq!(findings.warnings.len(), 1);
    }
}
