//! Looks at the GPU code of every bench case without a GPU: registers, spills, occupancy, widths of loads, matrix instructions.
//!
//! The cases run on the dry CUDA device, which turns each launch into CUDA C++; NVRTC compiles that for a chip, and the
//! machine code is disassembled and counted. Nothing is timed: these are the facts that the clock depends on.

mod gates;
mod nvrtc;
mod report;
mod resources;
mod sass;
pub(crate) mod spirv;
mod toolkit;
mod tour;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use swinstyle_data::picture::write_atomic;
use swinstyle_tensor::{
    DType, Device,
    cube::dry::{self, Chip, Launch, Program},
};

use crate::{
    bench, check,
    output::{Output, Status, one_line},
};
use report::{CaseReport, Line, Report};
use resources::{Occupancy, Resources};
use sass::Sass;
use toolkit::Toolkit;

/// What to look at.
#[derive(Debug)]
pub struct Options {
    /// The chip that is compiled for.
    pub chip: Chip,
    /// Only the cases whose name contains this.
    pub case: Option<String>,
    /// Only the kernels whose name contains this.
    pub kernel: Option<String>,
    /// The CUDA compiler's folder, if not an installed toolkit's.
    pub tools: Option<PathBuf>,
    /// A tour of every operation in every type too.
    pub tour: bool,
    /// A folder of fixtures whose kernels are looked at too: odd shapes, every gradient.
    pub fixtures: Option<PathBuf>,
    /// Where sources, PTX and listings are written, in a folder of the chip's name.
    pub out: PathBuf,
}

/// Prints a line for every launch of the cases, writes their code and holds it to the gates.
///
/// Errors: no compiler, an unknown case or kernel. A kernel that does not compile and one that a gate stops are reported,
/// and the outcome is a failure.
pub fn run(options: &Options, output: Output) -> Result<Status> {
    let chip = options.chip;
    let device = Device::Dry(chip);
    let toolkit = Toolkit::find(options.tools.as_deref())?;
    let out = options.out.join(chip.to_string());
    fs::create_dir_all(&out).with_context(|| format!("{} cannot be made", out.display()))?;
    let mut inspector = Inspector { options, toolkit, out, seen: HashMap::new() };
    let mut report = Report::new(chip, inspector.toolkit.nvrtc.version()?);

    let all = cases(device);
    let mut names: Vec<String> = all.iter().map(|c| c.name.clone()).collect();
    let wanted = |name: &str| options.case.as_deref().is_none_or(|filter| name.contains(filter));
    for case in all.iter().filter(|c| wanted(&c.name)) {
        // What prepares the case is no part of it.
        let outcome = case.prepare(device).and_then(|mut work| {
            dry::launches(chip)?;
            work()
        });
        let launches = dry::launches(chip)?;
        report.add(inspector.case(&case.name, outcome.err(), launches)?, output)?;
    }
    let stations = tour::TYPES.iter().flat_map(|&dtype| tour::STATIONS.iter().map(move |station| (dtype, station)));
    for (dtype, (station, visit)) in stations.filter(|_| options.tour) {
        let name = format!("tour/{dtype}/{station}");
        if wanted(&name) {
            let outcome = visit(&tour::Inputs { device, dtype });
            report.add(inspector.case(&name, outcome.err(), dry::launches(chip)?)?, output)?;
        }
        names.push(name);
    }
    if let Some(folder) = &options.fixtures {
        check::run(folder, device, None, |outcome| {
            // The results are zeros and so their comparison fails: what counts is what was launched.
            let launches = dry::launches(chip)?;
            names.push(outcome.case.clone());
            match wanted(&outcome.case) {
                true => report.add(inspector.case(&outcome.case, None, launches)?, output),
                false => Ok(()),
            }
        })?;
    }
    if report.cases.is_empty() {
        bail!("no case contains `{}`; the cases are {}", options.case.as_deref().unwrap_or_default(), names.join(", "));
    }
    if let (Some(kernel), true) = (&options.kernel, report.is_empty()) {
        let mut known: Vec<String> = inspector.seen.values().map(|(program, _)| short(&program.kernel)).collect();
        known.sort();
        known.dedup();
        bail!("no kernel's name contains `{kernel}`; these cases launch {}", known.join(", "));
    }
    report.finish(&inspector.out, output)
}

