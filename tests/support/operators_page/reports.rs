//! What a vault may report to the operators' page: nothing, much, and what is meant to do harm.

use blindferry_proto::bounded::Text;
use blindferry_proto::identifier::{AuditKey, ReplicaId};
use blindferry_proto::operator::Standing;
use blindferry_proto::report::{
    ChainState, Gravity, MINUTES, Minute, Report, ReportedHost, ReportedLease, ReportedRecord, ReportedSession, Verdict,
};
use blindferry_proto::role::Role;

/// Runs where it is taken for HTML.
pub const HOSTILE: &str = "<img src=x onerror=\"document.title='ran'\">";

/// A report of a vault to which nothing has happened.
#[must_use]
pub fn quiet() -> Report {
    Report {
        at: 1_800_000_000,
        until: 1_800_020_000,
        replica: ReplicaId([1; 8]),
        version: Text::cut("0.1.0"),
        uptime: 3_700,
        platform: Text::cut("TPM 2.0"),
        memory: Text::cut("memfd_secret"),
        policy_version: 3,
        reference_version: 2,
        sessions: 0,
        leases_in_all: 0,
        asks_waiting: 0,
        warnings: Vec::new(),
        hosts: Vec::new(),
        more_hosts: false,
        reattest_every: 300,
        attested: Vec::new(),
        leases: Vec::new(),
        minutes: vec![Minute::default(); MINUTES],
        refusals: Vec::new(),
        records: Vec::new(),
        chain: ChainState::Empty,
        audit_key: AuditKey([2; 32]),
    }
}

/// A report that says [`HOSTILE`] wherever it can say something.
#[must_use]
pub fn hostile() -> Report {
    let record = ReportedRecord {
        number: 0,
        at: 1_800_000_000_000,
        gravity: Gravity::Refusal,
        event: Text::cut("denied"),
        host: None,
        subject: Text::cut(HOSTILE),
        detail: Text::cut(HOSTILE),
    };
    Report {
        platform: Text::cut(HOSTILE),
        memory: Text::cut(HOSTILE),
        warnings: vec![Text::cut(HOSTILE)],
        refusals: vec![(Text::cut(HOSTILE), 1)],
        records: vec![record],
        chain: ChainState::Broken { why: Text::cut(HOSTILE) },
        ..quiet()
    }
}

/// A report of a vault that has much to do.
#[must_use]
pub fn busy() -> Report {
    let now = quiet().at;
    let host = |number: u64, standing, refused: Option<&str>| ReportedHost {
        name: format!("worker-{number}.eu-central.fleet.example").parse().unwrap(),
        role: if number == 3 { Role::Operator } else { Role::Broker },
        standing,
        since: now - number * 7_000,
        verdict: (standing != Standing::Allowed)
            .then(|| Verdict { at: now - number * 13, refused: refused.map(Text::cut) }),
    };
    let lease = |number: u64| ReportedLease {
        credential: format!("stripe-payments-{number}").parse().unwrap(),
        host: host(number, Standing::Connected, None).name,
        uid: 1000 + u32::try_from(number).unwrap(),
        since: now - number * 90,
        ends: now + number * 40,
    };
    let session = |number: u64| {
        let ReportedHost { name, role, since, .. } = host(number, Standing::Connected, None);
        ReportedSession { name, role, reference: Text::cut("debian-12-edge"), since, attested: now - 310 + number }
    };
    let record = |number: u64, gravity, event: &str, subject: &str, detail: &str| ReportedRecord {
        number,
        at: (now - (4_711 - number) * 3) * 1000,
        gravity,
        event: Text::cut(event),
        host: Some(host(17, Standing::Connected, None).name),
        subject: Text::cut(subject),
        detail: Text::cut(detail),
    };
    let minute = |place: usize| {
        let place = u32::try_from(place).unwrap();
        Minute {
            granted: 20 + (place * 7) % 23,
            redeemed: 18,
            refused: if place % 9 == 4 { place % 13 } else { 0 },
            alarms: 0,
        }
    };
    let mut minutes: Vec<Minute> = (0..60).map(minute).collect();
    minutes.last_mut().unwrap().alarms = 1;
    Report {
        sessions: 17,
        leases_in_all: 212,
        asks_waiting: 2,
        warnings: vec![Text::cut("the platform is a software TPM: its keys are worth what guards its files")],
        hosts: vec![
            host(21, Standing::Waiting, Some("host-pending")),
            host(3, Standing::Connected, None),
            host(17, Standing::Connected, None),
            host(18, Standing::Enrolled, Some("pcr-mismatch")),
            host(19, Standing::Allowed, None),
        ],
        more_hosts: true,
        attested: [3, 17].map(session).into(),
        leases: (1..5).map(lease).collect(),
        minutes,
        refusals: vec![(Text::cut("denied"), 31), (Text::cut("pcr-mismatch"), 4), (Text::cut("grant-expired"), 1)],
        records: vec![
            record(
                4_711,
                Gravity::Alarm,
                "alarm",
                "grant 5d0c6f1c2d3e4f505162738495a6b7c8",
                "came a second time, with another key, from uid 1003",
            ),
            record(4_710, Gravity::Plain, "acknowledged", "lease 90ab6f1c2d3e4f505162738495a6b7c8", ""),
            record(
                4_709,
                Gravity::Plain,
                "redeemed",
                "stripe-payments-1",
                "by uid 1001, lease 90ab6f1c2d3e4f505162738495a6b7c8",
            ),
            record(4_708, Gravity::Plain, "granted", "stripe-payments-1", "to uid 1001"),
            record(
                4_707,
                Gravity::Refusal,
                "denied",
                "deploy-signing-key",
                "denied: no policy permits it; forbidden by \"only-in-the-build-group\"",
            ),
            record(4_706, Gravity::Plain, "reattested", "", ""),
        ],
        chain: ChainState::Verified { from: 4_612, to: 4_711 },
        ..quiet()
    }
}
