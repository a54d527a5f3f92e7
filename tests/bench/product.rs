//! What does a crossing cost, whole, on this machine: time, processor, memory, beside what people use otherwise?
//!
//! `tests/bench/run` builds what this needs and starts it. Every section makes its own fleet of released executables, with
//! software TPMs, and the peers run in the same minutes under the same load.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement of what fails measures nothing")]

use crate::figure::Figure;
use std::env;
use std::process::ExitCode;

#[path = "product/bao.rs"]
mod bao;
#[path = "product/crossing.rs"]
mod crossing;
#[path = "product/figure.rs"]
mod figure;
#[path = "product/ground.rs"]
mod ground;
#[path = "product/load.rs"]
mod load;
#[path = "product/memory.rs"]
mod memory;
#[path = "product/process.rs"]
mod process;
#[path = "product/scale.rs"]
mod scale;
#[path = "product/sizes.rs"]
mod sizes;
#[path = "product/start.rs"]
mod start;

/// How much is done: enough to look at in minutes, or in a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    quick: bool,
}

impl Extent {
    /// One of two numbers: that of a whole run, or that of a quick one.
    pub(crate) fn of<T>(self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }
}

/// A name to choose it by, and what it measures.
type Section = (&'static str, fn(Extent) -> Vec<Figure>);

const SECTIONS: &[Section] = &[
    ("crossing", crossing::section),
    ("start", start::section),
    ("memory", memory::section),
    ("scale", scale::section),
    ("sizes", sizes::section),
];

fn main() -> ExitCode {
    let (mut json, mut quick, mut wanted) = (false, false, Vec::new());
    for word in env::args().skip(1) {
        match word.as_str() {
            "--json" => json = true,
            "--quick" => quick = true,
            name if SECTIONS.iter().any(|(section, _)| *section == name) => wanted.push(word),
            _ => {
                let names: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
                eprintln!("usage: product [--json] [--quick] [{}]...", names.join("|"));
                return ExitCode::from(2);
            }
        }
    }
    let chosen = SECTIONS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|word| word == name));
    let figures: Vec<Figure> = chosen.flat_map(|(_, measure)| measure(Extent { quick })).collect();
    println!("{}", if json { figure::json(&figures) } else { figure::table(&figures) });
    ExitCode::SUCCESS
}
