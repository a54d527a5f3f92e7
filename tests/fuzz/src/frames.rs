//! Targets of messages between processes: what was read is written again, within the same bound, and read as the same.

use std::{collections::BTreeSet, fmt::Debug};

use blindferry_device::{
    approval::{APPROVAL_LIMIT, Approval},
    authority::Authority,
    protocol::{Numbered, REPLY_LIMIT, REQUEST_LIMIT, Reply, Request},
};
use blindferry_front::{
    metrics::{self, Counters, Sizes},
    publication::Publication,
    pulse::Pulse,
    store::StoreFigures,
};
use blindferry_proto::{
    bounded::{decode, encode},
    credential::CredentialSettings,
    frame,
    front::{self, StoreReply, StoreRequest},
    limits::{MAX_EVIDENCE_WITH_LOGS, MAX_FRAME, MAX_FRAME_UNATTESTED, MAX_OPERATIONS, MAX_PACKET},
    local::{self, MAX_LOCAL, ParentReply, ParentRequest, WorkerReply, WorkerRequest},
    operator::{OperatorReply, OperatorRequest},
    session::{
        Activate, Activated, BrokerRequest, Call, FromVault, Open, OpenReply, PeerProof, ProofReply, VERSION, Welcome,
    },
    setup::{InitOrder, MAX_ORDER, RecoverOrder, SetupReply, SucceedOrder},
    start::{self, MAX_COUNT, StartReply, StartRequest},
    succession::{HandedOver, SuccessorRequest},
    waiting::{SHOWN, WaitingAsk, Words},
};
use serde::{Serialize, de::DeserializeOwned};

/// JSON on a host's sockets and on the standard input of a vault that is set up, and lists of strings to the starter.
pub fn local_frames(data: &[u8]) -> bool {
    let packets = [
        local_packet::<ParentRequest>(data),
        local_packet::<ParentReply>(data),
        local_packet::<WorkerRequest>(data),
        local_packet::<WorkerReply>(data),
        local_packet::<StartRequest>(data),
        local_packet::<StartReply>(data),
    ];
    let orders =
        [order::<InitOrder>(data), order::<RecoverOrder>(data), order::<SucceedOrder>(data), order::<SetupReply>(data)];
    let strings = start::split(data).map(|strings| {
        assert!(strings.len() <= MAX_COUNT);
        assert_eq!(start::join(strings).expect("what was split is joined"), data);
    });
    packets.contains(&true) || orders.contains(&true) || strings.is_ok()
}

/// Packets between front and vault, both ways, and what the front makes of those for the public.
pub fn front_frames(data: &[u8]) -> bool {
    let from_front = message::<front::FromFront>(data, MAX_PACKET);
    if let Some(front::FromFront::Stored { reply: StoreReply::Page(page), .. }) = &from_front {
        assert!(page.len() <= data.len());
    }
    match message::<front::FromVault>(data, MAX_PACKET) {
        Some(front::FromVault::Condition(condition)) => {
            well_formed(&metrics::text(
                &condition,
                &Counters::default(),
                &StoreFigures::default(),
                &Pulse::default(),
                &Sizes::default(),
            ));
        }
        Some(front::FromVault::Publish { issuers }) => {
            let published = Publication::new(&issuers);
            assert!(published.is_err() || issuers.iter().all(|one| !one.jwks.as_str().is_empty()));
        }
        Some(front::FromVault::Store { request: StoreRequest::Commit { operations }, .. }) => {
            assert!(operations.len() <= MAX_OPERATIONS);
        }
        Some(_) => {}
        None => return from_front.is_some(),
    }
    true
}

/// What a client and its device process say to each other, and the approvals and keys that lie in it.
pub fn device_frames(data: &[u8]) -> bool {
    let numbered = [numbered::<Request>(data, REQUEST_LIMIT), numbered::<Reply>(data, REPLY_LIMIT)];
    let approval = Approval::decode(data).map(|approval| {
        assert!(data.len() <= APPROVAL_LIMIT);
        assert_eq!(approval.encode(), data, "one approval has one encoding");
        assert!(approval.verify(&Authority::from_point(&POINT).expect("a point")).is_err(), "nobody signed it");
    });
    let point = Authority::from_point(data).map(|authority| assert_eq!(authority.to_point(), data));
    let spki = Authority::from_spki(data).map(|authority| assert_eq!(authority.to_spki(), data));
    numbered.contains(&true) || approval.is_ok() || point.is_ok() || spki.is_ok()
}

