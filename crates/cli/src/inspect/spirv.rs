//! The SPIR-V that Vulkan's driver gets: each kernel's module written, validated and disassembled.
//!
//! CubeCL keeps what it hands to the driver in its kernel cache. The work runs with a cache of its own, and the modules are read from
//! there: nothing is compiled a second time by another way.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use ciborium::Value;
use serde::Serialize;
use swinstyle_data::picture::write_atomic;
use swinstyle_tensor::{
    DType, Device,
    cube::{describe, working_folder},
};

use super::tour;
use crate::{
    output::{Output, Status, one_line},
    tune,
};

/// What the validator is told: CubeCL writes SPIR-V 1.6, and opens devices with the standard layout of uniform buffers.
const RULES: [&str; 3] = ["--target-env", "vulkan1.3", "--uniform-buffer-standard-layout"];

/// One module.
#[derive(Debug, Serialize)]
struct Module {
    name: String,
    /// Words of the module.
    words: usize,
    /// What the validator says; `None` where there is no validator.
    valid: Option<bool>,
    detail: String,
    file: String,
}

/// Runs every operation on a Vulkan device and looks at the modules of its kernels.
///
/// Errors: a device that is not Vulkan's, a kernel filter that nothing matches. Invalid modules are reported, and the outcome is a failure.
pub(crate) fn run(device: Device, kernel: Option<&str>, out: &Path, output: Output) -> Result<Status> {
    let compiler = describe(device)?.compiler;
    if !matches!(device, Device::Wgpu(_)) {
        bail!("{device} has no SPIR-V; name a Vulkan device with --device wgpu");
    }
    let Some(cache) = working_folder() else {
        bail!("the kernel cache, through which the modules are read, cannot be written");
    };
    let out = out.join("vulkan");
    fs::create_dir_all(&out).with_context(|| format!("{} cannot be made", out.display()))?;
    output.note(format_args!("kernels by {compiler}; running each operation once"));
    for (name, outcome) in work(device) {
        if let Err(error) = outcome {
            output.note(format_args!("error: {name}: {}", one_line(&error)));
        }
    }
    device.synchronize()?;
    let entries = modules(&cache)?;
    if entries.is_empty() {
        bail!("no SPIR-V was made on {device}: its kernels are compiled by {compiler}");
    }
    let validator = present("spirv-val");
    if !validator {
        output.note("spirv-val was not found; `cargo xtask setup --spirv-tools` installs it");
    }
    let mut seen = Vec::new();
    for (i, (name, words)) in entries.iter().enumerate() {
        if kernel.is_some_and(|k| !name.contains(k)) {
            continue;
        }
        let file = out.join(format!("{i:03}-{name}.spv"));
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        write_atomic(&file, &bytes)?;
        let (valid, detail) = match validator {
            true => validate(&file)?,
            false => (None, String::new()),
        };
        if present("spirv-dis") {
            let listing = file.with_extension("spvasm");
            said(Command::new("spirv-dis").arg(&file).arg("-o").arg(&listing))?;
        }
        let file = file.display().to_string();
        let module = Module { name: name.clone(), words: words.len(), valid, detail, file };
        let verdict = match module.valid {
            Some(true) => "valid",
            Some(false) => "INVALID",
            None => "not validated",
        };
        output.line(format_args!("{:44} {:7} words  {verdict} {}", module.name, module.words, module.detail))?;
        seen.push(module);
    }
    if let (Some(kernel), true) = (kernel, seen.is_empty()) {
        let known: BTreeSet<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
        bail!("no kernel's name contains `{kernel}`; there are {}", known.into_iter().collect::<Vec<_>>().join(", "));
    }
    let bad = seen.iter().filter(|m| m.valid == Some(false)).count();
    output.line(format_args!("{} modules, {bad} invalid, in {}", seen.len(), out.display()))?;
    output.document(&seen)?;
    Ok(if bad == 0 { Status::Done } else { Status::Failed })
}

/// Every operation with its gradients.
fn work(device: Device) -> Vec<(String, Result<()>)> {
    let mut all = tune::small_operations(device);
    for (name, visit) in tour::STATIONS {
        all.push((format!("tour/{name}"), visit(&tour::Inputs { device, dtype: DType::F32 })));
    }
    all
}

/// Names and words of the modules in a cache folder, in the order in which they were made.
fn modules(cache: &Path) -> Result<Vec<(String, Vec<u32>)>> {
    let mut found = Vec::new();
    for chunk in chunks(cache) {
        let file = File::open(&chunk).with_context(|| format!("{} cannot be opened", chunk.display()))?;
        let mut reader = BufReader::new(file);
        // The file is one entry after the other; where it ends there is no next one.
        while let Ok(entry) = ciborium::from_reader::<Value, _>(&mut reader) {
            found.extend(module(&entry));
        }
    }
    Ok(found)
}

/// Files of modules below a folder.
fn chunks(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    let spirv =
        |p: &PathBuf| p.extension().is_some_and(|e| e == "cbor") && p.components().any(|c| c.as_os_str() == "spirv");
    entries
        .iter()
        .flat_map(|p| if p.is_dir() { chunks(p) } else { Some(p.clone()).filter(spirv).into_iter().collect() })
        .collect()
}

/// Name and words of an entry.
fn module(entry: &Value) -> Option<(String, Vec<u32>)> {
    let value = field(entry, "value")?;
    let name = field(value, "entrypoint_name")?.as_text()?.to_string();
    let words = field(field(value, "kernel")?, "assembled_module")?.as_array()?;
    let words = words.iter().map(|w| u32::try_from(w.as_integer()?).ok()).collect::<Option<Vec<u32>>>()?;
    // Names are parts of file names.
    let name = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    Some((name, words))
}

fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    map.as_map()?.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value)
}

fn present(tool: &str) -> bool {
    let mut command = Command::new(tool);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|s| s.success())
}

/// What the validator says of a module.
fn validate(file: &Path) -> Result<(Option<bool>, String)> {
    let (good, text) = said(Command::new("spirv-val").args(RULES).arg(file))?;
    Ok((Some(good), text.lines().next().unwrap_or_default().to_string()))
}

fn said(command: &mut Command) -> Result<(bool, String)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{name} did not start"))?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).trim().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_read_from_the_files_that_cubecl_keeps() {
        let folder = std::env::temp_dir().join(format!("swinstyle-spirv-{}", std::process::id()));
        let chunk = folder.join("vulkan/0.10.0/spirv/chunk0.cbor");
        fs::create_dir_all(chunk.parent().unwrap()).unwrap();
        let text = |s: &str| Value::Text(s.to_string());
        let map = |pairs: Vec<(&str, Value)>| Value::Map(pairs.into_iter().map(|(k, v)| (text(k), v)).collect());
        let words = Value::Array([0x0723_0203_u32, 0x0001_0300, 7].map(Value::from).to_vec());
        let kernel = map(vec![("assembled_module", words), ("shared_size", Value::from(0))]);
        let entry = map(vec![
            ("key", Value::from(1)),
            ("value", map(vec![("entrypoint_name", text("a::b")), ("kernel", kernel)])),
        ]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&entry, &mut bytes).unwrap();
        ciborium::into_writer(&entry, &mut bytes).unwrap();
        // A writer that was killed leaves a part of an entry.
        bytes.extend_from_slice(&[0xa2, 0x63]);
        fs::write(&chunk, bytes).unwrap();
        let found = modules(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let expected = ("a--b".to_string(), vec![0x0723_0203, 0x0001_0300, 7]);
        assert_eq!(found, [expected.clone(), expected]);
    }
}
