//! What holds for one run of the command, whichever command it is.

use crate::configuration::{Configuration, default_path};
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;
use blindferry_handle::entry::Entered;
use std::env;
use std::path::{Path, PathBuf};

/// One run of the command.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// Where results go.
    pub(crate) output: Output,
    config: Option<PathBuf>,
    progress: bool,
    executable: Option<PathBuf>,
}

impl Invocation {
    pub(crate) fn new(entered: &Entered, config: Option<PathBuf>, json: bool, progress: bool) -> Self {
        // After a second start the kernel names a descriptor; the entry knows where the file lies.
        let executable = entered.executable().map(Path::to_owned).or_else(|| env::current_exe().ok());
        Self { output: Output::new(json), config, progress, executable }
    }

    /// The configuration of this machine.
    ///
    /// # Errors
    /// [`Failure::Configuration`].
    pub(crate) fn configuration(&self) -> Result<Configuration, Failure> {
        let path = self.config.clone().unwrap_or_else(default_path);
        Configuration::read(&path).map_err(Failure::Configuration)
    }

    /// An executable that is installed beside this one.
    ///
    /// # Errors
    /// [`Failure::NoNeighbour`] when nobody knows where this one lies.
    pub(crate) fn neighbour(&self, name: &'static str) -> Result<PathBuf, Failure> {
        let directory = self.executable.as_deref().and_then(Path::parent);
        directory.map(|directory| directory.join(name)).ok_or(Failure::NoNeighbour { name })
    }

    /// A sign of life while `what` is done; none beside a document.
    pub(crate) fn progress(&self, what: &'static str) -> Progress {
        Progress::of(what, self.progress && !self.output.is_json())
    }
}
