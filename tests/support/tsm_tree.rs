//! A configfs-tsm that is none: an entry whose attributes are named pipes, answered as the kernel would.
//!
//! A plain directory cannot act on what is written to it. A pipe can: who reads it waits until somebody answers, and what
//! was written before lies in its own pipe by then.

use crate::silicon::Silicon;
use blindferry_handle::sev_guest::ExtendedReport;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::io::{Errno, read, write};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

/// The directory of report entries, with one entry that root made for us.
#[derive(Debug)]
pub struct TsmTree {
    root: PathBuf,
    ends: Arc<AtomicBool>,
    meddling: Arc<AtomicU64>,
    kernel: Option<JoinHandle<()>>,
}

impl TsmTree {
    /// Makes the tree under `root`; the chip is the one in the file `silicon`, as it is at each report.
    #[must_use]
    pub fn serve(root: PathBuf, silicon: PathBuf, provider: &'static str) -> Self {
        let entry = root.join("blindferry");
        fs::create_dir_all(&entry).unwrap();
        for attribute in INPUTS.iter().chain(&OUTPUTS) {
            let path = entry.join(attribute);
            mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
        }
        let (ends, meddling) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let inputs = INPUTS.map(|attribute| opened(&entry.join(attribute), OFlags::RDONLY).unwrap());
        let mut kernel = Kernel { entry, silicon, provider, inputs, served: None, state: State::default() };
        let (until, meddled) = (Arc::clone(&ends), Arc::clone(&meddling));
        let kernel = spawn(move || {
            while !until.load(Ordering::Relaxed) {
                kernel.turn(&meddled);
                sleep(Duration::from_millis(1));
            }
        });
        Self { root, ends, meddling, kernel: Some(kernel) }
    }

    /// Where `--tsm` has to point.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Somebody else writes to the entry too, once, between our request and its answer.
    pub fn meddle(&self) {
        self.meddling.store(1, Ordering::Relaxed);
    }
}

impl Drop for TsmTree {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ended = self.kernel.take().map(JoinHandle::join);
    }
}

struct Kernel {
    entry: PathBuf,
    silicon: PathBuf,
    provider: &'static str,
    inputs: [OwnedFd; 2],
    /// The attribute that was answered last, and may still be open.
    served: Option<&'static str>,
    state: State,
}

#[derive(Default)]
struct State {
    made: Option<ExtendedReport>,
    data: Vec<u8>,
    vmpl: u32,
    generation: u64,
}

impl Kernel {
    fn turn(&mut self, meddling: &AtomicU64) {
        for attribute in OUTPUTS {
            let reader = opened(&self.entry.join(attribute), OFlags::WRONLY);
            match reader {
                None if self.served == Some(attribute) => self.served = None,
                None => {}
                Some(reader) if self.served != Some(attribute) => {
                    // Who opens an attribute has closed the one before.
                    self.served = Some(attribute);
                    self.take();
                    if attribute == "outblob" {
                        self.state.generation += meddling.swap(0, Ordering::Relaxed);
                    }
                    let answer = self.answer(attribute);
                    let _written = write(reader, &answer).unwrap();
                }
                Some(_) => {}
            }
        }
    }

    fn take(&mut self) {
        for (attribute, input) in INPUTS.iter().zip(&self.inputs) {
            let mut bytes = [0; 128];
            match read(input, &mut bytes) {
                Ok(0) | Err(Errno::AGAIN) => {}
                Ok(length) if *attribute == "inblob" => {
                    self.state.data = bytes[..length].to_vec();
                    self.state.generation += 1;
                }
                Ok(length) => {
                    self.state.vmpl = std::str::from_utf8(&bytes[..length]).unwrap().trim().parse().unwrap();
                    self.state.generation += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn answer(&mut self, attribute: &str) -> Vec<u8> {
        match attribute {
            "provider" => format!("{}\n", self.provider).into_bytes(),
            "generation" => format!("{}\n", self.state.generation).into_bytes(),
            "outblob" => {
                let data = <&[u8; 64]>::try_from(self.state.data.as_slice()).unwrap();
                let made = Silicon::read(&self.silicon).report(data, self.state.vmpl);
                self.state.made.insert(made).report.clone()
            }
            _ => self.state.made.as_ref().map(|made| made.table.clone()).unwrap_or_default(),
        }
    }
}

/// A pipe, if there is somebody at its other end to whom one can write.
fn opened(path: &Path, access: OFlags) -> Option<OwnedFd> {
    open(path, access | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).ok()
}

const INPUTS: [&str; 2] = ["privlevel", "inblob"];
const OUTPUTS: [&str; 4] = ["provider", "generation", "outblob", "auxblob"];
