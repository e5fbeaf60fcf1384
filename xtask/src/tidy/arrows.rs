//! The dependency arrows: `cli → train → models → kernels → tensor`, with `weights` and `data` beside `models`, and `files` below all.

use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Findings;
use crate::process::{cargo, output_of};

/// Crates of others that name a backend; `tensor` alone may depend on them.
const BACKENDS: [&str; 6] = ["cubecl-wgpu", "cubecl-cuda", "cubecl-hip", "cubecl-cpu", "wgpu", "cudarc"];

/// Features by which `cubecl` itself brings a backend in.
const BACKEND_FEATURES: [&str; 6] = ["wgpu", "wgpu-spirv", "vulkan", "cuda", "hip", "cpu"];

/// Rooms that use another room, each for a reason: the resampling convolutions filter with upfirdn2d.
const ROOM_TO_ROOM: [(&str, &str); 1] = [("kernels/modulated-conv2d", "kernels/upfirdn2d")];

/// A crate's place in the house.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Files,
    Tensor,
    Kit,
    Room,
    Weights,
    Data,
    Models,
    Train,
    /// The binary.
    Cli,
    /// Benches and integration tests: they may call everything.
    Outside,
    Xtask,
}

use Place::{Cli, Data, Files, Kit, Models, Outside, Room, Tensor, Train, Weights, Xtask};

impl Place {
    /// By the folder that the crate lies in.
    fn of(folder: &str) -> Option<Self> {
        Some(match folder {
            "crates/files" => Files,
            "crates/tensor" => Tensor,
            "crates/weights" => Weights,
            "crates/data" => Data,
            "crates/models" => Models,
            "crates/train" => Train,
            "crates/cli" => Cli,
            "kernels/kit" => Kit,
            "benches" | "tests" => Outside,
            "xtask" => Xtask,
            _ if folder.starts_with("kernels/") => Room,
            _ => return None,
        })
    }

    /// The places that a crate may use: those below it, and not its neighbours.
    fn may_use(self) -> &'static [Place] {
        match self {
            Files | Xtask => &[],
            Tensor => &[Files],
            Kit | Weights | Data => &[Files, Tensor],
            Room => &[Files, Tensor, Kit],
            // A network is built from weights that were read; reading them knows no network.
            Models => &[Files, Tensor, Kit, Room, Weights],
            Train => &[Files, Tensor, Kit, Room, Weights, Data, Models],
            Cli => &[Files, Tensor, Kit, Room, Weights, Data, Models, Train],
            Outside => &[Files, Tensor, Kit, Room, Weights, Data, Models, Train, Cli],
        }
    }
}

/// A dependency as `cargo metadata` tells it.
struct Dependency {
    name: String,
    /// The folder from the root, if it is a crate of this workspace.
    folder: Option<String>,
    features: Vec<String>,
    for_tests: bool,
}

/// Checks every crate of the workspace.
pub fn check(findings: &mut Findings) -> Result<()> {
    let mut command = cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1"]).stderr(Stdio::inherit());
    let json: Value = serde_json::from_str(&output_of(&mut command)?).context("cargo metadata")?;
    let root = json["workspace_root"].as_str().context("cargo metadata names no workspace_root")?;
    let below = |path: &str| path.strip_prefix(root).map(|p| p.replace('\\', "/").trim_matches('/').to_string());
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    for package in list(&json["packages"]) {
        let manifest = package["manifest_path"].as_str().and_then(below).context("a crate without manifest_path")?;
        let folder = manifest.trim_end_matches("/Cargo.toml").to_string();
        let dependencies: Vec<Dependency> = list(&package["dependencies"])
            .iter()
            .map(|d| Dependency {
                name: d["name"].as_str().unwrap_or_default().to_string(),
                folder: d["path"].as_str().and_then(below),
                features: list(&d["features"]).iter().filter_map(|f| f.as_str().map(str::to_string)).collect(),
                for_tests: d["kind"] == "dev",
            })
            .collect();
        check_crate(&folder, &dependencies, findings);
    }
    Ok(())
}

