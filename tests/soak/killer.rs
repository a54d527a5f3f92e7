//! Kills every process, and has each started again as a supervisor would.

use crate::dice::Dice;
use crate::gauge::Gauge;
use blindferry_tests::fleet::{Enclave, Host};
use blindferry_tests::oauth::{OauthServer, Standing};
use blindferry_tests::process::{eventually, lives, send};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What happens to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stroke {
    Vault,
    Front,
    DeviceOfEnclave,
    /// In good order, as by an upgrade.
    EnclaveStopped,
    Broker,
    DeviceOfHost,
    BrokerStopped,
    /// Held for a moment: what it does not read waits.
    VaultHeld,
    FrontHeld,
    BrokerHeld,
}

const ALL: [Stroke; 10] = [
    Stroke::Vault,
    Stroke::Front,
    Stroke::DeviceOfEnclave,
    Stroke::EnclaveStopped,
    Stroke::Broker,
    Stroke::DeviceOfHost,
    Stroke::BrokerStopped,
    Stroke::VaultHeld,
    Stroke::FrontHeld,
    Stroke::BrokerHeld,
];

/// The processes that may be killed, and what was lost with them.
pub(crate) struct Killer<'a> {
    pub(crate) enclave: &'a mut Enclave,
    pub(crate) host: &'a mut Host,
    pub(crate) server: &'a OauthServer,
    pub(crate) gauge: &'a Gauge,
    /// Tokens that nobody revokes, since the vault that knew them is gone.
    pub(crate) orphaned: BTreeSet<String>,
    strokes: BTreeMap<Stroke, u32>,
}

impl<'a> Killer<'a> {
    pub(crate) fn new(enclave: &'a mut Enclave, host: &'a mut Host, server: &'a OauthServer, gauge: &'a Gauge) -> Self {
        let killer = Self { enclave, host, server, gauge, orphaned: BTreeSet::new(), strokes: BTreeMap::new() };
        killer.tell();
        killer
    }

    /// Until then, with pauses up to so long.
    pub(crate) fn kill_until(&mut self, until: Instant, pause: Duration, mut dice: Dice) {
        while Instant::now() < until {
            sleep(dice.time(pause / 10, pause).min(until.saturating_duration_since(Instant::now())));
            let stroke = dice.one_of(&ALL);
            self.strike(stroke, &mut dice);
            *self.strokes.entry(stroke).or_default() += 1;
            self.tell();
        }
        println!("strokes: {:?}", self.strokes);
    }

    fn strike(&mut self, stroke: Stroke, dice: &mut Dice) {
        match stroke {
            Stroke::Vault => {
                send(self.enclave.vault(), Signal::KILL);
                assert!(!self.enclave.wait().success(), "a front without a vault says that something is wrong");
                self.enclave_again();
            }
            Stroke::Front => {
                let vault = self.enclave.vault();
                self.enclave.kill_front();
                eventually("the vault to go with its front", || (!lives(vault)).then_some(()));
                self.enclave_again();
            }
            Stroke::DeviceOfEnclave => {
                send(self.enclave.device(), Signal::KILL);
                if self.enclave.front().ended().is_none() {
                    self.enclave.stop();
                }
                self.enclave_again();
            }
            Stroke::EnclaveStopped => {
                assert!(self.enclave.stop().success(), "an end in good order");
                self.enclave_again();
            }
            Stroke::Broker => {
                self.host.kill();
                self.host.serve();
            }
            Stroke::DeviceOfHost => {
                send(self.host.device(), Signal::KILL);
                assert!(!self.host.broker().wait().success(), "a broker without its device process ends");
                self.host.serve();
            }
            Stroke::BrokerStopped => {
                assert!(self.host.stop().success(), "an end in good order");
                self.host.serve();
            }
            Stroke::VaultHeld => hold(self.enclave.vault(), dice),
            Stroke::FrontHeld => hold(self.enclave.front().id(), dice),
            Stroke::BrokerHeld => hold(self.host.broker().id(), dice),
        }
    }

    fn enclave_again(&mut self) {
        let sessions = self.host.sessions();
        self.enclave.serve();
        let good = self.server.tokens().into_iter().filter(|(_, standing)| *standing == Standing::Good);
        self.orphaned.extend(good.map(|(token, _)| token));
        self.host.wait_for_session_after(sessions);
    }

    /// Who is who now.
    fn tell(&self) {
        self.gauge.look_at(self.enclave, self.host);
    }
}

fn hold(process: u32, dice: &mut Dice) {
    send(process, Signal::STOP);
    sleep(dice.time(Duration::from_millis(50), Duration::from_secs(2)));
    send(process, Signal::CONT);
}
