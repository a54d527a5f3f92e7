//! Every metric that there is. What is not here is not served, and `docs/operating.md` has the same list.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process runs.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in seconds, in the buckets of [`crate::figures::BOUNDS`].
    Histogram,
}

/// One family.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, without the `blindferry_` in front.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Whether it has the one label that there is, `kind`; its values are fixed words of the code.
    pub labelled: bool,
    /// What it says, in a line.
    pub help: &'static str,
}

const fn of(kind: Kind, name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind, labelled: false, help }
}

const fn by_kind(kind: Kind, name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind, labelled: true, help }
}

use Kind::{Counter, Gauge, Histogram};

/// What the front serves: the vault's figures and its own.
pub const ENCLAVE: &[Metric] = &[
    of(Gauge, "ready", "1 while the vault is unsealed, answers, and was not told to stop."),
    of(Counter, "alarms_total", "Things that never happen in an honest fleet."),
    of(Counter, "audit_failures_total", "Audit records that could not be written; each refused something."),
    of(Gauge, "audit_records", "Number of the newest audit record."),
    by_kind(Counter, "handshakes_refused_total", "Connections that got no session, by code."),
    by_kind(Counter, "refusals_total", "Requests of sessions that were refused, by code."),
    of(Gauge, "asks_waiting", "Asks that wait for a person."),
    by_kind(Counter, "asks_total", "Asks that waited for a person, by what became of them."),
    by_kind(Counter, "mint_failures_total", "Tokens that were not minted, by code."),
    by_kind(Counter, "revocation_failures_total", "Tokens that live on after their lease, by code."),
    of(Counter, "connections_total", "Connections that reached the vault."),
    of(Counter, "grants_total", "Grants made."),
    of(Counter, "redemptions_total", "Grants redeemed."),
    of(Counter, "renewals_total", "Leases renewed."),
    of(Counter, "reattestations_total", "Fresh evidence that was accepted in the course of a session."),
    of(Gauge, "sessions", "Sessions that stand."),
    of(Gauge, "leases", "Leases that live."),
    of(Gauge, "ledger_entries", "Grants redeemed or being redeemed that are still remembered."),
    of(Gauge, "dangers", "What the reference values in force accept in words that start with dangerously."),
    of(Gauge, "tpm_waiting", "Requests to the device process that are under way or wait."),
    by_kind(Histogram, "step_seconds", "Time of each step in the vault."),
    by_kind(Gauge, "resident_bytes", "Resident memory of each process of the enclave."),
    of(Gauge, "front_vault_answers", "1 while the vault answers the front within its bound."),
    of(Counter, "front_accepted_total", "Connections given to the vault."),
    by_kind(Counter, "front_refused_total", "Connections refused, by reason."),
    by_kind(Counter, "front_dials_total", "Connections to upstreams, by outcome."),
    of(Counter, "front_store_commits_total", "Transactions of the vault that were committed."),
    of(Counter, "front_store_groups_total", "Transactions of the database; one holds all that waited."),
    of(Counter, "front_store_failures_total", "Requests that the store could not answer."),
    of(Gauge, "front_store_bytes", "Length of the store's file."),
    by_kind(Histogram, "front_step_seconds", "Time of each step in the front."),
    by_kind(Counter, "front_spans_total", "Spans for the collector, by what became of them."),
];

/// What the broker serves.
pub const BROKER: &[Metric] = &[
    of(Gauge, "broker_session", "1 while the session with the vault stands."),
    of(Counter, "broker_sessions_total", "Sessions that came to stand."),
    by_kind(Counter, "broker_dials_failed_total", "Attempts at a session that failed, by reason."),
    by_kind(Counter, "broker_refusals_total", "Requests of this host that were refused, by code."),
    of(Gauge, "broker_leases", "Leases whose processes are watched."),
    by_kind(Gauge, "broker_connections", "Connections of parents and of workers."),
    by_kind(Counter, "broker_connections_refused_total", "Connections beyond the limits, of parents and of workers."),
    of(Gauge, "broker_calls_waiting", "Requests whose answer from the vault is awaited."),
    of(Gauge, "broker_tpm_waiting", "Requests to the device process that are under way or wait."),
    by_kind(Histogram, "broker_step_seconds", "Time of each step in the broker."),
    by_kind(Counter, "broker_spans_total", "Spans for the collector, by what became of them."),
    by_kind(Gauge, "broker_resident_bytes", "Resident memory of the broker and of its device process."),
];