/// The bench's cases, and those of single operations in the half types.
fn cases(device: Device) -> Vec<bench::Case> {
    let half = [DType::F16, DType::BF16].into_iter().flat_map(|dtype| bench::half_cases(device, dtype));
    bench::cases(device).into_iter().chain(half).collect()
}

/// Programs that have been compiled, and how they came out.
struct Inspector<'a> {
    options: &'a Options,
    toolkit: Toolkit,
    out: PathBuf,
    /// By address; the program beside it keeps the address its own. Nothing for a kernel that is not asked for.
    seen: HashMap<usize, (Arc<Program>, Option<Line>)>,
}

impl Inspector<'_> {
    /// The distinct launches of a case, in order of their first.
    fn case(&mut self, name: &str, error: Option<anyhow::Error>, launches: Vec<Launch>) -> Result<CaseReport> {
        self.compile_all(&launches)?;
        let mut lines: Vec<(usize, Line)> = Vec::new();
        for launch in launches {
            let at = address(&launch.program);
            if let Some((_, line)) = lines.iter_mut().find(|(p, line)| *p == at && line.grid == launch.grid) {
                line.launches += 1;
            } else if let Some((_, Some(line))) = self.seen.get(&at) {
                lines.push((at, Line { grid: launch.grid, launches: 1, ..line.clone() }));
            }
        }
        let launches = lines.into_iter().map(|(_, line)| line).collect();
        Ok(CaseReport { case: name.to_string(), error: error.as_ref().map(one_line), launches })
    }

    /// Compiles the programs that are new, side by side.
    fn compile_all(&mut self, launches: &[Launch]) -> Result<()> {
        let mut fresh: Vec<&Arc<Program>> = Vec::new();
        for Launch { program, .. } in launches {
            if !self.seen.contains_key(&address(program)) && !fresh.iter().any(|f| Arc::ptr_eq(f, program)) {
                fresh.push(program);
            }
        }
        let compiled: Vec<Option<Line>> = fresh
            .par_iter()
            .map(|program| {
                let name = short(&program.kernel);
                let wanted = self.options.kernel.as_deref().is_none_or(|filter| name.contains(filter));
                wanted.then(|| self.compile(name, program)).transpose()
            })
            .collect::<Result<_>>()?;
        let known = fresh.into_iter().zip(compiled).map(|(p, line)| (address(p), (p.clone(), line)));
        self.seen.extend(known);
        Ok(())
    }

    fn compile(&self, kernel: String, program: &Program) -> Result<Line> {
        let file = format!("{}-{:08x}", kernel.replace("::", "."), hash(program));
        let mut line = Line::new(kernel, program, file);
        let source = match &program.source {
            Ok(source) => source,
            Err(error) => {
                line.error = Some(error.clone());
                return Ok(line);
            }
        };
        self.write(&line.file, "cu", source.as_bytes())?;
        let compiled = self.toolkit.nvrtc.compile(source, &self.nvrtc_options())?;
        let Some(code) = compiled.code else {
            line.error = Some(first_error(&compiled.log));
            return Ok(line);
        };
        self.write(&line.file, "ptx", code.ptx.as_bytes())?;
        let cubin = self.write(&line.file, "cubin", &code.cubin)?;
        let listing = self.toolkit.disassemble(&cubin)?;
        self.write(&line.file, "sass", listing.as_bytes())?;
        let resources = Resources::parse(&compiled.log).with_context(|| line.file.clone())?;
        let shared = program.shared_bytes + resources.declared_shared_bytes as usize;
        let units = program.cube_dim.iter().product();
        line.shared_bytes = shared;
        line.occupancy = Some(Occupancy::of(&self.options.chip.limits(), resources.registers, shared, units));
        line.resources = Some(resources);
        line.sass = Some(Sass::count(&listing));
        Ok(line)
    }

    /// What the CUDA backend passes, and the request for ptxas's account.
    fn nvrtc_options(&self) -> Vec<String> {
        let mut all = vec![format!("--gpu-architecture={}", self.options.chip.target())];
        all.extend(self.toolkit.include.iter().map(|folder| format!("--include-path={}", folder.display())));
        all.extend(["-lineinfo".to_string(), "--ptxas-options=-v".to_string()]);
        all
    }

    fn write(&self, name: &str, extension: &str, bytes: &[u8]) -> Result<PathBuf> {
        let file = self.out.join(format!("{name}.{extension}"));
        write_atomic(&file, bytes)?;
        Ok(file)
    }
}

