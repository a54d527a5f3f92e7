//! Is a crossing one trace at the collector, by nobody's choice but ours, and does nobody wait for it?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_handle::memfd::Handle;
use blindferry_proto::audit::Event;
use blindferry_proto::credential::Kind;
use blindferry_proto::operator::Approvee;
use blindferry_tests::account::USER;
use blindferry_tests::collector::{Answers, Collector, Span, text};
use blindferry_tests::fleet::{Fleet, HOST, Plan, http_get};
use blindferry_tests::operator::settings;
use blindferry_tests::process::{Running, eventually};
use blindferry_tests::program::ours;
use blindferry_tests::tpm::{PCRS, adjacent_ports};
use blindferry_tests::worker::{GRANT_FD, ScriptedWorker, ask_for};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;

const RELEASED: &str = "sk-live-traced-0b7e41d95c23f68a17d4";

#[test]
fn a_crossing_is_one_trace_with_the_steps_that_the_metrics_have() {
    let collector = Collector::start(Answers::Ok);
    let Some((fleet, _)) = traced(&collector) else { return };
    assert_eq!(given(&fleet, ask_for(&fleet, "released").unwrap()), RELEASED);
    assert!(ask_for(&fleet, "unheard-of").is_err());

    let trace = hex::encode(grant(&fleet));
    let steps = |spans: &[Span]| -> BTreeSet<(String, String)> {
        let of_trace = spans.iter().filter(|one| one.span.trace_id == trace);
        of_trace.map(|one| (one.service.clone(), one.span.name.clone())).collect()
    };
    let expected = [
        ("blindferryd", ["ask", "delivered", "redeem", "acknowledge", "end"].as_slice()),
        ("blindferry-vault", &["ask", "redeem", "broker", "mint", "audit", "store-read"]),
    ];
    let all = expected.iter().flat_map(|(service, names)| names.iter().map(|name| (*service, *name)));
    let all: BTreeSet<(String, String)> = all.map(|(one, other)| (one.to_owned(), other.to_owned())).collect();
    let spans = eventually("the whole trace", || {
        let spans = collector.spans();
        let refused = spans.iter().any(|one| one.span.status.is_some());
        (refused && steps(&spans).is_superset(&all)).then_some(spans)
    });
    assert_eq!(steps(&spans), all);

    // One tree, whose root is the broker's ask.
    let of_trace: Vec<&Span> = spans.iter().filter(|one| one.span.trace_id == trace).collect();
    let ids: BTreeSet<&str> = of_trace.iter().map(|one| one.span.span_id.as_str()).collect();
    assert_eq!(ids.len(), of_trace.len(), "no two are called the same");
    let (roots, parts): (Vec<&Span>, Vec<&Span>) = of_trace.iter().partition(|one| one.span.parent_span_id.is_none());
    assert_eq!(roots.iter().map(|one| one.span.name.as_str()).collect::<Vec<_>>(), ["ask"]);
    assert!(parts.iter().all(|one| ids.contains(one.span.parent_span_id.as_deref().unwrap())), "{parts:?}");
    let one = |service: &str, name: &str| -> &Span {
        of_trace.iter().find(|one| one.service == service && one.span.name == name).unwrap()
    };
    for name in ["ask", "redeem"] {
        let (asked, answered) = (one("blindferryd", name), one("blindferry-vault", name));
        assert_eq!(answered.span.parent_span_id.as_ref(), Some(&asked.span.span_id), "{name}");
        assert!(answered.took() <= asked.took() && asked.took() > 0, "{name}");
        assert_eq!((asked.span.kind, answered.span.kind), (3, 2));
    }
    let mint = one("blindferry-vault", "mint");
    assert_eq!(mint.span.parent_span_id.as_ref(), Some(&one("blindferry-vault", "redeem").span.span_id));
    assert_eq!(text(&roots[0].span.attributes, "blindferry.credential").as_deref(), Some("released"));

    // What was refused is a trace of its own.
    let refused: Vec<&Span> = spans.iter().filter(|one| one.span.status.is_some()).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    let status = refused[0].span.status.clone().unwrap();
    assert_eq!((status.code, status.message.as_str()), (2, "unknown"));
    assert_ne!(refused[0].span.trace_id, trace);
    take(&fleet, &collector);
}

#[test]
fn a_worker_cannot_choose_a_trace_or_a_span() {
    let collector = Collector::start(Answers::Ok);
    let Some((fleet, _)) = traced(&collector) else { return };
    let genuine = ask_for(&fleet, "released").unwrap();
    // Almost that grant: whatever is taken from its bytes would lead to its trace.
    let mut bytes = vec![0; 65536];
    let length = fs::File::from(genuine.try_clone().unwrap()).read_at(&mut bytes, 0).unwrap();
    bytes.truncate(length);
    *bytes.last_mut().unwrap() ^= 1;
    let forged = Handle::seal("blindferry-grant", &bytes).unwrap();
    assert_eq!(given(&fleet, forged.into_fd()), "");
    assert_eq!(given(&fleet, genuine), RELEASED);

    let trace = hex::encode(grant(&fleet));
    let redemptions = eventually("both redemptions", || {
        let spans = collector.spans().into_iter();
        let both: Vec<Span> = spans.filter(|one| one.service == "blindferryd" && one.span.name == "redeem").collect();
        (both.len() == 2).then_some(both)
    });
    let (within, without): (Vec<Span>, Vec<Span>) = redemptions.into_iter().partition(|one| one.span.trace_id == trace);
    assert!(matches!(within.as_slice(), [one] if one.span.status.is_none()), "{within:?}");
    let [stray] = without.as_slice() else { panic!("{without:?}") };
    assert_eq!(stray.span.status.as_ref().map(|status| status.message.as_str()), Some("grant-foreign"));
    assert_eq!(stray.span.parent_span_id, None);
    // Neither the grant's bytes nor what a worker sends beside them are anywhere in what was told.
    let told = collector.bodies().concat();
    let pieces: Vec<String> = bytes[..length - 1].chunks(8).map(hex::encode).collect();
    assert!(pieces.len() > 20 && !pieces.iter().any(|piece| told.contains(piece)));
    assert!(told.contains(&trace[..16]), "what is told would be found");
}

