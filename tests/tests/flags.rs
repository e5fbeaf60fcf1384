//! Numbers and endings of options: what is taken, and what is refused with the range or the way out.

use std::{fs, path::Path};

use crate::support::{Ran, run, text};

fn on_cpu(arguments: &[&str]) -> Ran {
    run(&[arguments, &["--device", "cpu", "--json"]].concat())
}

#[test]
fn numbers_that_make_no_image_are_wrong_usage_with_their_range() {
    let cases: [(&[&str], &str); 9] = [
        (&["generate", "--truncation", "nan"], "from -5 to 5"),
        (&["generate", "--truncation", "1e38"], "from -5 to 5"),
        (&["generate", "--truncation", "-inf"], "from -5 to 5"),
        (&["segment2face", "x.png", "--truncation", "nan"], "from -5 to 5"),
        (&["edit", "seed:1", "--direction", "x", "--strength", "nan"], "from -10000 to 10000"),
        (&["edit", "seed:1", "--direction", "x", "--strength", "1,1e30"], "from -10000 to 10000"),
        (&["generate", "--seeds", "0-99999999999"], "1048576"),
        (&["project", "x.png", "--learning-rate", "nan"], "from 0.00000001 to 10"),
        (&["directions", "attributes", "--ridge", "-1"], "from 0 to"),
    ];
    for (arguments, said) in cases {
        let ran = on_cpu(&[arguments, &["--out", "never"]].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(said), "{arguments:?}: {ran:?}");
    }
    assert!(!Path::new("never").exists());
}

#[test]
fn negative_numbers_need_no_equals_sign_and_what_is_named_twice_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let ran = on_cpu(&["generate", "--seeds", "1,1,2", "--truncation", "-0.7", "--out", text(&out)]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.document()["files"].as_array().unwrap().len(), 2);
    assert!(ran.stderr.contains("2 images by") && ran.stderr.contains("1 time the same again"), "{ran:?}");
}

#[test]
fn an_ending_promises_a_format_that_is_kept_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let way = |name: &str| {
        let out = folder.path().join(name);
        let ran = on_cpu(&["interpolate", "seed:1", "seed:2", "--frames", "2", "--out", out.to_str().unwrap()]);
        (ran, out)
    };
    let (ran, out) = way("way.gif");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(fs::read(out).unwrap().starts_with(b"GIF89a"));
    for name in ["way.mp4", "way.webp", "way.jpg"] {
        let (ran, out) = way(name);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains(name) && ran.stderr.contains(".gif") && !out.exists(), "{ran:?}");
    }
    let (ran, out) = way("way.mp4/");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(out.join("frame00002.png").is_file());
    let (ran, _) = way("way.gif");
    ran.assert_one_error_line(&["way.gif", "--force"]);
    let out = folder.path().join("picture.png");
    let ran = on_cpu(&["generate", "--out", text(&out)]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("picture.png") && ran.stderr.contains("folder") && !out.exists(), "{ran:?}");
}
