//! Links of Markdown files into the repository lead somewhere.

use super::{Findings, Source};

/// Checks every Markdown file; `exists` is asked with paths relative to the root.
pub fn check(sources: &[Source], exists: impl Fn(&str) -> bool, findings: &mut Findings) {
    for source in sources.iter().filter(|s| s.path.ends_with(".md")) {
        for (line, target) in targets(&source.text) {
            let place = format!("{}:{line}", source.path);
            match resolve(&source.path, target) {
                None => findings.error(&place, format!("the link `{target}` leaves the repository")),
                Some(path) if !path.is_empty() && !exists(&path) => {
                    findings.error(&place, format!("the link `{target}` leads nowhere"));
                }
                Some(_) => {}
            }
        }
    }
}

/// Targets of `[text](target)`, `![alt](target)` and `src="target"` with their line, without addresses and anchors.
fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        if in_code {
            continue;
        }
        // Outside `code` only: the even pieces between backticks. (A link whose text is code has its target outside.)
        for piece in line.split('`').step_by(2) {
            found.extend(between(piece, "](", &[')', ' ']).map(|t| (number + 1, t)));
            found.extend(between(piece, "src=\"", &['"']).map(|t| (number + 1, t)));
        }
    }
    found.retain(|(_, t)| !t.contains("://") && !t.starts_with("mailto:") && !t.starts_with('#') && !t.is_empty());
    found.sort_unstable();
    found.dedup();
    found
}

/// The pieces of `text` that stand between `open` and the next of `close`.
fn between<'a>(text: &'a str, open: &'a str, close: &'a [char]) -> impl Iterator<Item = &'a str> {
    text.match_indices(open).map(move |(at, _)| {
        let rest = &text[at + open.len()..];
        &rest[..rest.find(close).unwrap_or(rest.len())]
    })
}

/// A link's path from the root, or `None` if it climbs above it.
fn resolve(from: &str, target: &str) -> Option<String> {
    let path = target.split(['#', '?']).next().unwrap_or_default();
    let mut parts: Vec<&str> = match path.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => from.rsplit_once('/').map(|(folder, _)| folder.split('/').collect()).unwrap_or_default(),
    };
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::{super::source, *};

    #[test]
    fn links_resolve_from_the_folder_of_their_file() {
        assert_eq!(resolve("README.md", "a/b.md").as_deref(), Some("a/b.md"));
        assert_eq!(resolve("kernels/a/README.md", "../../x.md#part").as_deref(), Some("x.md"));
        assert_eq!(resolve("kernels/a/README.md", "./src/lib.rs").as_deref(), Some("kernels/a/src/lib.rs"));
        assert_eq!(resolve("README.md", "../other/x.md"), None);
    }

    #[test]
    fn targets_are_those_outside_code_and_inside_the_repository() {
        let text = "[a](x.md) and ![b](y.png \"title\"), [`c`](z.rs)\n\
                    [web](https://example.com), [here](#part), `v[i](j)`\n\
                    ```\n[no](code.md)\n```\n<img src=\"p.png\">\n";
        assert_eq!(targets(text), [(1, "x.md"), (1, "y.png"), (1, "z.rs"), (6, "p.png")]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_named_with_its_line() {
        let mut findings = Findings::default();
        check(&[source("d/a.md", "\n[x](gone.md) [y](there.md)\n")], |p| p == "d/there.md", &mut findings);
        assert_eq!(findings.errors, ["d/a.md:2: the link `gone.md` leads nowhere"]);
    }
}