#[test]
fn nobody_waits_for_a_collector_that_does_not_answer() {
    let collector = Collector::start(Answers::Never);
    let Some((fleet, broker)) = traced(&collector) else { return };
    assert_eq!(given(&fleet, ask_for(&fleet, "released").unwrap()), RELEASED);
    eventually("a request that hangs", || (collector.bodies().len() >= 2).then_some(()));
    // While both requests hang.
    assert_eq!(given(&fleet, ask_for(&fleet, "released").unwrap()), RELEASED);
    for (address, family) in [(fleet.enclave.public, "front"), (broker, "broker")] {
        let dropped = format!("blindferry_{family}_spans_total{{kind=\"dropped\"}} ");
        eventually("spans to be dropped", || {
            let (_, metrics) = http_get(address, "/metrics")?;
            let count = metrics.lines().find_map(|line| line.strip_prefix(&dropped)?.parse::<u64>().ok())?;
            (count > 0).then_some(())
        });
    }
    for log in [fleet.enclave.log(), fleet.host.log()] {
        assert!(log.contains("[traces-not-taken]"), "{log}");
    }
}

/// A fleet whose enclave and broker tell this collector, and where the broker serves its metrics.
fn traced(collector: &Collector) -> Option<(Fleet, SocketAddr)> {
    let plan = Plan::default();
    let mut fleet = Fleet::set_up(&plan)?;
    fleet.init(&plan);
    let broker = SocketAddr::from((Ipv4Addr::LOCALHOST, adjacent_ports()));
    fleet.enclave.configure_with(&plan, &collector.configured());
    fleet.host.configure_with(HOST, &PCRS, &format!("public = \"{broker}\"\n{}", collector.configured()));
    fleet.enclave.serve();
    fleet.operator().approve(HOST, Approvee::Ek(fleet.host.tpm.ek()));
    fleet.host.serve();
    fleet.operator().put("released", settings(Kind::Release), RELEASED.as_bytes());
    Some((fleet, broker))
}

/// The first grant that the audit knows.
fn grant(fleet: &Fleet) -> [u8; 16] {
    let granted = |event| if let Event::Granted { grant, .. } = event { Some(grant.0) } else { None };
    fleet.operator().events().into_iter().find_map(granted).unwrap()
}

/// What the launcher gave to `cat`; nothing where it was refused.
fn given(fleet: &Fleet, grant: OwnedFd) -> String {
    let mut command = USER.command(&ours("blindferry-launch"));
    command.args(["--grant-fd", &GRANT_FD.to_string(), "--credential-name", "released", "--deliver", "stdin"]);
    command.arg("--workers").arg(fleet.host.workers()).args(["--", "cat"]);
    let mut worker = ScriptedWorker::run(fleet, command, grant);
    let line = worker.line();
    worker.finish();
    line
}

/// Gives what was sent to a real collector, where there is one, and has it say which spans it found.
fn take(fleet: &Fleet, collector: &Collector) {
    let Some(rotel) = rotel(fleet) else { return };
    let port = adjacent_ports();
    let [http, grpc] = [port, port + 1].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let mut command = USER.command(&rotel);
    command.args(["start", "--exporter", "blackhole", "--debug-log", "traces", "--debug-log-verbosity", "detailed"]);
    command.args(["--otlp-http-endpoint", &http.to_string(), "--otlp-grpc-endpoint", &grpc.to_string()]);
    let printed = fleet.directory().join("rotel.out");
    command.stdout(fs::File::create(&printed).unwrap());
    let mut real = Running::start(command, &fleet.directory().join("rotel.log"));
    eventually("the real collector", || TcpStream::connect(http).ok().map(drop));
    for body in collector.bodies() {
        let answer = post(http, &body);
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"partialSuccess\":null"), "{answer}");
    }
    assert!(
        !post(http, "{\"resourceSpans\":[{\"scopeSpans\":7}]}").starts_with("HTTP/1.1 200 "),
        "it reads what it takes"
    );
    let spans = collector.spans();
    assert!(spans.len() > 10);
    eventually("what it found", || {
        let said = fs::read_to_string(&printed).unwrap();
        let shown = |one: &&Span| {
            let ids = [&one.span.trace_id, one.span.parent_span_id.as_ref()?, &one.span.span_id, &one.span.name];
            ids.iter().all(|text| said.contains(&format!(": {text}\n"))).then_some(())
        };
        spans.iter().filter(|one| one.span.parent_span_id.is_some()).all(|one| shown(&one).is_some()).then_some(())
    });
    real.stop();
}

/// Rotel, a collector that is to be had as a Python package: copied to where its user may execute it.
fn rotel(fleet: &Fleet) -> Option<PathBuf> {
    let Some(path) = std::env::var_os("BLINDFERRY_ROTEL").filter(|path| !path.is_empty()) else {
        println!("skipped: a real collector, since BLINDFERRY_ROTEL names none");
        return None;
    };
    let copy = fleet.directory().join("rotel-agent");
    fs::copy(path, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    Some(copy)
}

fn post(to: SocketAddr, body: &str) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    let head = "POST /v1/traces HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n";
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
