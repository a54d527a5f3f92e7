//! An attacker who arrives after the launch: `blindferry-attacker`, as the same user or as root, and what it finds.

use crate::account::Account;
use crate::program::ours;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};

/// What an attacker could see of one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Look {
    /// The process.
    pub pid: u32,
    /// The surfaces, in a fixed order.
    pub surfaces: Vec<Surface>,
}

/// One place to look.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Surface {
    /// `environ`, `cmdline`, `memory`, `descriptors`, `in flight` or `core`.
    pub surface: String,
    /// Bytes that could be read there.
    pub bytes: u64,
    /// What was refused, and why; empty where everything could be read.
    pub refused: Vec<String>,
    /// Where needles were found.
    pub found: Vec<Found>,
}

/// A needle that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its line on the attacker's standard input, from 0.
    pub needle: usize,
    /// In which form: `raw`, `hex`, `base64` or `base64url`.
    pub form: String,
    /// Where: a mapping, a descriptor, a file.
    pub at: String,
}

impl Look {
    /// All that was found of this needle.
    pub fn found(&self, needle: usize) -> impl Iterator<Item = &Found> {
        self.surfaces.iter().flat_map(|surface| &surface.found).filter(move |found| found.needle == needle)
    }

    /// Bytes that could be read in all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.surfaces.iter().map(|surface| surface.bytes).sum()
    }

    /// One surface by name.
    #[must_use]
    pub fn surface(&self, name: &str) -> &Surface {
        self.surfaces.iter().find(|surface| surface.surface == name).unwrap()
    }
}

/// Lets an attacker of this account look for needles in processes.
#[must_use]
pub fn look(attacker: Account, processes: &[u32], needles: &[&str]) -> Vec<Look> {
    run(attacker, &[], processes, needles)
}

/// The same, and makes each process dump core, which ends it.
#[must_use]
pub fn look_and_abort(attacker: Account, processes: &[u32], needles: &[&str]) -> Vec<Look> {
    run(attacker, &["--core"], processes, needles)
}

fn run(attacker: Account, options: &[&str], processes: &[u32], needles: &[&str]) -> Vec<Look> {
    let mut command = attacker.command(&ours("blindferry-attacker"));
    command.args(options).args(processes.iter().map(ToString::to_string));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(needles.join("\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An attacker who was there before the launch and looks without a pause, until the process ends.
#[derive(Debug)]
pub struct Racer {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Racer {
    /// Starts it; it is looking when this returns.
    #[must_use]
    pub fn start(attacker: Account, process: u32, needles: &[&str]) -> Self {
        Self::with(attacker, &["--race"], &[process], needles)
    }

    /// The same, of these processes and of all that they start, until the first of them ends.
    #[must_use]
    pub fn of_trees(attacker: Account, processes: &[u32], needles: &[&str]) -> Self {
        Self::with(attacker, &["--race", "--tree"], processes, needles)
    }

    fn with(attacker: Account, options: &[&str], processes: &[u32], needles: &[&str]) -> Self {
        let mut command = attacker.command(&ours("blindferry-attacker"));
        command.args(options).args(processes.iter().map(ToString::to_string));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(needles.join("\n").as_bytes()).unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { child, output }
    }

    /// What it saw, once the process has ended.
    #[must_use]
    pub fn saw(mut self) -> Look {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        self.child.wait().unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

/// What a line of the attacker's input stands for: `hex:` and digits for bytes that are no text, else itself.
#[must_use]
pub fn needle(line: &str) -> Vec<u8> {
    line.strip_prefix("hex:").map_or_else(|| line.as_bytes().to_vec(), |digits| hex::decode(digits).unwrap())
}

/// The forms in which somebody might have left a secret behind: as it is, in hexadecimal, in base64 of both alphabets at
/// each alignment.
#[must_use]
pub fn forms(needle: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    let mut forms = vec![("raw", needle.to_vec()), ("hex", hex::encode(needle).into_bytes())];
    for skip in 0..3 {
        // Whole groups of three bytes: what is before and after the secret does not change them.
        let inner = needle.get(skip..).unwrap_or_default();
        let whole = inner.get(..inner.len() / 3 * 3).unwrap_or_default();
        if whole.len() >= SHORTEST {
            let (plain, for_urls) = (STANDARD_NO_PAD.encode(whole), URL_SAFE_NO_PAD.encode(whole));
            forms.extend((plain != for_urls).then(|| ("base64url", for_urls.into_bytes())));
            forms.push(("base64", plain.into_bytes()));
        }
    }
    forms
}

/// Where in these bytes which needle is, in which form.
#[must_use]
pub fn search(bytes: &[u8], needles: &[Vec<(&'static str, Vec<u8>)>], at: &str) -> Vec<Found> {
    let found = needles.iter().enumerate().flat_map(|(needle, forms)| {
        forms.iter().filter(|(_, form)| memchr::memmem::find(bytes, form).is_some()).map(move |(name, _)| Found {
            needle,
            form: (*name).to_owned(),
            at: at.to_owned(),
        })
    });
    found.collect()
}

/// Shorter pieces are found by chance.
const SHORTEST: usize = 9;
