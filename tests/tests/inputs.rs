//! What stands for inputs: folders, patterns, lists, pipes; and what is said of those that do not work.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::support::{Ran, run, swinstyle, text};

/// A folder of portraits with another inside.
fn portraits(folder: &Path) -> PathBuf {
    let set = folder.join("set");
    let ran = run(&["data", "avatars", "--count", "3", "--split", "heldout", "--out", text(&set)]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let photos = folder.join("photos");
    fs::create_dir_all(photos.join("more")).unwrap();
    for (i, name) in ["a.png", "b.png", "more/c.png"].iter().enumerate() {
        fs::copy(set.join(format!("images/{i:06}.png")), photos.join(name)).unwrap();
    }
    fs::write(photos.join("notes.txt"), "not an image").unwrap();
    photos
}

/// Runs `invert` in a folder with some stdin.
fn invert(folder: &Path, arguments: &[&str], stdin: &[u8]) -> Ran {
    let mut child = swinstyle()
        .args(["invert", "--device", "cpu", "--json", "--out", "out"])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn inverted(ran: &Ran) -> Vec<String> {
    let document = ran.document();
    document["images"].as_array().unwrap().iter().map(|i| i["file"].as_str().unwrap().to_string()).collect()
}

#[test]
fn a_folder_a_pattern_and_lists_stand_for_their_files() {
    let folder = tempfile::tempdir().unwrap();
    portraits(folder.path());
    let ran = invert(folder.path(), &["photos"], b"");
    assert_eq!(
        (ran.code, inverted(&ran)),
        (Some(0), vec!["photos/a.png".into(), "photos/b.png".into(), "photos/more/c.png".into()])
    );
    // Into the folder itself: its results are no inputs of the next run.
    for _ in 0..2 {
        let ran = invert(folder.path(), &["photos", "--out", "photos"], b"");
        assert_eq!(ran.code, Some(2), "--out is given twice: {ran:?}");
        let ran = run_in(folder.path(), &["invert", "photos", "--out", "photos"]);
        assert_eq!((ran.code, inverted(&ran).len()), (Some(0), 3), "{ran:?}");
    }
    let ran = invert(folder.path(), &["photos/[ab].png"], b"");
    assert_eq!((ran.code, inverted(&ran)), (Some(0), vec!["photos/a.png".into(), "photos/b.png".into()]), "{ran:?}");
    let ran = invert(folder.path(), &["-"], b"photos/b.png\r\n\nphotos/a.png\n");
    assert_eq!((ran.code, inverted(&ran)), (Some(0), vec!["photos/b.png".into(), "photos/a.png".into()]));
    fs::write(folder.path().join("list"), b"photos/more/c.png\0photos/b.png\0").unwrap();
    let ran = invert(folder.path(), &["--files-from", "list", "-0"], b"");
    assert_eq!((ran.code, inverted(&ran)), (Some(0), vec!["photos/more/c.png".into(), "photos/b.png".into()]));
}

fn run_in(folder: &Path, arguments: &[&str]) -> Ran {
    let output = swinstyle().args(arguments).args(["--device", "cpu", "--json"]).current_dir(folder).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn what_is_not_there_is_one_line_each_and_the_others_are_done() {
    let folder = tempfile::tempdir().unwrap();
    portraits(folder.path());
    fs::create_dir(folder.path().join("empty")).unwrap();
    let ran = invert(folder.path(), &["empty", "photos/*.gif", "absent.png", "photos/a.png"], b"");
    assert_eq!((ran.code, inverted(&ran)), (Some(1), vec!["photos/a.png".into()]), "{ran:?}");
    for said in ["error: empty: no images", "error: photos/*.gif: no file", "error: absent.png: "] {
        assert_eq!(ran.stderr.lines().filter(|line| line.starts_with(said)).count(), 1, "{said}: {ran:?}");
    }
    let ran = invert(folder.path(), &["-"], b"");
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("no inputs"), "{ran:?}");
}

#[cfg(unix)]
#[test]
fn pipes_are_read_and_endless_and_silent_ones_are_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let photos = portraits(folder.path());
    let pipe = |name: &str| {
        let path = folder.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    };
    let (good, _silent) = (pipe("good"), pipe("silent"));
    let bytes = fs::read(photos.join("a.png")).unwrap();
    let writer = std::thread::spawn(move || fs::write(good, bytes));
    let ran = invert(folder.path(), &["/dev/zero", "silent", "/dev/null", "good", "photos/b.png"], b"");
    writer.join().unwrap().unwrap();
    assert_eq!((ran.code, inverted(&ran)), (Some(1), vec!["good".into(), "photos/b.png".into()]), "{ran:?}");
    for said in [
        "error: /dev/zero: more than 64 MiB",
        "error: silent: cannot be read: nothing came",
        "error: /dev/null: nothing came",
    ] {
        assert!(ran.stderr.lines().any(|line| line.starts_with(said)), "{said}: {ran:?}");
    }
}

#[test]
fn an_image_that_the_model_does_not_know_is_called_so_and_what_is_cut_off_is_said() {
    let folder = tempfile::tempdir().unwrap();
    portraits(folder.path());
    let gradient = image::RgbImage::from_fn(80, 80, |x, y| image::Rgb([3 * x as u8, 3 * y as u8, 128]));
    gradient.save(folder.path().join("gradient.png")).unwrap();
    let portrait = image::open(folder.path().join("photos/a.png")).unwrap().to_rgb8();
    let wide = image::RgbImage::from_fn(96, 64, |x, y| match x.checked_sub(16) {
        Some(x) if x < 64 => *portrait.get_pixel(x, y),
        _ => image::Rgb([0; 3]),
    });
    wide.save(folder.path().join("wide.png")).unwrap();
    // The first command of the README.
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/example.png");
    let ran = run_in(folder.path(), &["invert", text(&example), "gradient.png", "wide.png", "--out", "out"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let document = ran.document();
    let unknown: Vec<bool> =
        document["images"].as_array().unwrap().iter().map(|i| i["unknown"].as_bool().unwrap()).collect();
    assert_eq!(unknown, [false, true, false], "{document}");
    for (file, said) in [("gradient.png", "nothing that the model knows"), ("wide.png", "middle 64 x 64 of 96 x 64")] {
        assert!(ran.stderr.lines().any(|line| line.starts_with(file) && line.contains(said)), "{said}: {ran:?}");
    }
    // Padded, the portrait is smaller and its inversion another.
    let ran = run_in(folder.path(), &["invert", "wide.png", "--fit", "pad", "--out", "padded"]);
    assert_eq!(ran.document()["images"][0]["fitted"], "96 x 64 pixels padded to a square", "{ran:?}");
    let read = |place: &str| fs::read(folder.path().join(place).join("wide-inverted.png")).unwrap();
    assert!(read("out") != read("padded"));
}
