//! scratch
mod nvrtc;

use std::{collections::HashMap, path::Path};
use anyhow::Result;
use swinstyle_tensor::{Device, cube::dry::{self, Chip}};
use crate::{bench, output::{Output, Status}};

pub fn run(chip: Chip, tools: &Path, out: &Path, golden: Option<&Path>, filter: Option<&str>, output: Output) -> Result<Status> {
    let nv = nvrtc::Nvrtc::load(&tools.join("lib/libnvrtc.so.13"))?;
    output.note(nv.version()?);
    let device = Device::Dry(chip);
    let options = vec![format!("--gpu-architecture={}", chip.target()), format!("--include-path={}", tools.join("include").display()), format!("--include-path={}", tools.join("include/cccl").display()), "-lineinfo".to_string(), "--ptxas-options=-v".to_string()];
    let mut seen: HashMap<String, usize> = HashMap::new();
    std::fs::create_dir_all(out)?;
    let mut handle = |case: &str| -> Result<()> {
        for l in dry::launches(chip)? {
            let p = &l.program;
            let n = seen.len();
            let key = format!("{}{}{:?}", p.kernel, p.variant, p.cube_dim);
            if seen.contains_key(&key) { continue; }
            seen.insert(key, n);
            println!("{n} {case} {} {} {:?} {:?} shared {}", p.kernel, p.variant, p.cube_dim, l.grid, p.shared_bytes);
            let stem = format!("{n:03}-{}", p.kernel.replace("::", "."));
            match &p.source {
                Err(e) => println!("   NOSOURCE {e}"),
                Ok(s) => {
                    std::fs::write(out.join(format!("{stem}.cu")), s)?;
                    let c = nv.compile(s, &options)?;
                    match c.code {
                        None => println!("   FAIL {}", c.log),
                        Some(code) => {
                            println!("   ok {}", c.log.replace('\n', " | "));
                            std::fs::write(out.join(format!("{stem}.ptx")), code.ptx)?;
                            std::fs::write(out.join(format!("{stem}.cubin")), code.cubin)?;
                        }
                    }
                }
            }
        }
        Ok(())
    };
    for case in bench::cases(device) {
        if filter.is_some_and(|f| !case.name.contains(f)) { continue; }
        let r = case.prepare(device).and_then(|mut r| r());
        if let Err(e) = r { println!("CASE {} failed: {e:#}", case.name); }
        handle(&case.name)?;
    }
    if let Some(g) = golden {
        crate::check::run(g, device, filter, |o| { if let Some(e) = &o.error { println!("GOLDEN {} {e}", o.case); } handle(&o.case) })?;
    }
    Ok(Status::Done)
}
