//! Where CUDA's compiler, headers and disassembler are: a folder of wheels, or an installed toolkit.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::nvrtc::Nvrtc;

/// What is needed to compile and to look at the result.
pub struct Toolkit {
    /// The compiler.
    pub nvrtc: Nvrtc,
    /// Folders of headers.
    pub include: Vec<PathBuf>,
    nvdisasm: PathBuf,
}

impl Toolkit {
    /// The toolkit of a folder; without one, that of `CUDA_PATH` or of the usual places.
    ///
    /// Errors: nothing there, with the command that installs it.
    pub fn find(folder: Option<&Path>) -> Result<Self> {
        let roots: Vec<PathBuf> = match folder {
            Some(folder) => vec![folder.to_path_buf()],
            None => {
                let set = env::var_os("CUDA_PATH").map(PathBuf::from);
                set.into_iter().chain(["/usr/local/cuda".into(), "/opt/cuda".into()]).collect()
            }
        };
        for root in roots.iter().flat_map(|r| candidates(r)) {
            let (header, nvdisasm) = (root.join("include/cuda_runtime.h"), root.join("bin/nvdisasm"));
            if let (Some(library), true, true) = (nvrtc(&root), header.is_file(), nvdisasm.is_file()) {
                // CUDA 13 has the headers of its C++ library in a folder of their own.
                let include = [root.join("include"), root.join("include/cccl")].into_iter().filter(|p| p.is_dir());
                return Ok(Self { nvrtc: Nvrtc::load(&library)?, include: include.collect(), nvdisasm });
            }
        }
        let searched: Vec<String> = roots.iter().map(|r| r.display().to_string()).collect();
        bail!(
            "no NVRTC with headers and nvdisasm in {}; `cargo xtask setup --cuda-tools` installs them",
            searched.join(", ")
        )
    }

    /// Disassembles machine code.
    pub fn disassemble(&self, cubin: &Path) -> Result<String> {
        let mut command = Command::new(&self.nvdisasm);
        let output = command.arg("-c").arg(cubin).stdin(Stdio::null()).output().context("nvdisasm did not start")?;
        if !output.status.success() {
            bail!("nvdisasm failed on {}: {}", cubin.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// A folder itself, and the folders in it that wheels unpack to (`nvidia/cu13`).
fn candidates(root: &Path) -> Vec<PathBuf> {
    let mut all = vec![root.to_path_buf()];
    all.extend(entries(&root.join("nvidia"), "cu"));
    all
}

/// NVRTC's library below a toolkit's folder.
fn nvrtc(root: &Path) -> Option<PathBuf> {
    // `libnvrtc.so.13`, and not `libnvrtc-builtins.so.13.0` or `libnvrtc.alt.so.13`.
    ["lib", "lib64"].iter().find_map(|folder| entries(&root.join(folder), "libnvrtc.so").into_iter().next())
}

/// Entries of a folder whose name begins so, in order.
fn entries(folder: &Path, start: &str) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> =
        found.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(start)).map(|e| e.path()).collect();
    found.sort();
    found
}
