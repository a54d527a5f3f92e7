//! Upstreams that hang, lie, redirect, and answer without end, many at once: the vault's own tests show that each is
//! refused; here is what becomes of everybody else.

use crate::ground::{Ground, times};
use blindferry_handle::memfd::Handle;
use blindferry_parent::{Ask, Parent};
use blindferry_proto::audit::Event;
use blindferry_proto::refusal::RefusalCode;
use blindferry_tests::operator::{oauth_client, settings};
use blindferry_tests::process::eventually;
use blindferry_worker::{Worker, WorkerError};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{scope, spawn};
use std::time::Instant;

/// How an upstream answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Hangs,
    Lies,
    Redirects,
    Gigabyte,
    HeadersForever,
    ClosesInTheMiddle,
}

const ALL: [(&str, Manner); 6] = [
    ("hangs", Manner::Hangs),
    ("lies", Manner::Lies),
    ("redirects", Manner::Redirects),
    ("gigabyte", Manner::Gigabyte),
    ("headers", Manner::HeadersForever),
    ("closes", Manner::ClosesInTheMiddle),
];

#[test]
fn upstreams_that_misbehave_many_at_once_cost_no_memory_and_hold_up_nobody() {
    let Some(ground) = Ground::start() else { return };
    let operator = ground.fleet.operator();
    let sent = Arc::new(AtomicU64::new(0));
    for (name, manner) in ALL {
        let address = misbehave(manner, &sent);
        operator.put(name, settings(oauth_client(address)), b"client secret");
    }
    let (others, began) = (ground.others(), Instant::now());
    scope(|scope| {
        let tries = ALL.iter().flat_map(|one| vec![one; usize::try_from(times(3)).unwrap()]);
        let tries: Vec<_> = tries.map(|(name, _)| (name, scope.spawn(|| cross(&ground, name)))).collect();
        for (name, tried) in tries {
            let refused = tried.join().unwrap();
            // Who asks again after an upstream that may have made a token learns that his grant is spent.
            assert!(refused.starts_with("upstream") || refused == "grant-spent", "{name}: {refused}");
        }
    });
    println!(
        "all are refused after {:?}; the upstreams could send {} bytes",
        began.elapsed(),
        sent.load(Ordering::Relaxed)
    );
    others.wait_for(3);
    println!("others crossed {} times meanwhile", others.end_without_a_refusal());
    let events = operator.events();
    for (name, _) in ALL {
        let denied = |event: &Event| match event {
            Event::Denied { credential, code, .. } => credential.as_str() == name && *code == RefusalCode::Upstream,
            _ => false,
        };
        assert!(events.iter().any(denied), "the audit says that {name} may have made a token that nobody has");
    }
    eventually("no lease", || (operator.status().leases == 0).then_some(()));
    ground.settles_within(24);
}

/// The code by which a redemption of this credential is refused.
fn cross(ground: &Ground, credential: &str) -> String {
    let mut parent = Parent::connect(&ground.fleet.host.parents()).unwrap();
    let grant = parent.ask(&Ask::for_credential(credential.parse().unwrap())).unwrap();
    let worker = Worker::connect(&ground.fleet.host.workers()).unwrap();
    match worker.redeem(Handle::from_fd(grant.into_descriptor()).unwrap()) {
        Err(WorkerError::Refused(refusal)) => refusal.code.as_str().to_owned(),
        Err(other) => other.to_string(),
        Ok(_) => "a token".to_owned(),
    }
}

/// An upstream of that manner; it counts what it could send.
fn misbehave(manner: Manner, sent: &Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let sent = Arc::clone(sent);
    spawn(move || {
        for stream in listener.incoming().flatten() {
            let sent = Arc::clone(&sent);
            spawn(move || answer(manner, stream, &sent));
        }
    });
    address
}

fn answer(manner: Manner, mut stream: TcpStream, sent: &AtomicU64) {
    const JSON: &str = "Content-Type: application/json\r\n";
    let _asked = stream.read(&mut [0; 4096]);
    let (head, again): (String, &[u8]) = match manner {
        Manner::Hangs => (String::new(), b""),
        Manner::Lies => (format!("HTTP/1.1 200 OK\r\n{JSON}Content-Length: 4000000000\r\n\r\n{{}}"), b""),
        Manner::Redirects => {
            ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".into(), b"")
        }
        Manner::Gigabyte => (format!("HTTP/1.1 200 OK\r\n{JSON}\r\n"), &[b' '; 65536]),
        Manner::HeadersForever => ("HTTP/1.1 200 OK\r\n".to_owned(), b"X-Pad: padding that never ends\r\n"),
        Manner::ClosesInTheMiddle => {
            let _gone =
                stream.write_all(format!("HTTP/1.1 200 OK\r\n{JSON}Content-Length: 100\r\n\r\n{{\"acc").as_bytes());
            return;
        }
    };
    let _gone = stream.write_all(head.as_bytes());
    let mut left: usize = 1 << 30;
    while !again.is_empty() && left > again.len() && stream.write_all(again).is_ok() {
        left -= again.len();
        sent.fetch_add(again.len() as u64, Ordering::Relaxed);
    }
    // Until the vault hangs up.
    let _end = stream.read_to_end(&mut Vec::new());
}
