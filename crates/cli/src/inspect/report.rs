//! The findings as lines for a person and as one JSON document.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use swinstyle_tensor::cube::dry::{Chip, Program};

use super::{gates, resources::Occupancy, resources::Resources, sass::Sass, shown};
use crate::output::{Output, Status};

/// Launches of one program on one grid.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Line {
    /// Room and function.
    pub kernel: String,
    /// Where the kernel is defined.
    pub path: String,
    /// The blueprint and whatever else is known at compile time.
    pub variant: String,
    /// Cubes along x, y, z.
    pub grid: [u32; 3],
    /// Units of a cube along x, y, z.
    pub cube: [u32; 3],
    /// How often the case launches it.
    pub launches: usize,
    /// Bytes of shared memory of a cube.
    pub shared_bytes: usize,
    /// Registers and spills.
    #[serde(flatten)]
    pub resources: Option<Resources>,
    /// Resident warps.
    pub occupancy: Option<Occupancy>,
    /// Counts of instructions.
    #[serde(flatten)]
    pub sass: Option<Sass>,
    /// Why there is no code.
    pub error: Option<String>,
    /// Name of its files, without extension.
    pub file: String,
}

impl Line {
    pub(super) fn new(kernel: String, program: &Program, file: String) -> Self {
        Self {
            kernel,
            path: program.kernel.clone(),
            variant: program.variant.clone(),
            cube: program.cube_dim,
            shared_bytes: program.shared_bytes,
            file,
            ..Self::default()
        }
    }

    fn text(&self) -> String {
        let units: u32 = self.cube.iter().product();
        let cubes: u64 = self.grid.iter().map(|&n| u64::from(n)).product();
        let start = format!("{:>4} {:38} {:>9}×{:<4}", self.launches, self.kernel, cubes, units);
        let (Some(r), Some(o), Some(s)) = (&self.resources, &self.occupancy, &self.sass) else {
            return format!("{start} FAIL {}", self.error.as_deref().unwrap_or("no code"));
        };
        let spill = match (r.spilled_bytes, s.spills_in_loops) {
            (0, _) => "-".to_string(),
            (bytes, 0) => bytes.to_string(),
            (bytes, _) => format!("{bytes}!"),
        };
        let percent = 100.0 * o.share;
        format!(
            "{start} {:>4} {spill:>5} {:>6} {percent:>4.0}% {:13} {:16} {:12} {:>4} {:>5}  {}",
            r.registers,
            self.shared_bytes,
            o.limiter.unwrap_or("-"),
            s.loads,
            s.stores,
            s.matrix + s.group_matrix,
            s.instructions,
            self.variant
        )
    }
}

/// What a case launches.
#[derive(Debug, Serialize)]
pub struct CaseReport {
    /// Name of the case.
    pub case: String,
    /// Why it stopped short.
    pub error: Option<String>,
    /// Its distinct launches.
    pub launches: Vec<Line>,
}

impl CaseReport {
    /// Whether it is a station of the tour and no measured work.
    pub(super) fn is_tour(&self) -> bool {
        self.case.starts_with("tour/")
    }
}

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    arch: String,
    nvrtc: String,
    /// Broken gates, a line each.
    broken: Vec<String>,
    /// Spills that are let pass, a line each.
    tolerated: Vec<String>,
    /// The cases in order.
    pub cases: Vec<CaseReport>,
}

impl Report {
    pub(super) fn new(chip: Chip, nvrtc: String) -> Self {
        Self { arch: chip.to_string(), nvrtc, broken: Vec::new(), tolerated: Vec::new(), cases: Vec::new() }
    }

    /// Whether no kernel was looked at.
    pub(super) fn is_empty(&self) -> bool {
        self.cases.iter().all(|c| c.launches.is_empty())
    }

    fn heading(&self) -> String {
        format!(
            "for {} by NVRTC {}; global loads and stores by bits of a thread, spilled bytes with ! where a loop touches them\n\
             {:>4} {:38} {:>9}×{:<4} {:>4} {:>5} {:>6} {:>5} {:13} {:16} {:12} {:>4} {:>5}  variant",
            self.arch,
            self.nvrtc,
            "runs",
            "kernel",
            "cubes",
            "units",
            "regs",
            "spill",
            "shared",
            "occup",
            "limited by",
            "loads",
            "stores",
            "mma",
            "instr"
        )
    }

    /// Prints a case and keeps it.
    pub(super) fn add(&mut self, case: CaseReport, output: Output) -> Result<()> {
        if self.cases.is_empty() {
            output.line(self.heading())?;
        }
        if !case.launches.is_empty() || case.error.is_some() {
            output.line(&case.case)?;
        }
        for line in &case.launches {
            output.line(line.text())?;
        }
        if let Some(error) = &case.error {
            output.line(format_args!("     the case stopped: {error}"))?;
        }
        self.cases.push(case);
        Ok(())
    }

    /// Prints the gates and the place of the files; the outcome is theirs.
    pub(super) fn finish(mut self, folder: &Path, output: Output) -> Result<Status> {
        self.broken = gates::check(&self.cases);
        self.tolerated = gates::tolerated(&self.cases);
        for broken in &self.broken {
            output.line(format_args!("gate: {broken}"))?;
        }
        for tolerated in &self.tolerated {
            output.line(format_args!("let pass: {tolerated}"))?;
        }
        let mut files: Vec<&str> = self.cases.iter().flat_map(|c| &c.launches).map(|l| l.file.as_str()).collect();
        files.sort_unstable();
        files.dedup();
        let (n, broken, few) = (files.len(), self.broken.len(), self.tolerated.len());
        output.line(format_args!(
            "{n} programs, {broken} broken gates, {few} with a few spilled bytes; CUDA C++, PTX and SASS in {}",
            shown(folder)
        ))?;
        output.document(&self)?;
        Ok(if self.broken.is_empty() { Status::Done } else { Status::Failed })
    }
}
