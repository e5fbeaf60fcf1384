//! Which blueprint a launch takes: the one that is being tried, the tuned one of its key or of the nearest key, or the default.
//!
//! [`choose`] is called by every launch that has variants. A [`Table`] of measurements is [`install`]ed once a process, one for the native
//! code of the cpu and one for the GPU. Tuning and benches look on: [`listing`] tells which choices some work makes, [`forcing`]
//! makes one of them.

mod table;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Serialize, de::DeserializeOwned};
pub use table::{Dropped, Entry, Lost, Table};
use toml::Value;

use crate::{Blueprint, Limits};

/// A blueprint that is written to tables and read from them.
pub trait Tunable: Blueprint + Serialize + DeserializeOwned {
    /// What of a problem decides which blueprint is best.
    fn key(problem: &Self::Problem) -> Key;
}

/// A tuning key: a class, within which blueprints mean the same, and the sizes that the work scales with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Whatever must be equal: taps, factors, head dimension.
    pub class: String,
    /// Sizes, in an order that the kernel fixes.
    pub sizes: Vec<u64>,
}

impl Key {
    /// A key of a class and sizes.
    pub fn new(class: impl Into<String>, sizes: &[usize]) -> Self {
        Self { class: class.into(), sizes: sizes.iter().map(|&s| s as u64).collect() }
    }

    /// How many times each size differs, in octaves, summed; `None` between classes.
    pub fn distance(&self, other: &Self) -> Option<f64> {
        let octaves = |(a, b): (&u64, &u64)| ((*a).max(1) as f64 / (*b).max(1) as f64).log2().abs();
        let comparable = self.class == other.class && self.sizes.len() == other.sizes.len();
        comparable.then(|| self.sizes.iter().zip(&other.sizes).map(octaves).sum())
    }
}

/// Which of the two tables a launch looks into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The native code of the cpu.
    Host,
    /// A GPU.
    Cube,
}

/// Where a choice came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Nothing was measured for it.
    Default,
    /// The table holds its key.
    Tuned,
    /// The table holds a key near it.
    Nearest,
    /// [`forcing`].
    Forced,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Tuned => "tuned",
            Self::Nearest => "nearest",
            Self::Forced => "forced",
        })
    }
}

/// A choice that was made while someone looked.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Which table it looks into.
    pub place: Place,
    /// Its key.
    pub key: Key,
    /// What was chosen, and why.
    pub chosen: Value,
    /// Why.
    pub source: Source,
    /// What is launched where nothing is tuned.
    pub default: Value,
    /// Everything that is legal.
    pub candidates: Vec<Value>,
}