fn check_crate(folder: &str, dependencies: &[Dependency], findings: &mut Findings) {
    let Some(place) = Place::of(folder) else {
        findings.error(folder, "this crate has no place in the arrows (xtask/src/tidy/arrows.rs)");
        return;
    };
    for dependency in dependencies {
        let name = &dependency.name;
        let backend = BACKENDS.contains(&name.as_str())
            || (name == "cubecl" && dependency.features.iter().any(|f| BACKEND_FEATURES.contains(&f.as_str())));
        if backend && place != Tensor {
            findings.error(folder, format!("depends on the backend {name}; only crates/tensor may"));
        }
        // Tests may look up: the kit's harness tests the tensor crate below it.
        let Some(target) = dependency.folder.as_deref().filter(|_| !dependency.for_tests || place == Xtask) else {
            continue;
        };
        let allowed = Place::of(target).is_some_and(|t| place.may_use().contains(&t));
        if !allowed && !ROOM_TO_ROOM.contains(&(folder, target)) {
            findings.error(folder, format!("depends on {target}, against the arrows of ARCHITECTURE.md"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(folder: &str) -> Dependency {
        Dependency { name: String::new(), folder: Some(folder.to_string()), features: Vec::new(), for_tests: false }
    }

    fn external(name: &str, features: &[&str]) -> Dependency {
        let features = features.iter().map(|f| f.to_string()).collect();
        Dependency { name: name.to_string(), folder: None, features, for_tests: false }
    }

    fn errors(folder: &str, dependency: Dependency) -> usize {
        let mut findings = Findings::default();
        check_crate(folder, &[dependency], &mut findings);
        findings.errors.len()
    }

    #[test]
    fn arrows_point_down() {
        let order =
            ["crates/files", "crates/tensor", "kernels/upfirdn2d", "crates/models", "crates/train", "crates/cli"];
        for (i, upper) in order.iter().enumerate() {
            for (j, lower) in order.iter().enumerate() {
                assert_eq!(errors(upper, on(lower)), usize::from(j >= i), "{upper} on {lower}");
            }
        }
    }

    #[test]
    fn neighbours_do_not_know_each_other() {
        for (one, other) in [
            ("kernels/upfirdn2d", "kernels/layer-norm"),
            ("kernels/upfirdn2d", "kernels/modulated-conv2d"),
            ("crates/weights", "crates/data"),
            ("crates/data", "crates/models"),
            ("crates/weights", "kernels/kit"),
            ("xtask", "crates/tensor"),
            ("tests", "benches"),
            ("crates/cli", "tests"),
            ("crates/models", "xtask"),
        ] {
            assert_eq!(errors(one, on(other)), 1, "{one} on {other}");
        }
    }

    #[test]
    fn a_room_uses_another_only_where_that_is_listed() {
        for (room, other) in ROOM_TO_ROOM {
            assert_eq!(errors(room, on(other)), 0, "{room} on {other}");
        }
    }

    #[test]
    fn tests_may_look_up_but_xtask_never() {
        let mut dependency = on("kernels/kit");
        dependency.for_tests = true;
        assert_eq!(errors("crates/tensor", dependency), 0);
        let mut dependency = on("crates/tensor");
        dependency.for_tests = true;
        assert_eq!(errors("xtask", dependency), 1);
    }

    #[test]
    fn backends_are_brought_in_by_the_tensor_crate_alone() {
        for name in BACKENDS {
            assert_eq!(errors("kernels/upfirdn2d", external(name, &[])), 1, "{name}");
            assert_eq!(errors("crates/tensor", external(name, &[])), 0, "{name}");
        }
        assert_eq!(errors("kernels/upfirdn2d", external("cubecl", &["std"])), 0);
        assert_eq!(errors("kernels/upfirdn2d", external("cubecl", &["std", "wgpu"])), 1);
    }

    #[test]
    fn a_crate_without_a_place_is_an_error() {
        assert_eq!(errors("crates/new", external("anyhow", &[])), 1);
    }
}
