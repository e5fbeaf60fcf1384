//! From CUDA C++ to a library of the host: the system's C++ compiler, found once.

use std::{
    env,
    ffi::c_void,
    fmt, fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Program;

const CUDA: &str = include_str!("cuda.hpp");
const GRID: &str = include_str!("grid.hpp");

/// `(arguments, grid, block, bytes of shared memory)` to 0, or 1 where threads wait in vain.
type Launch = unsafe extern "C" fn(*mut *mut c_void, *const u32, *const u32, usize) -> i32;

/// The compiler that `CXX` names, or the first of the usual ones; an error that says what is missing.
pub(in crate::cube) fn compiler() -> Result<&'static str, String> {
    static FOUND: LazyLock<Option<String>> = LazyLock::new(|| {
        let set = env::var("CXX").ok().filter(|name| !name.is_empty());
        let runs = |name: &String| {
            let probe = Command::new(name).arg("--version").stdin(Stdio::null()).output();
            probe.is_ok_and(|o| o.status.success())
        };
        set.into_iter().chain(["c++", "g++", "clang++"].map(String::from)).find(runs)
    });
    if !cfg!(all(unix, target_pointer_width = "64")) {
        return Err("CUDA is emulated on 64-bit Unix alone".to_string());
    }
    FOUND.as_deref().ok_or_else(|| "no C++ compiler (c++, g++, clang++, or what CXX names) was found".to_string())
}

/// A kernel as code of the host.
pub(super) struct Library {
    run: Launch,
    /// Keeps `run` where it is.
    _file: libloading::Library,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Library")
    }
}

/// Files that go with the value.
struct Files([PathBuf; 2]);

impl Drop for Files {
    fn drop(&mut self) {
        // What is left of a temporary file harms nobody.
        self.0.iter().for_each(|file| drop(fs::remove_file(file)));
    }
}

/// A program without its includes, and without the functions of inline PTX that `cuda.hpp` has of its own.
fn without_inline_ptx(source: &str) -> String {
    const OWN: [&str; 2] = ["__ldmatrix_m8n8_", "__mma_m16n8k16_"];
    let (mut text, mut inside) = (String::with_capacity(source.len()), false);
    let mut lines = source.lines().peekable();
    while let Some(line) = lines.next() {
        let begins = line.starts_with("inline __device__ void")
            && lines.peek().is_some_and(|name| OWN.iter().any(|own| name.starts_with(own)));
        inside |= begins;
        if !inside && !line.starts_with("#include") {
            text += line;
            text.push('\n');
        }
        inside &= line.trim() != "}";
    }
    text
}

impl Library {
    /// Compiles a program and loads the result.
    pub(super) fn of(program: &Program) -> Result<Self, String> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let source = program.source.as_ref().map_err(Clone::clone)?;
        let of_the_kernel = without_inline_ptx(source);
        if of_the_kernel.contains("asm volatile") {
            return Err(format!("{} ({}): an instruction that is not emulated", program.kernel, program.variant));
        }
        let text = format!("{CUDA}\n{of_the_kernel}\n#define ENTRY {}\n{GRID}", program.entry);
        let name = format!("swinstyle-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let files = Files(["cpp", "so"].map(|extension| env::temp_dir().join(format!("{name}.{extension}"))));
        let [cpp, so] = &files.0;
        fs::write(cpp, text).map_err(|e| format!("{} cannot be written: {e}", cpp.display()))?;
        // -O1 compiles as fast as it runs here. What is checked about `longjmp` would refuse fibers.
        let options =
            ["-std=c++17", "-O1", "-w", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE", "-fPIC", "-shared", "-o"];
        let built = Command::new(compiler()?).args(options).arg(so).arg(cpp).stdin(Stdio::null()).output();
        let built = built.map_err(|e| format!("the C++ compiler did not start: {e}"))?;
        if !built.status.success() {
            let log = String::from_utf8_lossy(&built.stderr);
            let first = log.lines().find(|l| l.contains("error")).unwrap_or("no reason given");
            return Err(format!("{} ({}): {first}", program.kernel, program.variant));
        }
        // SAFETY: the library was just built from `grid.hpp`, which has no initialisers and defines the symbol with this type.
        unsafe {
            let file = libloading::Library::new(so).map_err(|e| e.to_string())?;
            let run = *file.get::<Launch>(b"emulated_launch\0").map_err(|e| e.to_string())?;
            Ok(Self { run, _file: file })
        }
    }

    /// Runs a grid; 0 if all of it came to its end.
    pub(super) fn run(&self, arguments: &mut [*mut c_void], grid: [u32; 3], program: &Program) -> i32 {
        // SAFETY: the arguments are those that the backend would give to the kernel, in its order.
        unsafe { (self.run)(arguments.as_mut_ptr(), grid.as_ptr(), program.cube_dim.as_ptr(), program.shared_bytes) }
    }
}
