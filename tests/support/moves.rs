//! Moves of an attacker by calls that no shell has: `moves.c`, built when it is needed, and what it got.

use crate::account::Account;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// The program of moves and the library that a parent has its programs load, in a directory that everybody may read.
#[derive(Debug)]
pub struct Moves {
    program: PathBuf,
    library: PathBuf,
    loot: PathBuf,
}

impl Moves {
    /// Builds them; the library leaves what it gets in a file in `loot`, which the attacker may write.
    #[must_use]
    pub fn build(directory: &Path, loot: &Path) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("support/moves.c");
        let moves =
            Self { program: directory.join("moves"), library: directory.join("moves.so"), loot: loot.join("loot") };
        let compile = |options: &[&str], to: &Path| {
            let status = Command::new("cc").arg("-O1").args(options).arg("-o").arg(to).arg(&source).status();
            assert!(status.unwrap().success());
        };
        compile(&[], &moves.program);
        let place = format!("-DLOOT=\"{}\"", moves.loot.display());
        compile(&["-DPRELOAD", "-shared", "-fPIC", &place], &moves.library);
        moves
    }

    /// What one move gets from a process; nothing at all where the kernel has no such call.
    #[must_use]
    pub fn get(&self, attacker: Account, one: Move, process: u32) -> Option<Vec<u8>> {
        let output = attacker.command(&self.program).arg(one.word()).arg(process.to_string()).output().unwrap();
        match output.status.code() {
            Some(0) => Some(output.stdout),
            Some(3) => None,
            _ => panic!("{one:?}: {output:?}"),
        }
    }

    /// Opens what there is of a process now, to look through it later.
    #[must_use]
    pub fn keep(&self, attacker: Account, process: u32) -> Kept {
        let mut command = attacker.command(&self.program);
        command.arg("keep").arg(process.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Kept { child, output }
    }

    /// The library, for LD_PRELOAD.
    #[must_use]
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// What the library got since it was asked last.
    #[must_use]
    pub fn loot(&self) -> Vec<u8> {
        let loot = fs::read(&self.loot).unwrap_or_default();
        let _gone = fs::remove_file(&self.loot);
        loot
    }
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub enum Move {
    /// process_vm_readv(2).
    ReadsItsMemory,
    /// Opens `/proc/PID/environ` by io_uring.
    ByRing,
}

impl Move {
    fn word(self) -> &'static str {
        match self {
            Self::ReadsItsMemory => "vm",
            Self::ByRing => "uring",
        }
    }
}

/// Handles of a process as it was when they were opened.
#[derive(Debug)]
pub struct Kept {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Kept {
    /// What they are good for now.
    #[must_use]
    pub fn look(mut self) -> Vec<u8> {
        self.child.stdin.take().unwrap().write_all(b"g").unwrap();
        let mut got = Vec::new();
        self.output.read_to_end(&mut got).unwrap();
        assert!(self.child.wait().unwrap().success());
        got
    }
}
