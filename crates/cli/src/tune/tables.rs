//! Tuning tables on disk: where they are, which one is for a device, and what is wrong with it.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use swinstyle_kit::tuning::{self, Entry, Place, Table};
use swinstyle_tensor::{Device, cube::describe};

use super::cases;
use crate::build;

/// Tables that come with the program, by file name.
const SHIPPED: &[(&str, &str)] = &[];

/// What tables say about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its kind and name.
    pub(crate) device: String,
    /// Its driver.
    pub(crate) driver: String,
}

impl Identity {
    /// A device as tables know it: the same chip is the same device whatever its index.
    pub(crate) fn of(device: Device) -> swinstyle_tensor::Result<Self> {
        let d = describe(device)?;
        let (kind, name) = match device {
            Device::Cpu => {
                let processor = build::processor().unwrap_or_else(|| std::env::consts::ARCH.to_string());
                ("cpu", format!("{processor}, {} threads", d.max_units))
            }
            Device::Wgpu(_) => ("wgpu", d.name),
            Device::Cuda(_) => ("cuda", d.name),
            Device::Dry(_) | Device::Emulated(_) => ("dry", d.name),
        };
        Ok(Self { device: format!("{kind}: {name}"), driver: d.driver })
    }

    /// The file's name: the device in lower-case words.
    pub(crate) fn file(&self) -> String {
        let mut name = String::new();
        for c in self.device.chars() {
            match c.is_ascii_alphanumeric() {
                true => name.push(c.to_ascii_lowercase()),
                false if !name.ends_with('-') => name.push('-'),
                false => {}
            }
        }
        format!("{}.toml", name.trim_matches('-'))
    }
}

/// Where tables are looked for, in order, and the first that exists is where `tune` writes.
pub(crate) fn folders() -> Vec<PathBuf> {
    if let Some(named) = env::var_os("SWINSTYLE_TUNING").filter(|v| !v.is_empty()) {
        return vec![named.into()];
    }
    let here = PathBuf::from("tuning");
    let beside = env::current_exe().ok().and_then(|p| Some(p.parent()?.join("tuning")));
    [Some(here), beside, build::cache().map(|c| c.join("tuning"))].into_iter().flatten().collect()
}

/// Where `tune` writes where no folder is named.
pub(crate) fn default_folder() -> PathBuf {
    let folders = folders();
    let existing = folders.iter().find(|f| f.is_dir()).or(folders.last());
    existing.cloned().unwrap_or_else(|| PathBuf::from("tuning"))
}

/// The table of a device, as far as it can be used.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its file, or that it came with the program.
    pub(crate) place: String,
    /// It, without entries of changed code; nothing where it cannot be used.
    pub(crate) table: Option<Table>,
    /// What is wrong with it.
    pub(crate) notes: Vec<String>,
}

