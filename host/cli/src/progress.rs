//! A sign of life on a terminal when something takes longer than a second; a TPM does.

use indicatif::{ProgressBar, ProgressDrawTarget};
use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Something is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Says `what` on standard error after a second, if that is a terminal and progress is `wanted`.
    pub(crate) fn of(what: &'static str, wanted: bool) -> Self {
        if !wanted || !io::stderr().is_terminal() {
            return Self { shown: None };
        }
        let (done, until) = channel();
        let thread = thread::Builder::new().name("progress".to_owned()).spawn(move || show(what, &until));
        Self { shown: thread.ok().map(|thread| (done, thread)) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((done, thread)) = self.shown.take() {
            drop(done);
            // The line is gone from the terminal before anything else is written there.
            let _ended = thread.join();
        }
    }
}

fn show(what: &'static str, until: &Receiver<()>) {
    if until.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
        return;
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(120));
    let _ended = until.recv();
    bar.finish_and_clear();
}

/// What is over sooner needs no sign of life.
const PATIENCE: Duration = Duration::from_secs(1);
