//! Whatever bytes come from outside: each parser takes them or refuses them, and what it takes it writes back the same.

use blindferry_proto::audit::{Body, Record};
use blindferry_proto::bounded::{Bytes, CodecError, Text, TooLong, decode, encode};
use blindferry_proto::credential::CredentialSettings;
use blindferry_proto::front;
use blindferry_proto::identifier::{AskId, Digest, GrantId, LeaseId, RequestId, WorkerKey};
use blindferry_proto::limits::{MAX_FRAME, MAX_PACKET, MAX_PARCEL};
use blindferry_proto::local::{self, LocalError, MAX_LOCAL, ParentReply, ParentRequest, WorkerReply, WorkerRequest};
use blindferry_proto::name::{Audience, CredentialName, HostName};
use blindferry_proto::operator::{OperatorReply, OperatorRequest};
use blindferry_proto::parcel::{BadParcel, Parcel, ParcelHeader};
use blindferry_proto::protection::ProtectionLevel;
use blindferry_proto::session::{
    BrokerRequest, Call, FromVault, Open, OpenReply, PeerProof, ProcessFacts, ProofReply, VERSION, WorkerConstraint,
};
use blindferry_proto::setup::{InitOrder, RecoverOrder};
use blindferry_proto::waiting::{ASKS_A_PAGE, AskingHost, MAX_DEMANDING, MAX_REASON, SHOWN, WaitingAsk, Words};
use blindferry_proto::{frame, limits};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[expect(clippy::unwrap_used, reason = "a message that was read can be written, or the test fails")]
/// Bytes are refused, or are a message that is written back and read again as itself.
fn total<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8], limit: usize) {
    if let Ok(message) = decode::<T>(bytes, limit) {
        let again = encode(&message, limit).unwrap();
        assert_eq!(decode::<T>(&again, limit).unwrap(), message);
    }
}

proptest! {
    #[test]
    fn bytes_are_no_session_message_or_one_that_survives(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        total::<Open>(&bytes, MAX_FRAME);
        assert_eq!(Open::read(&bytes).ok(), decode(&bytes, MAX_FRAME).ok().filter(|open: &Open| open.version == VERSION));
        total::<OpenReply>(&bytes, MAX_FRAME);
        total::<PeerProof>(&bytes, MAX_FRAME);
        total::<ProofReply>(&bytes, MAX_FRAME);
        total::<Call>(&bytes, MAX_FRAME);
        total::<FromVault>(&bytes, MAX_FRAME);
        total::<OperatorRequest>(&bytes, MAX_FRAME);
        total::<OperatorReply>(&bytes, MAX_FRAME);
    }

    #[test]
    fn bytes_are_no_packet_of_the_front_or_one_that_survives(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        total::<front::FromFront>(&bytes, MAX_PACKET);
        total::<front::FromVault>(&bytes, MAX_PACKET);
        total::<Record>(&bytes, MAX_FRAME);
        total::<Body>(&bytes, MAX_FRAME);
        total::<CredentialSettings>(&bytes, MAX_FRAME);
    }

    #[test]
    fn text_is_no_local_message_or_one_that_survives(text in "\\PC{0,200}") {
        fn survives<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(text: &str) {
            if let Ok(message) = local::decode::<T>(text.as_bytes()) {
                assert_eq!(local::decode::<T>(&local::encode(&message).unwrap()).unwrap(), message);
            }
        }
        survives::<ParentRequest>(&text);
        survives::<ParentReply>(&text);
        survives::<WorkerRequest>(&text);
        survives::<WorkerReply>(&text);
        survives::<InitOrder>(&text);
        survives::<RecoverOrder>(&text);
    }

    #[test]
    fn a_parcel_survives_and_its_header_is_what_is_in_front(
        request in any::<[u8; 16]>(), grant in any::<[u8; 16]>(), worker in any::<[u8; 32]>(), uid in any::<u32>(),
        policy_epoch in any::<u64>(), encapsulated in any::<[u8; 32]>(),
        ciphertext in proptest::collection::vec(any::<u8>(), 16..300),
    ) {
        let header = ParcelHeader {
            request: RequestId(request), grant: GrantId(grant), worker: WorkerKey(worker), uid, policy_epoch,
        };
        let parcel = Parcel { header, encapsulated, ciphertext };
        let bytes = parcel.to_bytes();
        prop_assert!(bytes.starts_with(&header.to_bytes()));
        prop_assert_eq!(Parcel::from_bytes(&bytes).unwrap(), parcel);
    }

    #[test]
    fn bytes_are_no_parcel_or_one_that_survives(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(parcel) = Parcel::from_bytes(&bytes) {
            prop_assert_eq!(parcel.to_bytes(), bytes);
        }
    }

    #[test]
    fn a_cut_parcel_is_refused(length in 0usize..125) {
        let mut bytes = vec![1; 125];
        bytes.truncate(length);
        prop_assert_eq!(Parcel::from_bytes(&bytes).unwrap_err(), BadParcel::TooShort);
    }

    #[test]
    fn a_name_that_exists_is_legal(text in "\\PC{0,140}") {
        if let Ok(name) = text.parse::<HostName>() {
            prop_assert!(name.as_str().len() <= HostName::MAX && !name.as_str().contains(['/', ' ', '\0', '"']));
        }
        if let Ok(name) = text.parse::<CredentialName>() {
            prop_assert!(name.as_str().len() <= CredentialName::MAX && name.as_str().is_ascii());
        }
        if let Ok(audience) = text.parse::<Audience>() {
            prop_assert!(audience.as_str().len() <= Audience::MAX && !audience.as_str().contains(['"', '\\', ' ']));
        }
    }

    #[test]
    fn an_announced_length_is_refused_before_it_is_allocated(length in any::<u32>()) {
        let announced = frame::body_length(length.to_be_bytes(), limits::MAX_FRAME_UNATTESTED);
        prop_assert_eq!(announced.is_ok(), length as usize <= limits::MAX_FRAME_UNATTESTED);
    }

    #[test]
    fn identifiers_are_read_as_they_are_printed(bytes in any::<[u8; 16]>()) {
        let id = LeaseId(bytes);
        prop_assert_eq!(id.to_string().parse::<LeaseId>().unwrap(), id);
        prop_assert!(id.to_string().to_uppercase().parse::<LeaseId>().is_err() || !id.to_string().contains(char::is_alphabetic));
    }
}