/// What was decided for a kernel of a place and a key: the entry and its source, or nothing where the default stays.
type Memo = HashMap<(&'static str, Place, Key), Option<(Value, Source)>>;

#[derive(Default)]
struct State {
    tables: [Option<Table>; 2],
    memo: Memo,
    points: Option<Vec<Point>>,
    forced: Option<(&'static str, Key, Value)>,
    notes: Vec<String>,
    /// Everything that was ever noted: once is enough.
    noted: HashSet<String>,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);
/// Whether a launch must look at [`STATE`] at all.
static IN_USE: AtomicBool = AtomicBool::new(false);

fn with<R>(f: impl FnOnce(&mut State) -> R) -> R {
    // A panic elsewhere leaves whole values behind.
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    let state = state.get_or_insert_default();
    let result = f(state);
    let in_use = state.tables.iter().any(Option::is_some) || state.points.is_some() || state.forced.is_some();
    IN_USE.store(in_use, Ordering::Release);
    result
}

/// Uses a table for all launches of a place from now on; without one they take their defaults.
pub fn install(place: Place, table: Option<Table>) {
    with(|state| {
        state.tables[place as usize] = table;
        state.memo.clear();
        state.noted.clear();
    });
}

/// What launches found wrong with the tables since the last call, a line each.
pub fn take_notes() -> Vec<String> {
    with(|state| std::mem::take(&mut state.notes))
}

/// Runs `f` and returns the choices that launches made in it, each kernel and key once.
pub fn listing<R>(f: impl FnOnce() -> R) -> (R, Vec<Point>) {
    let outer = with(|state| state.points.replace(Vec::new()));
    let result = f();
    let points = with(|state| std::mem::replace(&mut state.points, outer)).unwrap_or_default();
    (result, points)
}

/// Runs `f`, in which launches of the point's kernel and key take this blueprint.
pub fn forcing<R>(point: &Point, blueprint: &Value, f: impl FnOnce() -> R) -> R {
    let forced = Some((point.kernel, point.key.clone(), blueprint.clone()));
    let outer = with(|state| std::mem::replace(&mut state.forced, forced));
    let result = f();
    with(|state| state.forced = outer);
    result
}

/// A blueprint as tables hold it: text where it cannot be written, which no kernel reads as a blueprint.
fn written<B: Tunable>(blueprint: &B) -> Value {
    Value::try_from(blueprint).unwrap_or_else(|e| Value::String(e.to_string()))
}

/// The blueprint for a launch of `kernel` on a device with these limits; `default` is what it takes where nothing is known.
pub fn choose<B: Tunable>(place: Place, kernel: &'static str, problem: &B::Problem, limits: &Limits, default: B) -> B {
    if !IN_USE.load(Ordering::Acquire) {
        return default;
    }
    let key = B::key(problem);
    with(|state| {
        let forced = state.forced.as_ref().filter(|(name, at, _)| *name == kernel && *at == key);
        let (chosen, source) = match forced.and_then(|(.., value)| value.clone().try_into::<B>().ok()) {
            Some(blueprint) => (blueprint, Source::Forced),
            None => state.looked_up(place, kernel, &key, problem, limits).unwrap_or((default, Source::Default)),
        };
        if let Some(points) = &mut state.points
            && !points.iter().any(|p| p.kernel == kernel && p.place == place && p.key == key)
        {
            let candidates = B::space(problem, limits).iter().map(written).collect();
            let (chosen, default) = (written(&chosen), written(&default));
            points.push(Point { kernel, place, key, chosen, source, default, candidates });
        }
        chosen
    })
}

impl State {
    /// The blueprint of the nearest entry that is legal for the problem.
    fn looked_up<B: Tunable>(
        &mut self,
        place: Place,
        kernel: &'static str,
        key: &Key,
        problem: &B::Problem,
        limits: &Limits,
    ) -> Option<(B, Source)> {
        let table = self.tables[place as usize].as_ref()?;
        let known = (kernel, place, key.clone());
        if let Some(decided) = self.memo.get(&known) {
            let (value, source) = decided.as_ref()?;
            return Some((value.clone().try_into().ok()?, *source));
        }
        let mut near: Vec<(f64, &Entry)> = table
            .entries
            .iter()
            .filter(|e| e.kernel == kernel)
            .filter_map(|e| Some((key.distance(&e.key())?, e)))
            .collect();
        near.sort_by(|a, b| a.0.total_cmp(&b.0));
        let legal = B::space(problem, limits);
        let (mut found, mut notes) = (None, Vec::new());
        for (distance, entry) in near {
            match entry.blueprint.clone().try_into::<B>() {
                Ok(blueprint) if legal.contains(&blueprint) => {
                    let source = if distance == 0.0 { Source::Tuned } else { Source::Nearest };
                    found = Some((blueprint, source));
                    break;
                }
                // Another problem's blueprint need not fit this one; the problem's own must.
                Ok(_) if distance > 0.0 => {}
                outcome => notes.push(format!(
                    "the tuned {kernel} blueprint {} of {} {:?} is not legal {} and was ignored",
                    inline(&entry.blueprint),
                    entry.class,
                    entry.sizes,
                    if outcome.is_ok() { "here" } else { "for any problem" }
                )),
            }
        }
        notes.retain(|note| self.noted.insert(note.clone()));
        self.notes.extend(notes);
        self.memo.insert(known, found.as_ref().map(|(b, source)| (written(b), *source)));
        found
    }
}

/// A blueprint on one line, as people read it.
pub fn inline(blueprint: &Value) -> String {
    match blueprint {
        Value::Table(table) => {
            let fields: Vec<String> = table.iter().map(|(name, value)| format!("{name} {}", inline(value))).collect();
            fields.join(", ")
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