/// Looks a device's table up; `None` where there is none.
pub(crate) fn find(identity: &Identity) -> Option<Found> {
    let name = identity.file();
    for folder in folders() {
        let file = folder.join(&name);
        match fs::read_to_string(&file) {
            Ok(text) => return Some(read(&file.display().to_string(), &text, identity)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound || e.kind() == std::io::ErrorKind::NotADirectory => {}
            Err(e) => {
                let note = format!("{} cannot be read ({e}) and was ignored", file.display());
                return Some(Found { place: file.display().to_string(), table: None, notes: vec![note] });
            }
        }
    }
    let (_, text) = SHIPPED.iter().find(|(file, _)| *file == name)?;
    Some(read("the table that comes with the program", text, identity))
}

fn read(place: &str, text: &str, identity: &Identity) -> Found {
    let ignored = |why: String| Found { place: place.to_string(), table: None, notes: vec![why] };
    let mut table = match Table::parse(text) {
        Ok(table) => table,
        Err(error) => return ignored(format!("{place}: {error}; the table was ignored")),
    };
    if table.device != identity.device {
        return ignored(format!("{place} is for `{}`, not `{}`, and was ignored", table.device, identity.device));
    }
    let ignored = |fault: String| format!("{place}: {fault}; the entry was ignored");
    let mut notes: Vec<String> = table.take_faults().into_iter().map(ignored).collect();
    // A kernel that no launch has, or under another room's name, would never be looked up, and never be called stale.
    let known = |e: &Entry| cases::room(&e.kernel) == e.room;
    let strange = table.entries.iter().filter(|e| !known(e));
    notes.extend(strange.map(|e| ignored(format!("kernel `{}` of room `{}` is not known", e.kernel, e.room))));
    table.entries.retain(known);
    let stale = table.stale(&build::code());
    table.entries.retain(|e| !stale.contains(&e.room));
    if !stale.is_empty() {
        let names = stale.join(", ");
        notes
            .push(format!("{place} was measured before the code of {names} changed; `cargo xtask tune` measures anew"));
    }
    if table.driver != identity.driver && !table.entries.is_empty() {
        notes.push(format!("{place} was measured with driver `{}`, this one is `{}`", table.driver, identity.driver));
    }
    Found { place: place.to_string(), table: Some(table), notes }
}

/// Makes launches on a device use its table, and returns what is to be said about it.
pub(crate) fn use_for(device: Device) -> Vec<String> {
    let Ok(identity) = Identity::of(device) else { return Vec::new() };
    let Some(found) = find(&identity) else { return Vec::new() };
    tuning::install(place(device), found.table);
    found.notes
}

/// Which launches a device's table is for.
pub(crate) fn place(device: Device) -> Place {
    if device == Device::Cpu { Place::Host } else { Place::Cube }
}

/// Reads a table to add to; one that cannot be used is nothing to add to.
pub(crate) fn previous(file: &Path, identity: &Identity) -> Option<Table> {
    let text = fs::read_to_string(file).ok()?;
    read(&file.display().to_string(), &text, identity).table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { device: "cuda: A B (C)".to_string(), driver: "1".to_string() }
    }

    fn table() -> Table {
        let entry = "kernel = 'layer_norm'\nroom = 'layer-norm'\nclass = 'rows'\nsizes = [8, 8]\ncase = 'x'\nmedian_us = 1.0\nspread_us = 0.1\ndefault_us = 2.0\nblueprint = { units = 8 }\n";
        let head = "device = 'cuda: A B (C)'\ndriver = '1'\ndate = '2026-01-01'\ncommit = 'c'\ncommand = 'x'\nclock = 'wall clock'\n[code]\n[[entry]]\n";
        let mut table = Table::parse(&format!("{head}{entry}")).unwrap();
        table.code = build::code();
        table
    }

    #[test]
    fn a_devices_file_is_its_name_in_words() {
        assert_eq!(identity().file(), "cuda-a-b-c.toml");
    }

    #[test]
    fn only_the_devices_own_whole_and_current_measurements_are_used() {
        let good = read("f", &table().text().unwrap(), &identity());
        assert_eq!((good.table.unwrap().entries.len(), good.notes.len()), (1, 0));

        let corrupt = read("f", "device = 'cuda", &identity());
        assert!(corrupt.table.is_none() && corrupt.notes[0].contains("ignored"), "{corrupt:?}");

        let mut other = table();
        other.device = "cuda: another".to_string();
        let other = read("f", &other.text().unwrap(), &identity());
        assert!(other.table.is_none() && other.notes[0].contains("cuda: another"), "{other:?}");

        let mut old = table();
        old.code.insert("layer-norm".to_string(), "0".to_string());
        let old = read("f", &old.text().unwrap(), &identity());
        assert!(old.table.unwrap().entries.is_empty());
        assert!(old.notes.len() == 1 && old.notes[0].contains("layer-norm"), "{:?}", old.notes);

        for (from, to, said) in [
            ("median_us = 1.0", "median_us = -3.0", "f: entry 1 (layer_norm rows [8, 8]): median_us is -3"),
            ("units = 8", "units = 1000000", "blueprint.units is 1000000"),
            ("layer_norm", "softmax", "kernel `softmax`"),
        ] {
            let found = read("f", &table().text().unwrap().replace(from, to), &identity());
            assert!(found.table.unwrap().entries.is_empty() && found.notes.len() == 1, "{to}: {:?}", found.notes);
            assert!(found.notes[0].contains(said) && found.notes[0].contains("ignored"), "{:?}", found.notes);
        }

        let mut driver = table();
        driver.driver = "2".to_string();
        let driver = read("f", &driver.text().unwrap(), &identity());
        assert!(driver.table.is_some() && driver.notes[0].contains("driver"), "{driver:?}");
    }
}
