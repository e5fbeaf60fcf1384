//! Damaged checkpoints: a run goes on from the newest whole one, and the damaged one is never in the way again.

use std::{fs, path::Path};

use swinstyle_train::Event;

use crate::small::{generator, train_generator};

/// A training whose checkpoints are its first and its last step alone; returns its remarks.
fn run(images: u64, folder: &Path, resume: bool) -> Result<Vec<String>, String> {
    let events = train_generator(generator(images, &["run.checkpoint_minutes=1000"]), folder, resume);
    let notes = |events: Vec<Event>| {
        events.into_iter().filter_map(|e| if let Event::Note(text) = e { Some(text) } else { None }).collect()
    };
    events.map(notes).map_err(|e| e.to_string())
}

/// What happens to a file's bytes.
type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);

#[test]
fn a_damaged_newer_checkpoint_is_put_aside_and_the_run_passes_it() {
    let header = |bytes: &[u8]| 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let damages: [(&str, Damage); 5] = [
        ("truncated", &|b| b.truncate(b.len() / 2)),
        ("a flipped bit in the values", &|b| *b.last_mut().unwrap() ^= 4),
        ("a flipped bit in the header", &|b| {
            let at = header(b) / 2;
            b[at] ^= 1;
        }),
        ("empty", &|b| b.clear()),
        ("garbage", &|b| b.fill(b'x')),
    ];
    for (what, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = dir.path().join("checkpoints");
        let state = |step: u64| checkpoints.join(format!("state-{step:08}.safetensors"));
        run(8, dir.path(), false).unwrap();
        run(16, dir.path(), true).unwrap();
        let mut bytes = fs::read(state(4)).unwrap();
        damage(&mut bytes);
        fs::write(state(4), &bytes).unwrap();

        // The next checkpoint has a smaller number than the damaged one.
        let notes = run(12, dir.path(), true).unwrap_or_else(|e| panic!("{what}: {e}"));
        let skipped = notes.iter().find(|n| n.starts_with("skipped a checkpoint")).expect(what);
        assert!(skipped.contains("state-00000004.safetensors: "), "{what}: {skipped}");
        assert!(skipped.contains("it was put aside as ") && skipped.ends_with(".damaged"), "{what}: {skipped}");
        assert!(notes.iter().any(|n| n.contains("resumed from") && n.contains("state-00000002")), "{what}: {notes:?}");
        assert_eq!(fs::read(checkpoints.join("state-00000004.safetensors.damaged")).unwrap(), bytes, "{what}");
        assert!(state(3).exists() && !state(4).exists(), "{what}");

        // And the run goes past it, without another word.
        let notes = run(24, dir.path(), true).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(!notes.iter().any(|n| n.starts_with("skipped")), "{what}: {notes:?}");
        assert!(state(6).exists() && dir.path().join("generator.safetensors").exists(), "{what}");
    }
}

#[test]
fn a_run_whose_checkpoints_are_all_damaged_is_refused_and_nothing_is_moved() {
    let dir = tempfile::tempdir().unwrap();
    run(8, dir.path(), false).unwrap();
    let states: Vec<_> = fs::read_dir(dir.path().join("checkpoints")).unwrap().map(|e| e.unwrap().path()).collect();
    for state in &states {
        let mut bytes = fs::read(state).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(state, bytes).unwrap();
    }
    let error = run(16, dir.path(), true).unwrap_err();
    assert!(error.contains("state-00000002.safetensors: damaged: its digest"), "{error}");
    assert!(states.iter().all(|s| s.exists()));
}
