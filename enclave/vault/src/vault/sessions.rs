//! What the vault knows of hosts and sessions, kept and looked up.

use super::{Connected, NewSession, OUTGOING, SESSIONS, SessionEntry, Vault, lock};
use crate::host::Pin;
use crate::session::Over;
use blindferry_attest::attested::Attested;
use blindferry_attest::reference::ReferenceValues;
use blindferry_attest::tpm::QuoteClock;
use blindferry_proto::bounded::Text;
use blindferry_proto::identifier::{Machine, SessionId};
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::name::HostName;
use blindferry_proto::operator::SessionReport;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::Role;
use std::sync::{Arc, Mutex, OnceLock};
use tokio::sync::{Notify, mpsc};

impl Vault {
    pub(crate) fn reference(&self, role: Role) -> Option<Arc<ReferenceValues>> {
        lock(&self.documents).references.get(&role).map(|(_, reference)| Arc::clone(reference))
    }

    /// The logs to ask a peer of this role for.
    pub(crate) fn wanted_logs(&self, role: Role) -> WantedLogs {
        self.reference(role).map_or(WantedLogs::NONE, |reference| reference.wanted_logs())
    }

    pub(crate) fn endorsement_roots(&self) -> Vec<Vec<u8>> {
        lock(&self.documents).endorsement_roots.clone()
    }

    pub(crate) fn clock_of(&self, host: &HostName) -> Option<QuoteClock> {
        lock(&self.knocks).clock(host).copied()
    }

    pub(crate) fn keep_clock(&self, host: &HostName, attested: &Attested) {
        lock(&self.knocks).keep_clock(host.clone(), attested);
    }

    pub(crate) fn knocked(&self, host: HostName, machine: Machine, role: Role) {
        lock(&self.knocks).remember(host, machine, role, self.clock.now());
    }

    /// A session for a peer that was judged. A broker's new session takes the place of its old one.
    pub(crate) fn new_session(&self, host: HostName, role: Role, pin: Pin) -> Result<NewSession, Refusal> {
        let id = SessionId(self.draw()?);
        let (end, ended) = mpsc::channel(1);
        let (outgoing, queue) = mpsc::channel(OUTGOING);
        let suspicion = Arc::new(Notify::new());
        let mut sessions = lock(&self.sessions);
        if role == Role::Broker {
            for older in sessions.values().filter(|older| older.host == host && older.role == role) {
                // One that is ending already needs no second word.
                let _ending = older.end.try_send(Over::because("replaced"));
            }
        }
        if sessions.len() >= SESSIONS {
            return Err(RefusalCode::Busy.into());
        }
        let suspicious = Arc::clone(&suspicion);
        let believed = Arc::new(Mutex::new(None));
        let since = self.clock.now();
        let connected = Connected {
            host: host.clone(),
            role,
            since,
            hardware: Text::cut(&pin.to_string()),
            believed: Arc::clone(&believed),
            end,
            outgoing: outgoing.clone(),
            suspicion: suspicious,
        };
        sessions.insert(id, connected);
        self.figures.set("sessions", sessions.len());
        let entry = SessionEntry {
            id,
            host,
            role,
            pin,
            report_id: OnceLock::new(),
            since,
            outgoing,
            believed,
            suspicion,
            clock: self.clock,
        };
        Ok(NewSession { entry, ended, queue })
    }

    pub(crate) fn forget_session(&self, entry: &SessionEntry) {
        let mut sessions = lock(&self.sessions);
        sessions.remove(&entry.id);
        self.figures.set("sessions", sessions.len());
    }

    /// Ends the sessions of a host, and says how.
    pub(crate) fn end_sessions(&self, host: &HostName, over: &Over) {
        for session in lock(&self.sessions).values().filter(|session| session.host == *host) {
            let _ending = session.end.try_send(over.clone());
        }
    }

    /// Asks every peer of this role for fresh evidence at once: what it is judged by has changed.
    pub(crate) fn suspect(&self, role: Role) {
        for session in lock(&self.sessions).values().filter(|session| session.role == role) {
            session.suspicion.notify_one();
        }
    }

    /// The sessions whose peers were judged, for operators to look at.
    pub(crate) fn session_reports(&self) -> Vec<SessionReport> {
        let sessions = lock(&self.sessions);
        let report = |(id, session): (&SessionId, &Connected)| {
            let peer = lock(&session.believed).as_ref()?.described(&session.host, session.hardware.clone());
            Some(SessionReport { session: *id, role: session.role, since: session.since, peer })
        };
        sessions.iter().filter_map(report).collect()
    }

    /// Whether a session has not ended.
    pub(crate) fn stands(&self, session: SessionId) -> bool {
        lock(&self.sessions).contains_key(&session)
    }

    pub(crate) fn is_connected(&self, host: &HostName) -> bool {
        lock(&self.sessions).values().any(|session| session.host == *host)
    }
}
