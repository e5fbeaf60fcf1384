//! Patterns of paths that reached the program unexpanded, as in quotes or on Windows.

use std::{
    collections::HashSet,
    fs,
    path::{Component, Path, PathBuf},
};

use glob::{MatchOptions, Pattern, PatternError};

/// As a shell matches: a name that begins with a dot only by a dot.
const LIKE_A_SHELL: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Whether a path holds any of `*`, `?` and `[`.
pub(super) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// The files that match, sorted; `**` stands for any folders. Names that are not UTF-8 match by their readable part.
///
/// Errors: a pattern that cannot be read. Folders that cannot be read hold no match.
pub(super) fn matches(pattern: &Path) -> Result<Vec<PathBuf>, PatternError> {
    let mut found = vec![PathBuf::new()];
    let mut components = pattern.components().peekable();
    while let Some(component) = components.next() {
        let text = component.as_os_str().to_string_lossy();
        let last = components.peek().is_none();
        found = match component {
            Component::Normal(_) if text == "**" => found.iter().flat_map(|folder| folders_below(folder)).collect(),
            Component::Normal(_) if is_pattern(&text) => {
                let pattern = Pattern::new(&text)?;
                let matching = |folder: &PathBuf| -> Vec<PathBuf> {
                    let fits = |name: &Path| pattern.matches_with(&name.to_string_lossy(), LIKE_A_SHELL);
                    entries(folder)
                        .into_iter()
                        .filter(|path| path.file_name().is_some_and(|n| fits(n.as_ref())))
                        .collect()
                };
                found.iter().flat_map(matching).filter(|path| last || path.is_dir()).collect()
            }
            _ => found
                .into_iter()
                .map(|folder| folder.join(component))
                .filter(|path| path.symlink_metadata().is_ok())
                .collect(),
        };
    }
    // `**` alone, or at the end, means the files in all those folders.
    if pattern.ends_with("**") {
        found = found.iter().flat_map(|folder| entries(folder)).collect();
    }
    found.retain(|path| !path.is_dir());
    found.sort();
    found.dedup();
    Ok(found)
}

/// What is in a folder; the empty path is the working folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let place = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let names = fs::read_dir(place).into_iter().flatten().flatten().map(|entry| folder.join(entry.file_name()));
    names.collect()
}

/// A folder and all below it, each once though links may lead back.
fn folders_below(folder: &Path) -> Vec<PathBuf> {
    let (mut all, mut seen) = (vec![folder.to_path_buf()], HashSet::new());
    let mut next = 0;
    while next < all.len() {
        let here = all[next].clone();
        next += 1;
        let place = if here.as_os_str().is_empty() { PathBuf::from(".") } else { here.clone() };
        if !fs::canonicalize(place).is_ok_and(|real| seen.insert(real)) {
            continue;
        }
        let hidden = |path: &Path| path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        let mut below: Vec<PathBuf> = entries(&here).into_iter().filter(|p| p.is_dir() && !hidden(p)).collect();
        below.sort();
        all.extend(below);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.png", "b.png", ".hidden.png", "c.jpg", "x/d.png", "x/y/e.png", ".z/f.png", "[1].png"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = |pattern: &str| -> Vec<String> {
            let all = matches(&folder.path().join(pattern)).unwrap();
            all.iter().map(|p| p.strip_prefix(folder.path()).unwrap().to_string_lossy().replace('\\', "/")).collect()
        };
        assert_eq!(found("*.png"), ["[1].png", "a.png", "b.png"]);
        assert_eq!(found("[ab].*"), ["a.png", "b.png"]);
        assert_eq!(found(".*.png"), [".hidden.png"]);
        assert_eq!(found("?/?.png"), ["x/d.png"]);
        assert_eq!(found("**/*.png"), ["[1].png", "a.png", "b.png", "x/d.png", "x/y/e.png"]);
        assert_eq!(found("x/**"), ["x/d.png", "x/y/e.png"]);
        assert!(found("*.gif").is_empty() && found("absent/*").is_empty());
        assert!(matches(Path::new("a[")).is_err());
    }
}
