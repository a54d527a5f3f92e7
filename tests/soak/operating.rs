//! Those who speak with the vault themselves: an operator who stores, approves and decides, and who opens sessions only to
//! drop them.

use crate::dice::Dice;
use crate::ground::Ground;
use blindferry_proto::bounded::Bytes;
use blindferry_proto::credential::Kind;
use blindferry_proto::identifier::EkDigest;
use blindferry_proto::name::CredentialName;
use blindferry_proto::operator::{Approvee, OperatorReply, OperatorRequest};
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::role::Role;
use blindferry_proto::waiting::Decision;
use blindferry_tests::operator::{Operator, encrypt, settings};
use blindferry_tests::tpm::Tpm;
use blindferry_tests::waiting::hash;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

/// Masters are stored and replaced, hosts approved and removed.
pub(crate) fn administrate(ground: &Ground, tpm: &Tpm, mut dice: Dice) {
    let (mut session, mut approved) = (None, Vec::new());
    while ground.goes_on(&mut dice, Duration::from_millis(1500)) {
        let Some(operator) = session.take().or_else(|| ground.operator(tpm)) else { continue };
        let (action, subject, request) = match dice.below(3) {
            0 => put(&operator, dice.below(16)),
            1 if approved.len() >= 4 => {
                let host: String = approved.remove(0);
                ("host remove", host.clone(), OperatorRequest::HostRemove { host: host.parse().unwrap() })
            }
            _ => {
                let (host, mut ek) = (format!("guest-{:016x}", dice.next()), [7; 32]);
                ek[..8].copy_from_slice(&dice.next().to_be_bytes());
                approved.push(host.clone());
                let (name, whom) = (host.parse().unwrap(), Approvee::Ek(EkDigest(ek)));
                ("host approve", host, OperatorRequest::HostApprove { host: name, whom, role: Role::Broker })
            }
        };
        match operator.ask(request) {
            Ok(OperatorReply::Done) => ground.book.operated(action, &subject),
            Ok(other) => panic!("{action} {subject}: {other:?}"),
            Err(refusal) => {
                ground.book.refused(&format!("{action}: {}", refusal.code.as_str()));
                if refusal.code == RefusalCode::NotReady {
                    continue;
                }
            }
        }
        // Now and then a session anew.
        session = (dice.below(8) > 0).then_some(operator);
    }
}

fn put(operator: &Operator, which: u64) -> (&'static str, String, OperatorRequest) {
    let subject = format!("stored-{which}");
    let name: CredentialName = subject.parse().unwrap();
    let (encapsulated, ciphertext) = encrypt(operator.0.welcome.deposit_key, &name, b"of many masters one");
    let (settings, ciphertext) = (Box::new(settings(Kind::Release)), Bytes::new(ciphertext).unwrap());
    ("put", subject, OperatorRequest::Put { name, settings, encapsulated, ciphertext, replace: true })
}

/// Whoever waits gets a yes or a no.
pub(crate) fn decide(ground: &Ground, tpm: &Tpm, mut dice: Dice) {
    let mut session = None;
    while ground.goes_on(&mut dice, Duration::from_millis(700)) {
        let Some(operator) = session.take().or_else(|| ground.operator(tpm)) else { continue };
        let asks = match operator.ask(OperatorRequest::Asks { after: None }) {
            Ok(OperatorReply::Asks(asks)) => asks,
            Ok(other) => panic!("no asks: {other:?}"),
            Err(_) => continue,
        };
        for shown in asks {
            let approves = dice.below(4) > 0;
            let decision = if approves { Decision::Approve } else { Decision::Deny { reason: None } };
            let decide = OperatorRequest::Decide { ask: shown.ask, shown: hash(&shown), decision };
            match operator.ask(decide) {
                Ok(_) => drop(ground.book.write().decided.insert(shown.ask.to_string(), approves)),
                Err(refusal) => ground.book.refused(&format!("decide: {}", refusal.code.as_str())),
            }
        }
        session = Some(operator);
    }
}

/// Sessions and connections that are dropped: at once, in the middle of a ClientHello, and when they stand.
pub(crate) fn drop_sessions(ground: &Ground, tpm: &Tpm, mut dice: Dice) {
    // A TLS record of a ClientHello that says 512 bytes and has few of them.
    const HALF: [u8; 11] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    while ground.goes_on(&mut dice, Duration::from_millis(800)) {
        match dice.below(8) {
            0 => drop(ground.operator(tpm)),
            upto => {
                let Ok(mut stream) = TcpStream::connect(ground.listen) else { continue };
                let _gone = stream.write_all(if upto > 4 { &HALF } else { &[] });
            }
        }
        ground.book.write().dropped += 1;
    }
}