#[test]
fn what_is_too_long_for_its_type_does_not_parse() {
    let long = encode(&Bytes::<64>::new(vec![7; 64]).unwrap(), 100).unwrap();
    assert!(matches!(decode::<Bytes<63>>(&long, 100).unwrap_err(), CodecError::Decode(_)));
    let long = encode(&Text::<64>::new("x".repeat(64)).unwrap(), 100).unwrap();
    assert!(matches!(decode::<Text<63>>(&long, 100).unwrap_err(), CodecError::Decode(_)));
    assert_eq!(Bytes::<3>::new(vec![0; 4]).unwrap_err(), TooLong { length: 4, most: 3 });
}

#[test]
fn a_sequence_over_its_bound_is_refused() {
    let leases = |count| BrokerRequest::Keep { leases: vec![LeaseId([0; 16]); count] };
    let fits = encode(&leases(limits::MAX_PAGE), MAX_FRAME).unwrap();
    assert_eq!(decode::<BrokerRequest>(&fits, MAX_FRAME).unwrap(), leases(limits::MAX_PAGE));
    let over = encode(&leases(limits::MAX_PAGE + 1), MAX_FRAME).unwrap();
    assert!(matches!(decode::<BrokerRequest>(&over, MAX_FRAME).unwrap_err(), CodecError::Decode(_)));
}

#[test]
fn bytes_after_a_message_are_refused() {
    let mut bytes = encode(&7u32, 10).unwrap();
    bytes.push(0);
    assert_eq!(decode::<u32>(&bytes, 10).unwrap_err(), CodecError::Trailing { left: 1 });
}

#[test]
fn a_local_message_over_its_bound_is_not_even_parsed() {
    let long = vec![b' '; MAX_LOCAL + 1];
    assert!(matches!(local::decode::<ParentRequest>(&long), Err(LocalError::TooLong { .. })));
}

