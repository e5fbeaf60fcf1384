//! What the machine code of a kernel holds, counted in nvdisasm's listing.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

/// How many instructions move how many bits for each thread.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Widths(BTreeMap<u32, usize>);

impl Widths {
    fn add(&mut self, bits: u32) {
        *self.0.entry(bits).or_default() += 1;
    }

    /// Instructions of a width.
    pub fn of(&self, bits: u32) -> usize {
        self.0.get(&bits).copied().unwrap_or(0)
    }

    /// All instructions.
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }
}

impl fmt::Display for Widths {
    /// `128:12 32:4`, the widest first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().rev().map(|(bits, n)| format!("{bits}:{n}")).collect();
        f.pad(if all.is_empty() { "-".to_string() } else { all.join(" ") }.as_str())
    }
}

/// Counts of static instructions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sass {
    /// All but padding.
    pub instructions: usize,
    /// Loads from global memory, copies to shared memory included.
    pub loads: Widths,
    /// Those of them within loops.
    pub loads_in_loops: Widths,
    /// Stores to global memory.
    pub stores: Widths,
    /// Multiply-adds of matrices on tensor cores: `mma.sync` (HMMA) and its relatives.
    pub matrix: usize,
    /// Those of whole warp groups (HGMMA) and of tensor memory (UTCHMMA).
    pub group_matrix: usize,
    /// Accesses to spilled registers within loops.
    pub spills_in_loops: usize,
}

/// An instruction of the listing.
struct Instruction<'a> {
    address: u64,
    /// Mnemonic with its modifiers, as `LDG.E.128.CONSTANT`.
    name: &'a str,
    /// The label that it jumps to.
    target: Option<&'a str>,
    spill: bool,
}

impl Sass {
    /// Counts a listing of `nvdisasm -c`.
    pub fn count(listing: &str) -> Self {
        let mut sass = Self::default();
        // Addresses begin again in each function.
        for function in listing.split("\t.section\t.text.").skip(1) {
            sass.add(function);
        }
        sass
    }

    fn add(&mut self, function: &str) {
        let (mut labels, mut waiting, mut all) = (BTreeMap::new(), Vec::new(), Vec::new());
        for line in function.lines() {
            if let Some(label) = line.trim().strip_suffix(':') {
                waiting.push(label);
            } else if let Some(instruction) = instruction(line) {
                labels.extend(waiting.drain(..).map(|label| (label, instruction.address)));
                all.push(instruction);
            }
        }
        // A loop is what lies between a jump back and its target; the jump to itself at a function's end is none.
        let back = |i: &Instruction| {
            let to = *labels.get(i.target?)?;
            (to < i.address).then_some(to..=i.address)
        };
        let loops: Vec<_> = all.iter().filter_map(back).collect();
        for i in &all {
            let in_loop = loops.iter().any(|l| l.contains(&i.address));
            let base = i.name.split('.').next().unwrap_or_default();
            match base {
                "NOP" => continue,
                "LDG" | "LDGSTS" | "LD" => {
                    self.loads.add(width(i.name));
                    if in_loop {
                        self.loads_in_loops.add(width(i.name));
                    }
                }
                "STG" | "ST" => self.stores.add(width(i.name)),
                "HGMMA" | "IGMMA" | "QGMMA" | "UTCHMMA" | "UTCIMMA" | "UTCQMMA" | "UTCOMMA" => self.group_matrix += 1,
                _ if base.ends_with("MMA") => self.matrix += 1,
                _ => {}
            }
            self.instructions += 1;
            self.spills_in_loops += usize::from(i.spill && in_loop);
        }
    }
}

/// Reads `/*0440*/  @!P0 LDG.E.128 R4, desc[UR6][R2.64] ;`.
fn instruction(line: &str) -> Option<Instruction<'_>> {
    let (address, rest) = line.trim().strip_prefix("/*")?.split_once("*/")?;
    let address = u64::from_str_radix(address, 16).ok()?;
    let spill = rest.contains("SpillRefill");
    let rest = rest.trim();
    let rest = if rest.starts_with('@') { rest.split_once(' ')?.1.trim() } else { rest };
    let name = rest.split([' ', ';']).next().filter(|n| !n.is_empty())?;
    let target = match name.contains("BRA") {
        true => rest.split_once("`(").and_then(|(_, t)| t.split_once(')')).map(|(t, _)| t),
        false => None,
    };
    Some(Instruction { address, name, target, spill })
}

/// Bits that a load or store moves for each thread.
fn width(name: &str) -> u32 {
    let modifier = |m: &&str| matches!(*m, "U8" | "S8" | "U16" | "S16" | "64" | "128" | "256");
    match name.split('.').find(modifier) {
        None => 32,
        Some(m) => m.trim_start_matches(['U', 'S']).parse().unwrap_or(32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\t.target\tsm_90a\n\n\t.section\t.text.kernel,\"ax\",@progbits\n        .global         kernel\nkernel:\n\
        /*0000*/                   LDC R1, c[0x0][0x28] ;\n\
        /*0010*/                   STL [R1], R11                 (*\"SpillRefill\"*);\n\
        .L_x_0:\n\
        /*0020*/              @!P1 LDG.E.128.CONSTANT R16, desc[UR6][R10.64] ;\n\
        /*0030*/                   LDL.LU R14, [R1]              (*\"SpillRefill\"*);\n\
        /*0040*/                   HMMA.1688.F32.TF32 R4, R4, R2, R4 ;\n\
        /*0050*/               @P0 BRA `(.L_x_0) ;\n\
        /*0060*/                   LDG.E.U16 R4, desc[UR4][R4.64] ;\n\
        /*0070*/                   STG.E desc[UR4][R4.64], R5 ;\n\
        /*0080*/                   EXIT ;\n\
        .L_x_1:\n\
        /*0090*/                   BRA `(.L_x_1);\n\
        /*00a0*/                   NOP;\n";

    #[test]
    fn instructions_are_counted_by_kind_and_width_and_loops_are_told_from_the_rest() {
        let sass = Sass::count(LISTING);
        assert_eq!((sass.instructions, sass.matrix, sass.group_matrix), (10, 1, 0));
        assert_eq!(sass.loads.to_string(), "128:1 16:1");
        assert_eq!((sass.loads_in_loops.of(128), sass.loads_in_loops.total()), (1, 1));
        assert_eq!(sass.stores.to_string(), "32:1");
        assert_eq!(sass.spills_in_loops, 1);
    }
}
