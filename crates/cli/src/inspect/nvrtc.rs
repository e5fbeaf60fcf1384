//! NVRTC, the run-time compiler of CUDA, loaded from a file: CUDA C++ in, PTX, machine code and its log out.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    path::Path,
};

use anyhow::{Context, Result, bail};
use libloading::Library;

type Handle = *mut c_void;
type Create = unsafe extern "C" fn(
    *mut Handle,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Handle, c_int, *const *const c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Handle) -> c_int;
type Size = unsafe extern "C" fn(Handle, *mut usize) -> c_int;
type Get = unsafe extern "C" fn(Handle, *mut c_char) -> c_int;
type Describe = unsafe extern "C" fn(c_int) -> *const c_char;
type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;

/// What NVRTC answers when all went well.
const SUCCESS: c_int = 0;

/// The loaded library.
pub struct Nvrtc {
    library: Library,
}

/// What became of a source.
pub struct Compiled {
    /// PTX and machine code, or nothing where the source has errors.
    pub code: Option<Code>,
    /// Errors, warnings and what `ptxas -v` says.
    pub log: String,
}

/// Both forms of a compiled source.
pub struct Code {
    /// The portable assembly.
    pub ptx: String,
    /// The machine code, an ELF file.
    pub cubin: Vec<u8>,
}

/// A program that is destroyed when dropped.
struct Program<'a> {
    nvrtc: &'a Nvrtc,
    handle: Handle,
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        if let Ok(destroy) = self.nvrtc.symbol::<Destroy>(b"nvrtcDestroyProgram\0") {
            // SAFETY: the handle was made by nvrtcCreateProgram and is not used again.
            unsafe { destroy(&mut self.handle) };
        }
    }
}

impl Nvrtc {
    /// Loads the library of a file.
    pub fn load(file: &Path) -> Result<Self> {
        // SAFETY: NVRTC's initialisers have no conditions.
        let library = unsafe { Library::new(file) }.with_context(|| format!("{} cannot be loaded", file.display()))?;
        Ok(Self { library })
    }

    /// The version as 13.0.
    pub fn version(&self) -> Result<String> {
        let version = self.symbol::<Version>(b"nvrtcVersion\0")?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: writes two integers.
        self.check(unsafe { version(&mut major, &mut minor) })?;
        Ok(format!("{major}.{minor}"))
    }

    /// Compiles a source with command-line options.
    ///
    /// Errors: what is no fault of the source, such as an option that this version does not know.
    pub fn compile(&self, source: &str, options: &[String]) -> Result<Compiled> {
        let source = CString::new(source).context("the source holds a NUL")?;
        let options = options.iter().map(|o| CString::new(o.as_str())).collect::<Result<Vec<_>, _>>()?;
        let pointers: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        let create = self.symbol::<Create>(b"nvrtcCreateProgram\0")?;
        let compile = self.symbol::<Compile>(b"nvrtcCompileProgram\0")?;
        let mut handle = std::ptr::null_mut();
        let none = std::ptr::null();
        // SAFETY: the source ends with a NUL; there are no headers.
        self.check(unsafe { create(&mut handle, source.as_ptr(), std::ptr::null(), 0, none, none) })?;
        let program = Program { nvrtc: self, handle };
        // SAFETY: the handle lives and every option ends with a NUL.
        let outcome = unsafe { compile(program.handle, pointers.len() as c_int, pointers.as_ptr()) };
        let log = text(program.get(b"nvrtcGetProgramLogSize\0", b"nvrtcGetProgramLog\0")?);
        /// The source has errors, which the log tells.
        const COMPILATION: c_int = 6;
        if outcome == COMPILATION {
            return Ok(Compiled { code: None, log });
        }
        self.check(outcome).with_context(|| log.trim().to_string())?;
        let ptx = text(program.get(b"nvrtcGetPTXSize\0", b"nvrtcGetPTX\0")?);
        let cubin = program.get(b"nvrtcGetCUBINSize\0", b"nvrtcGetCUBIN\0")?;
        Ok(Compiled { code: Some(Code { ptx, cubin }), log })
    }

    /// A function of the library; `T` is its type in `nvrtc.h`.
    fn symbol<T: Copy>(&self, name: &'static [u8]) -> Result<T> {
        // SAFETY: the types above are those of nvrtc.h, whose functions keep theirs between versions.
        let found = unsafe { self.library.get::<T>(name) };
        Ok(*found.with_context(|| format!("NVRTC without {}", String::from_utf8_lossy(name)))?)
    }

    fn check(&self, status: c_int) -> Result<()> {
        if status == SUCCESS {
            return Ok(());
        }
        let describe = self.symbol::<Describe>(b"nvrtcGetErrorString\0")?;
        // SAFETY: the answer is a static text for every number.
        let words = unsafe { CStr::from_ptr(describe(status)) };
        bail!("NVRTC: {}", words.to_string_lossy())
    }
}

impl Program<'_> {
    fn get(&self, size_of: &'static [u8], get: &'static [u8]) -> Result<Vec<u8>> {
        let (size_of, get) = (self.nvrtc.symbol::<Size>(size_of)?, self.nvrtc.symbol::<Get>(get)?);
        let mut size = 0;
        // SAFETY: the handle lives.
        self.nvrtc.check(unsafe { size_of(self.handle, &mut size) })?;
        let mut bytes = vec![0_u8; size];
        // SAFETY: exactly as many bytes are written as the library asked for.
        self.nvrtc.check(unsafe { get(self.handle, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }
}

/// A C string with its NUL.
fn text(mut bytes: Vec<u8>) -> String {
    bytes.truncate(bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len()));
    String::from_utf8_lossy(&bytes).into_owned()
}
