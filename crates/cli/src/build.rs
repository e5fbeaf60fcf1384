//! Which build this is, and the folders of the user's cache that depend on it.

use std::{collections::BTreeMap, env, path::PathBuf, process::Command};

/// Fingerprint of all sources that the program was built from.
pub(crate) const ID: &str = env!("SWINSTYLE_BUILD");

/// Commit that was checked out when it was built.
pub(crate) const COMMIT: &str = env!("SWINSTYLE_COMMIT");

/// Fingerprint of the code of each kernel room.
pub(crate) fn code() -> BTreeMap<String, String> {
    let pairs = env!("SWINSTYLE_CODE").split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(room, print)| (room.to_string(), print.to_string())).collect()
}

/// The program's folder in the user's cache; `None` where the system names none.
pub(crate) fn cache() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("LOCALAPPDATA")).or_else(|| Some(set("HOME")?.join(".cache")));
    Some(cache?.join("swinstyle"))
}

/// Where compiled kernels are kept for the next start: `SWINSTYLE_KERNEL_CACHE`, or this build's folder.
pub(crate) fn kernel_cache() -> Option<PathBuf> {
    let named = env::var_os("SWINSTYLE_KERNEL_CACHE").filter(|v| !v.is_empty()).map(PathBuf::from);
    named.or_else(|| Some(kernels()?.join(ID)))
}

/// Where compiled kernels of all builds are.
pub(crate) fn kernels() -> Option<PathBuf> {
    Some(cache()?.join("kernels"))
}

/// The day in UTC as 2026-11-22.
pub(crate) fn date() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let days = since.as_secs() / 86_400;
    // H. Hinnant, "chrono-compatible low-level date algorithms": years that begin in March, in eras of 400.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    format!("{}-{month:02}-{day:02}", year_of_era + era * 400 + u64::from(month <= 2))
}

/// The processor's name, where the system tells it.
pub(crate) fn processor() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok();
    let named = info.as_deref().and_then(|text| text.lines().find(|l| l.starts_with("model name")));
    let linux = named.and_then(|line| Some(line.split_once(':')?.1.trim().to_string()));
    let mac = || {
        let output = Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"]).output().ok()?;
        String::from_utf8(output.stdout).ok().map(|s| s.trim().to_string()).filter(|s| !s.is_empty())
    };
    linux.or_else(|| if cfg!(target_os = "macos") { mac() } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_room_has_a_fingerprint_and_the_build_has_one() {
        let code = code();
        for room in ["bias-act", "layer-norm", "modulated-conv2d", "query-attention", "upfirdn2d", "window-attention"] {
            assert_eq!(code.get(room).map(String::len), Some(16), "{room} in {code:?}");
        }
        assert_eq!(ID.len(), 16);
    }

    #[test]
    fn the_day_is_a_day_of_this_century() {
        let parts: Vec<u32> = date().split('-').map(|p| p.parse().unwrap()).collect();
        assert!(parts.len() == 3 && (2024..2100).contains(&parts[0]), "{parts:?}");
        assert!((1..=12).contains(&parts[1]) && (1..=31).contains(&parts[2]), "{parts:?}");
    }
}