#[test]
fn an_unknown_field_of_a_parent_is_refused_rather_than_ignored() {
    let ask = br#"{"ask":{"credential":"c","worker":{"uid":1,"gid":2}}}"#;
    assert!(matches!(local::decode::<ParentRequest>(ask), Err(LocalError::Json(_))), "a constraint was ignored");
    let ask = br#"{"ask":{"credential":"c"}}"#;
    let worker = WorkerConstraint::default();
    let expected = ParentRequest::Ask { credential: "c".parse().unwrap(), audience: None, worker, wait: None };
    assert_eq!(local::decode::<ParentRequest>(ask).unwrap(), expected);
}

#[test]
fn a_parcel_over_its_bound_is_refused() {
    assert!(matches!(Parcel::from_bytes(&vec![1; MAX_PARCEL + 1]), Err(BadParcel::TooLong { .. })));
}

#[test]
fn bounded_bytes_do_not_print_themselves() {
    let printed = format!("{:?}", Bytes::<16>::new(b"hunter2".to_vec()).unwrap());
    assert!(!printed.contains("104") && !printed.contains("hunter"), "{printed}");
}

#[test]
fn an_ask_survives_postcard_and_json_with_and_without_words() {
    for (program, reason) in
        [(None, None), (Some("deploy.sh"), None), (None, Some("\u{1b}[2J")), (Some("a"), Some("b"))]
    {
        let words = Words { program: program.map(Text::cut), reason: reason.map(Text::cut) };
        let bytes = encode(&words, 1000).unwrap();
        assert_eq!(decode::<Words>(&bytes, 1000).unwrap(), words);
        let (credential, worker) = ("c".parse().unwrap(), WorkerConstraint::default());
        let ask = ParentRequest::Ask { credential, audience: None, worker, wait: Some(words) };
        assert_eq!(local::decode::<ParentRequest>(&local::encode(&ask).unwrap()).unwrap(), ask);
    }
}

#[test]
fn the_longest_words_fit_a_local_message_even_when_every_byte_is_escaped() {
    let words =
        Words { program: Some(Text::cut(&"\u{1}".repeat(128))), reason: Some(Text::cut(&"\u{1}".repeat(MAX_REASON))) };
    let ask = ParentRequest::Ask {
        credential: "c".repeat(CredentialName::MAX).parse().unwrap(),
        audience: Some("a".repeat(Audience::MAX).parse().unwrap()),
        worker: WorkerConstraint {
            uid: Some(u32::MAX),
            executable: Some(Digest([255; 32])),
            protection: Some(ProtectionLevel::OwnNamespace),
        },
        wait: Some(words),
    };
    local::encode(&ask).unwrap();
}

#[test]
fn the_longest_waiting_ask_fits_its_bound() {
    let parent = ProcessFacts {
        uid: u32::MAX,
        gid: u32::MAX,
        pid: u32::MAX,
        executable: Some(Digest([255; 32])),
        protection: Some(ProtectionLevel::OwnNamespace),
    };
    let ask = WaitingAsk {
        ask: AskId([255; 8]),
        credential: "c".repeat(CredentialName::MAX).parse().unwrap(),
        kind: Text::cut(&"k".repeat(32)),
        version: u64::MAX,
        audience: Some("a".repeat(Audience::MAX).parse().unwrap()),
        host: AskingHost {
            name: "h".repeat(HostName::MAX).parse().unwrap(),
            hardware: Text::cut(&"f".repeat(160)),
            platform: Text::cut(&"p".repeat(16)),
            reference: Text::cut(&"r".repeat(128)),
            attested: u64::MAX,
        },
        parent,
        worker: WorkerConstraint {
            uid: Some(u32::MAX),
            executable: Some(Digest([255; 32])),
            protection: Some(ProtectionLevel::OwnNamespace),
        },
        words: Words { program: Some(Text::cut(&"p".repeat(128))), reason: Some(Text::cut(&"r".repeat(MAX_REASON))) },
        demanded_by: vec![Text::cut(&"d".repeat(96)); MAX_DEMANDING],
        policy_version: u64::MAX,
        other_machine: true,
        asked: u64::MAX,
        until: u64::MAX,
    };
    assert!(ask.digest_input().unwrap().starts_with(SHOWN));
    let page = OperatorReply::Asks(vec![ask; ASKS_A_PAGE]);
    let bytes = encode(&page, MAX_FRAME).unwrap();
    assert_eq!(decode::<OperatorReply>(&bytes, MAX_FRAME).unwrap(), page);
}
