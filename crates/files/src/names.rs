//! Names that come from inside files, as parts of paths.

/// Bytes of the longest name: room remains for what a command puts before and behind it (most file systems allow 255).
const LONGEST: usize = 100;

/// Names that Windows keeps for devices, with any ending.
const RESERVED: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9", "lpt1", "lpt2",
    "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// `name` made safe as one part of a file's name: no separator, no control or shell character, no hidden file, no option, no device.
///
/// Letters and digits of every script, `-`, `_`, `.`, `+` and `=` stay; each run of other characters becomes one `_`. Dots, dashes and
/// blanks go from the beginning, dots and blanks from the end; what is longer than 100 bytes is cut; `unnamed` stands for nothing.
/// A safe name is left as it is.
pub fn safe_name(name: &str) -> String {
    let mut safe = String::new();
    for c in name.chars() {
        match c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '=') {
            true => safe.push(c),
            false if !safe.ends_with('_') => safe.push('_'),
            false => {}
        }
        if safe.len() > LONGEST {
            safe.pop();
            break;
        }
    }
    let trimmed = safe.trim_start_matches(['.', '-', '_', '=', '+']).trim_end_matches(['.', '_']);
    let stem = trimmed.split('.').next().unwrap_or_default();
    match RESERVED.iter().any(|r| stem.eq_ignore_ascii_case(r)) {
        true => format!("name-{trimmed}"),
        false if trimmed.is_empty() => "unnamed".to_string(),
        false => trimmed.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_leave_the_folder_or_drive_a_terminal_goes() {
        for (name, expected) in [
            ("sefa-0", "sefa-0"),
            ("hair_colour+2.5", "hair_colour+2.5"),
            ("x/../../../EVIL2", "x_.._.._.._EVIL2"),
            (r"..\..\x", "x"),
            ("/etc/passwd", "etc_passwd"),
            ("C:\\x", "C_x"),
            ("two\nlines", "two_lines"),
            ("\u{1b}[2Jclear", "2Jclear"),
            ("a\u{202e}gnp", "a_gnp"),
            ("a b\tc  d", "a_b_c_d"),
            ("", "unnamed"),
            (".", "unnamed"),
            ("..", "unnamed"),
            ("///", "unnamed"),
            (" . ", "unnamed"),
            ("-rf", "rf"),
            ("--out=x", "out=x"),
            (".hidden", "hidden"),
            ("end. ", "end"),
            ("CON", "name-CON"),
            ("nul.txt", "name-nul.txt"),
            ("com1", "name-com1"),
            ("console", "console"),
            ("lächeln", "lächeln"),
            ("微笑", "微笑"),
        ] {
            assert_eq!(safe_name(name), expected, "{name:?}");
        }
    }

    #[test]
    fn long_names_are_cut_between_characters_and_safe_names_stay() {
        assert_eq!(safe_name(&"a".repeat(300)), "a".repeat(100));
        assert_eq!(safe_name(&"ü".repeat(300)), "ü".repeat(50));
        assert_eq!(safe_name(&format!("x{}", "例".repeat(300))).len(), 100);
        for name in ["x/../y", "-a-", "nul", "..a..", &"é/".repeat(200)] {
            let safe = safe_name(name);
            assert_eq!(safe_name(&safe), safe, "{name:?}");
            assert_eq!(std::path::Path::new(&safe).components().count(), 1);
        }
    }
}
