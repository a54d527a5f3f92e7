//! What every actor knows: where the fleet's doors are, when it is over, and the book.

use crate::book::Book;
use crate::dice::Dice;
use blindferry_proto::role::Role;
use blindferry_tests::account::USER;
use blindferry_tests::command::blindferry;
use blindferry_tests::fleet::{Fleet, OPERATOR};
use blindferry_tests::operator::Operator;
use blindferry_tests::peer::Peer;
use blindferry_tests::program::ours;
use blindferry_tests::tpm::Tpm;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

/// Shared by all threads.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) book: Book,
    pub(crate) parents: PathBuf,
    pub(crate) workers: PathBuf,
    pub(crate) user_directory: PathBuf,
    pub(crate) listen: SocketAddr,
    reference: String,
    over: AtomicBool,
    /// What every pause is multiplied with.
    pace: f64,
}

impl Ground {
    pub(crate) fn of(fleet: &Fleet, pace: f64) -> Self {
        // For the configuration that it writes.
        let _command = blindferry(fleet);
        Self {
            book: Book::default(),
            parents: fleet.host.parents(),
            workers: fleet.host.workers(),
            user_directory: fleet.user_directory(),
            listen: fleet.enclave.listen,
            reference: fleet.enclave.reference.clone(),
            over: AtomicBool::new(false),
            pace,
        }
    }

    /// `blindferry` of a person on the worker host.
    pub(crate) fn blindferry(&self) -> Command {
        let mut command = USER.command(&ours("blindferry"));
        command.arg("--config").arg(self.user_directory.join("operator.toml")).current_dir(&self.user_directory);
        command.env("BLINDFERRY_PARENTS", &self.parents).env("BLINDFERRY_WORKERS", &self.workers);
        command
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.user_directory.join("user.log")
    }

    /// A session of the operator's; `None` while there is no vault.
    pub(crate) fn operator(&self, tpm: &Tpm) -> Option<Operator> {
        match Peer::connect(tpm, Role::Operator, OPERATOR, &self.reference, self.listen) {
            Ok(peer) => Some(Operator(peer)),
            Err(error) => {
                self.book.refused(&format!("operator: {error}"));
                None
            }
        }
    }

    /// Waits a while, and says whether it goes on.
    pub(crate) fn goes_on(&self, dice: &mut Dice, about: Duration) -> bool {
        let mut left = dice.time(about / 2, about * 3 / 2).mul_f64(self.pace);
        while !left.is_zero() && !self.is_over() {
            let step = left.min(Duration::from_millis(100));
            sleep(step);
            left -= step;
        }
        !self.is_over()
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}