/// Messages of an attested session, before and after the peer is believed, both ways.
pub fn session_frames(data: &[u8]) -> bool {
    let open = message::<Open>(data, MAX_FRAME_UNATTESTED);
    assert_eq!(Open::read(data).ok(), open.clone().filter(|open| open.version == VERSION));
    let handshake = [
        open.is_some(),
        message::<OpenReply>(data, MAX_EVIDENCE_WITH_LOGS).is_some(),
        message::<PeerProof>(data, MAX_EVIDENCE_WITH_LOGS).is_some(),
        message::<ProofReply>(data, MAX_FRAME_UNATTESTED).is_some(),
        message::<Activate>(data, MAX_FRAME_UNATTESTED).is_some(),
        message::<Activated>(data, MAX_FRAME_UNATTESTED).is_some(),
        message::<Welcome>(data, MAX_FRAME).is_some(),
    ];
    let established = [
        message::<Call>(data, MAX_FRAME).is_some(),
        message::<BrokerRequest>(data, MAX_FRAME).is_some(),
        message::<SuccessorRequest>(data, MAX_FRAME).is_some(),
        message::<HandedOver>(data, MAX_FRAME).is_some(),
        message::<FromVault>(data, MAX_FRAME).is_some(),
    ];
    if let Some(header) = data.first_chunk() {
        let announced = frame::body_length(*header, MAX_FRAME);
        assert!(announced.as_ref().is_ok_and(|length| *length <= MAX_FRAME) || announced.is_err());
    }
    handshake.contains(&true) || established.contains(&true)
}

/// What operators ask and are answered.
pub fn operator_frames(data: &[u8]) -> bool {
    let request = message::<OperatorRequest>(data, MAX_FRAME);
    if let Some(OperatorRequest::Put { settings, .. }) = &request {
        json(&**settings);
    }
    let reply = message::<OperatorReply>(data, MAX_FRAME);
    if let Some(OperatorReply::Asks(asks)) = &reply {
        asks.iter().for_each(shown);
    }
    let ask = message::<WaitingAsk>(data, MAX_FRAME);
    ask.iter().for_each(shown);
    let settings = message::<CredentialSettings>(data, MAX_FRAME);
    let words = message::<Words>(data, MAX_FRAME);
    request.is_some() || reply.is_some() || ask.is_some() || settings.is_some() || words.is_some()
}

/// One postcard message. Its encoding is no longer than the bytes that it was read from, and there is one.
pub(super) fn message<T>(data: &[u8], limit: usize) -> Option<T>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let message = decode::<T>(data, limit).ok()?;
    let written = encode(&message, limit).expect("what fitted is written");
    assert!(written.len() <= data.len(), "{message:?} grew");
    let again = decode::<T>(&written, limit).expect("what we write, we read");
    assert_eq!(again, message);
    let framed = frame::encode(&message, limit).expect("what fitted is framed");
    let (header, body) = framed.split_first_chunk().expect("a header");
    assert_eq!(frame::body_length(*header, limit).expect("a length within the bound"), body.len());
    assert_eq!(body, written);
    Some(message)
}

/// One JSON packet of a host's socket: even with its defaults written out, and everything escaped, it fits again.
fn local_packet<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) -> bool {
    let Ok(packet) = local::decode::<T>(data) else { return false };
    let written = local::encode(&packet).expect("what fitted is written");
    assert!(written.len() <= MAX_LOCAL);
    assert_eq!(local::decode::<T>(&written).expect("what we write, we read"), packet);
    true
}

fn order<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) -> bool {
    if data.len() > MAX_ORDER {
        return false;
    }
    serde_json::from_slice::<T>(data).map(|order| json(&order)).is_ok()
}

fn json<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let written = serde_json::to_vec(value).expect("what was read is written");
    assert_eq!(&serde_json::from_slice::<T>(&written).expect("what we write, we read"), value);
}

/// The messages of the device process cannot be compared; their encodings can.
fn numbered<T: Serialize + DeserializeOwned>(data: &[u8], limit: usize) -> bool {
    let Ok(message) = Numbered::<T>::decode(data, limit) else { return false };
    let written = message.encode(limit).expect("what fitted is written");
    assert!(written.len() <= data.len());
    let again = Numbered::<T>::decode(&written, limit).expect("what we write, we read");
    assert_eq!(again.encode(limit).expect("what fitted is written"), written);
    true
}

/// Whatever an ask says, what an operator is shown of it has a digest, over all of it.
fn shown(ask: &WaitingAsk) {
    let input = ask.digest_input().expect("an ask within its bounds fits its own");
    let body = input.strip_prefix(SHOWN).expect("the use that the digest is for");
    assert_eq!(&decode::<WaitingAsk>(body, body.len()).expect("what is hashed is the ask"), ask);
}

/// Prometheus refuses a scrape as a whole for one line that it cannot read, or for a sample twice.
fn well_formed(text: &str) {
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("# ") {
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').expect("a sample and its value");
        assert!(sample.starts_with("blindferry_"), "{line:?}");
        assert!(value.parse::<f64>().is_ok(), "{line:?}");
        assert!(seen.insert(sample), "{line:?} twice");
    }
}

/// SEC 1, uncompressed; whether it lies on the curve is seen when something is verified.
const POINT: [u8; 65] = {
    let mut point = [7; 65];
    point[0] = 4;
    point
};
