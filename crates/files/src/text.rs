//! Text of files and names of files, made fit for a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;

/// `text` with everything that could drive a terminal or reorder a line written as an escape: control characters (`\n`, `\u{1b}`), line
/// separators, and the marks of direction of bidirectional text.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(drives) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match drives(c) {
            // Writing into a string cannot fail.
            true => drop(write!(escaped, "{}", c.escape_default())),
            false => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// A path as it is shown: [`printable`], with � for what is not Unicode.
pub fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

fn drives(c: char) -> bool {
    let bidirectional =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || bidirectional || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_terminal_is_escaped_and_the_rest_stays() {
        for (text, expected) in [
            ("plain – ünïcode 例.png", "plain – ünïcode 例.png"),
            ("a\u{1b}[2Jb", r"a\u{1b}[2Jb"),
            ("two\nlines\r\t", r"two\nlines\r\t"),
            ("\u{7f}\u{9b}31m\0", r"\u{7f}\u{9b}31m\u{0}"),
            ("gnp\u{202e}exe.png", r"gnp\u{202e}exe.png"),
            ("a\u{2028}b", r"a\u{2028}b"),
        ] {
            assert_eq!(printable(text), expected);
            assert!(matches!(printable(expected), Cow::Borrowed(_)));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_is_no_unicode_is_shown_with_a_mark() {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"bad\xff\n.png"));
        assert_eq!(shown(path), "bad\u{fffd}\\n.png");
    }
}