fn address(program: &Arc<Program>) -> usize {
    Arc::as_ptr(program).addr()
}

/// `swinstyle_window_attention::cube::forward::forward` as `window_attention::forward`.
fn short(path: &str) -> String {
    let path = path.strip_prefix("swinstyle_").unwrap_or(path);
    let (room, function) = (path.split("::").next().unwrap_or(path), path.rsplit("::").next().unwrap_or(path));
    format!("{room}::{}", function.strip_suffix("_kernel").unwrap_or(function))
}

/// Tells variants of a kernel apart in file names, the same in every run: FNV-1a of what is known at compile time.
fn hash(program: &Program) -> u32 {
    let text = format!("{} {} {:?}", program.kernel, program.variant, program.cube_dim);
    text.bytes().fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

/// The first error of a compiler's log, with the line that it is about.
fn first_error(log: &str) -> String {
    let from = log.lines().position(|l| l.contains("error")).unwrap_or(0);
    log.lines().skip(from).take(3).map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Where the code of a report is, for a person.
fn shown(folder: &Path) -> String {
    folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf()).display().to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_room_and_function() {
        assert_eq!(short("swinstyle_window_attention::cube::forward::forward"), "window_attention::forward");
        assert_eq!(short("swinstyle_tensor::cube::matmul::matmul_kernel"), "tensor::matmul");
    }

    #[test]
    fn an_error_is_told_with_its_line() {
        let log = "a(3): warning #177-D: variable\n\na(9): error: no operator \"-\" matches\n  l = -m;\n      ^\nmore";
        assert_eq!(first_error(log), "a(9): error: no operator \"-\" matches l = -m; ^");
    }

    /// What NVRTC refuses is found here as far as that is known, for there is no NVRTC in a test.
    fn refused(source: &str) -> Option<&str> {
        // CubeCL's structures for vectors have no operators: a negated one is `const float_4 a = -b;`.
        source.lines().find(|l| l.trim_start().starts_with("const ") && l.contains("_4 ") && l.contains(" = -"))
    }

    #[test]
    fn every_kernel_of_the_bench_cases_and_of_all_operations_becomes_cuda_source() {
        let chip = Chip::Sm90;
        let device = Device::Dry(chip);
        let mut kernels = BTreeSet::new();
        let mut check = |name: &str, outcome: Result<()>| {
            assert!(outcome.is_ok(), "{name}: {outcome:?}");
            for launch in dry::launches(chip).unwrap() {
                let Program { kernel, variant, source, .. } = &*launch.program;
                let source = source.as_ref().unwrap_or_else(|e| panic!("{kernel} ({variant}): {e}"));
                assert_eq!(refused(source), None, "{kernel} ({variant})");
                kernels.insert(short(kernel));
            }
        };
        for case in cases(device) {
            check(&case.name, case.prepare(device).and_then(|mut work| work()));
        }
        for dtype in tour::TYPES {
            for (station, visit) in tour::STATIONS {
                check(station, visit(&tour::Inputs { device, dtype }));
            }
        }
        for kernel in ["window_attention::backward", "query_attention::backward", "modulated_conv2d::conv"] {
            assert!(kernels.contains(kernel), "{kernel} is not among {kernels:?}");
        }
    }
}
