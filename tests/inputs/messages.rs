//! What the fuzzer starts from where processes talk to each other, and in what they keep.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use blindferry_attest::tpm::{PcrSelection, PcrValues};
use blindferry_device::{
    approval::{PolicyRef, Terms},
    protocol::{CounterRequest, Numbered, REPLY_LIMIT, REQUEST_LIMIT, Reply, Request as DeviceRequest},
};
use blindferry_proto::{
    audit::{Event, Record},
    backup::{Part, Piece},
    bounded::{Bytes, Text, encode},
    credential::{ClientAuthentication, CredentialSettings, JwtSigner, Kind, OauthClient, SigningAlgorithm},
    front::{Condition, Durations, Figure, FromFront, FromVault, Issuer, Operation, StoreReply, StoreRequest, Table},
    identifier::{AskId, DepositKey, Digest, GrantId, LeaseId, ParcelKey, ReplicaId, RequestId, SessionId, WorkerKey},
    key_mix::KeyMix,
    limits::{MAX_FRAME, MAX_PACKET, MAX_STORED},
    local::{self, ParentRequest, WorkerReply, WorkerRequest},
    logs::WantedLogs,
    name::CredentialName,
    operator::{OperatorReply, OperatorRequest},
    parcel::{Parcel, ParcelHeader},
    protection::ProtectionLevel,
    role::{Context, Role},
    session::{
        Answer, Ask, BrokerRequest, Call, Endorsement, FromVault as SessionFromVault, Granted, Open, PeerProof,
        ProcessFacts, ProofReply, Redeem, Request, VERSION, Welcome, WorkerConstraint,
    },
    setup::RecoverOrder,
    start::{self, StartRequest},
    waiting::{AskingHost, WaitingAsk, Words},
};
use blindferry_vault::{
    audit::Signer,
    grant::{GRANT_LEN, GrantBody},
    sealed::{PolicyAuthority, RecoveryKey},
};
use blindferry_watch::figures::BUCKETS;
use ring::{rand::SystemRandom, signature::Ed25519KeyPair};
use serde::Serialize;

use crate::{Put, fuzz, parts};

pub(crate) fn all(put: &mut Put<'_>) {
    local(put);
    front(put);
    device(put);
    session(put);
    operator(put);
    carried(put);
    kept(put);
    upstream(put);
}

fn local(put: &mut Put<'_>) {
    let words = Words { program: Some(Text::cut("deploy.sh")), reason: Some(Text::cut("a release")) };
    let ask = ParentRequest::Ask {
        credential: credential(),
        audience: Some("https://a.example".parse().unwrap()),
        worker: constraint(),
        wait: Some(words),
    };
    let redeem = WorkerRequest::Redeem {
        request: RequestId([1; 16]),
        key: WorkerKey([2; 32]),
        executable: Some(Digest([3; 32])),
        protection: Some(ProtectionLevel::OwnGroup),
        inherited: vec!["AWS_PROFILE".parse().unwrap()],
    };
    let parcelled = WorkerReply::Parcelled {
        lease: LeaseId([1; 16]),
        sender: ParcelKey([2; 32]),
        expires: 7,
        token_type: Text::cut("Bearer"),
    };
    let start = StartRequest::Start { umask: 0o22, terminal: Some(0), grants: vec![credential()] };
    put("local_frames", "ask", local::encode(&ask).unwrap());
    put("local_frames", "redeem", local::encode(&redeem).unwrap());
    put("local_frames", "parcelled", local::encode(&parcelled).unwrap());
    put("local_frames", "start", local::encode(&start).unwrap());
    let recover = RecoverOrder {
        version: 1,
        pcrs: vec![4, 7],
        insist_unextended: true,
        mix: KeyMix::default(),
        vault_reference: Some(Text::cut("version = 1")),
    };
    put("local_frames", "recover", serde_json::to_vec(&recover).unwrap());
    put("local_frames", "strings", start::join([&b"sh"[..], b"", b"-c"]).unwrap());
}

fn front(put: &mut Put<'_>) {
    let figure = |name, label: Option<&str>| Figure {
        name: Text::cut(name),
        label: label.map(Text::cut),
        value: 7,
        counter: true,
    };
    let figures = vec![figure("grants_total", None), figure("refused_total", Some("denied"))];
    let steps = vec![Durations { step: Text::cut("mint"), buckets: vec![1; BUCKETS], microseconds: 700 }];
    let issuer = Issuer {
        url: Text::cut("https://id.example/prod"),
        jwks: Text::cut(r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA","kid":"1"}]}"#),
        algorithms: vec![Text::cut("EdDSA")],
    };
    let operations = vec![
        Operation::Put { table: Table::Hosts, key: bytes(b"a-host"), value: bytes(b"sealed") },
        Operation::Delete { table: Table::Audit, key: bytes(&[0; 8]) },
    ];
    let page = StoreReply::Page(vec![(bytes(b"a-host"), bytes(b"sealed"))]);
    put("front_frames", "accepted", packet(&FromFront::Accepted { from: Text::cut("192.0.2.1:7") }));
    put("front_frames", "page", packet(&FromFront::Stored { id: 7, reply: page }));
    put("front_frames", "condition", packet(&FromVault::Condition(Condition { ready: true, figures, steps })));
    put("front_frames", "publish", packet(&FromVault::Publish { issuers: vec![issuer] }));
    let request = StoreRequest::Commit { operations };
    put("front_frames", "commit", packet(&FromVault::Store { id: 7, request }));
    put("front_frames", "dial", packet(&FromVault::Dial { id: 7, host: Text::cut("a.example"), port: 443 }));
}

fn device(put: &mut Put<'_>) {
    let logs = WantedLogs { events: true, ima: false };
    let requests = [
        ("quote", DeviceRequest::Quote { binder: [7; 32], pcrs: vec![4, 7], logs }),
        ("unseal", DeviceRequest::UnsealAsGuest { blob: vec![7; 40] }),
        ("counter", DeviceRequest::Counter(CounterRequest::Read)),
    ];
    for (name, message) in requests {
        put("device_frames", name, Numbered { number: 7, message }.encode(REQUEST_LIMIT).unwrap());
    }
    let pcrs = Numbered { number: 7, message: Reply::Pcrs(vec![(4, [4; 32]), (7, [7; 32])]) };
    put("device_frames", "pcrs", pcrs.encode(REPLY_LIMIT).unwrap());
    put("device_frames", "approval", approval());
    put("device_frames", "point", point());
}

fn session(put: &mut Put<'_>) {
    let open = Open {
        version: VERSION,
        role: Role::Broker,
        name: "a-host".parse().unwrap(),
        context: Context([7; 32]),
        logs: WantedLogs { events: true, ima: true },
    };
    let endorsement = Endorsement {
        ek_public: bytes(b"an EK"),
        certificates: vec![bytes(b"a certificate")],
        ak_public: bytes(b"an AK"),
    };
    let proof = PeerProof { evidence: bytes(b"evidence"), endorsement: Some(endorsement) };
    let welcome = Welcome {
        session: SessionId([1; 16]),
        replica: ReplicaId([2; 8]),
        parcel_key: ParcelKey([3; 32]),
        deposit_key: DepositKey([4; 32]),
        reattest_every: 300,
    };
    put("session_frames", "open", packet(&open));
    put("session_frames", "proof", packet(&proof));
    put("session_frames", "welcome", packet(&ProofReply::Welcome(welcome)));
    let ask = Ask { credential: credential(), audience: None, worker: constraint(), parent: facts(), wait: None };
    let redeem = Redeem {
        grant: bytes(b"a grant"),
        request: RequestId([1; 16]),
        worker_key: WorkerKey([2; 32]),
        worker: facts(),
        inherited: vec!["AWS_PROFILE".parse().unwrap()],
    };
    let requests = [
        ("ask", BrokerRequest::Ask(ask)),
        ("redeem", BrokerRequest::Redeem(redeem)),
        ("keep", BrokerRequest::Keep { leases: vec![LeaseId([1; 16]), LeaseId([2; 16])] }),
    ];
    for (name, request) in requests {
        put("session_frames", name, packet(&Call { id: 7, request: Request::Broker(request) }));
    }
    let granted = Granted { id: GrantId([1; 16]), grant: bytes(b"a grant"), expires: 7 };
    put("session_frames", "granted", packet(&SessionFromVault::Answer { id: 7, answer: Answer::Granted(granted) }));
}

fn operator(put: &mut Put<'_>) {
    let deposit = OperatorRequest::Put {
        name: credential(),
        settings: Box::new(settings(oauth())),
        encapsulated: Digest([7; 32]),
        ciphertext: bytes(&[7; 40]),
        replace: true,
    };
    put("operator_frames", "put", packet(&deposit));
    let policy = OperatorRequest::Policy { text: Text::cut(POLICY), apply: false };
    put("operator_frames", "policy", packet(&policy));
    let ask = WaitingAsk {
        ask: AskId([1; 8]),
        credential: credential(),
        kind: Text::cut("release"),
        version: 1,
        audience: None,
        host: AskingHost {
            name: "a-host".parse().unwrap(),
            hardware: Text::cut("ek 07"),
            platform: Text::cut("tpm"),
            reference: Text::cut("a fleet"),
            attested: 7,
        },
        parent: facts(),
        worker: constraint(),
        words: Words::default(),
        demanded_by: vec![Text::cut("policy 1")],
        policy_version: 1,
        other_machine: false,
        asked: 7,
        until: 8,
    };
    put("operator_frames", "asks", packet(&OperatorReply::Asks(vec![ask])));
    let listed = OperatorReply::Credentials(vec![(credential(), settings(Kind::Release))]);
    put("operator_frames", "credentials", packet(&listed));
}

fn carried(put: &mut Put<'_>) {
    let body = GrantBody {
        id: GrantId([7; 16]),
        credential: credential(),
        host: "a-host".parse().unwrap(),
        audience: Some("https://a.example".parse().unwrap()),
        worker: constraint(),
        parent: facts(),
        expires: 120,
        approval: None,
    };
    // Of the running vault that the target plays, as far as can be told without its key.
    put("grants", "made-up", [&[0, 1][..], &[1; 8], &[0; GRANT_LEN - 9]].concat());
    put("grants", "changed", vec![1, 0, 30, 7]);
    put("grants", "said", [&[2][..], &packet(&body)].concat());
    let header = ParcelHeader {
        request: RequestId([1; 16]),
        grant: GrantId([2; 16]),
        worker: WorkerKey([3; 32]),
        uid: 3,
        policy_epoch: 4,
    };
    let parcel = Parcel { header, encapsulated: [9; 32], ciphertext: vec![7; 40] };
    put("parcels", "made-up", [&[0][..], &parcel.to_bytes()].concat());
    put("parcels", "changed", vec![1, 0, 120, 7]);
    put("parcels", "any-key", [&[2][..], &[9; 32], &[5; 32]].concat());
    put("deposits", "changed", vec![0, 0, 40, 7]);
    put("deposits", "made-up", [&[1][..], &[9; 32], &[7; 40]].concat());
}

fn kept(put: &mut Put<'_>) {
    put("store_records", "untouched", vec![0, 0, 0]);
    put("store_records", "changed", [&[1, 0, 3][..], &parts(&[&[0, 50, 7], b""])].concat());
    put("store_records", "lost", [&[1, 3, 1][..], &parts(&[b"", b""])].concat());
    put("store_records", "added", [&[1, 5, 1][..], &parts(&[b"another", b""])].concat());
    put("store_records", "of-ours", [&[1, 7, 2][..], &parts(&[&[1, 0, 0], b""])].concat());
    let instead = encode(&StoreReply::Got(None), MAX_STORED).unwrap();
    put("store_records", "out-of-turn", [&[0][..], &parts(&[&instead]), &[3]].concat());

    let good = fuzz::good_backup();
    put("backups", "part", [&[0][..], &packet(&backup_piece())].concat());
    put("backups", "whole", [&[1][..], &good].concat());
    put("backups", "changed", vec![2, 0, 90, 7]);
    put("backups", "pieces", [&[3][..], &parts(&[b"\x01\x03\x00\x00on", b"\x01\x03\x02\x00e"])].concat());

    let random = SystemRandom::new();
    let mut printed = vec![0];
    RecoveryKey::generate(&random).unwrap().write_to(&mut printed).unwrap();
    put("sealed_blobs", "typed", printed);
    put("sealed_blobs", "wrapped", vec![1, 0, 40, 7]);
    put("sealed_blobs", "authority", vec![2, 0, 40, 7]);
    put("sealed_blobs", "record", [&[3][..], &[1; 60]].concat());
    let approvals: (Bytes<65>, Vec<Bytes<4096>>) = (bytes(&point()), vec![bytes(&approval())]);
    put("sealed_blobs", "approvals", [&[4][..], &packet(&approvals)].concat());

    put("guest_keys", "changed", vec![0, 0, 60, 7]);
    // In the form of one, up to its length: magic, a version of everything that is mixed in, and what is encrypted.
    put("guest_keys", "made-up", [&[1][..], &guest_blob()].concat());

    put("audit_records", "record", [&[0][..], &packet(&record())].concat());
    put("audit_records", "body", [&[0][..], record().body.as_slice()].concat());
    put("audit_records", "changed", vec![1, 0, 50, 7]);
    put("audit_records", "in-order", vec![2, 0, 1, 2]);
}

fn backup_piece() -> Part {
    let (key, bytes) = (bytes(b"api"), bytes(b"ciphertext"));
    Part::Piece(Piece { table: Table::Masters, key, length: 10, offset: 0, bytes })
}

fn upstream(put: &mut Put<'_>) {
    let json = r#"{"access_token":"hunter2hunter2","token_type":"bearer","expires_in":300}"#;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json;charset=UTF-8\r\n";
    let whole = format!("\0{head}content-length: {}\r\n\r\n{json}", json.len());
    put("upstream_answers", "token", whole.into_bytes());
    let chunked = format!("\0{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{json}\r\n0\r\n\r\n", json.len());
    put("upstream_answers", "chunked", chunked.into_bytes());
    put("upstream_answers", "revoked", b"\x01HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec());

    let release = parts(&[b"hunter2"]);
    put("credential_settings", "release", [release.clone(), packet(&settings(Kind::Release))].concat());
    put("credential_settings", "oauth", [release, packet(&settings(oauth()))].concat());
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(key.as_ref()));
    let signer = Kind::JwtSigner(JwtSigner {
        algorithm: SigningAlgorithm::EdDsa,
        issuer: Text::cut("https://id.example"),
        subject: Text::cut("{host}/{uid}"),
        audiences: vec!["https://a.example".parse().unwrap()],
    });
    put("credential_settings", "signer", [parts(&[pem.as_bytes()]), packet(&settings(signer))].concat());
}

fn credential() -> CredentialName {
    "github-deploy".parse().unwrap()
}

fn constraint() -> WorkerConstraint {
    let protection = Some(ProtectionLevel::ExecOnly);
    WorkerConstraint { uid: Some(1001), executable: Some(Digest([7; 32])), protection }
}

fn facts() -> ProcessFacts {
    ProcessFacts { uid: 1000, gid: 100, pid: 7, executable: None, protection: Some(ProtectionLevel::None) }
}

fn settings(kind: Kind) -> CredentialSettings {
    CredentialSettings { kind, token_lifetime: 900, lease_idle: 60, cache_idle: Some(60) }
}

fn oauth() -> Kind {
    Kind::OauthClient(OauthClient {
        token_url: Text::cut("https://id.example/token"),
        revocation_url: Some(Text::cut("https://id.example/revoke")),
        client_id: Text::cut("a-client"),
        authentication: ClientAuthentication::ClientSecretPost,
        scope: Some(Text::cut("read write")),
        resource: None,
        trust: None,
    })
}

fn record() -> Record {
    let seed = blindferry_handle::secret::SecretBytes::copy_and_wipe(&mut [6; 32]).unwrap();
    let mut chain = Signer::new(seed).unwrap().chain(None).unwrap();
    for notes in ["a start", "another", "and another"] {
        chain.append(Event::Started { notes: Text::cut(notes) }, vec![Text::cut("a danger")], 7).unwrap();
    }
    chain.sign().unwrap().0.remove(0).1
}

/// A key that another guest sealed.
fn guest_blob() -> Vec<u8> {
    let guest = (KeyMix::default(), 0_u32, 0_u8, vec![7_u8; 64], vec![7_u8; 48], 7_u64, [0_u8; 16], [0_u8; 16], 7_u32);
    [&b"BFSG\x01"[..], &packet(&(guest, [7_u8; 8])), &[7; 80]].concat()
}

fn approval() -> Vec<u8> {
    let random = SystemRandom::new();
    let values = PcrValues::new(PcrSelection::new([7]).unwrap(), &[(7, [7; 32])]).unwrap();
    let terms = Terms::new(values, PolicyRef::of("vault key-encryption key"), 1);
    let signature = PolicyAuthority::generate(&random).unwrap().sign(&random, &terms.to_sign()).unwrap();
    terms.signed(signature).encode()
}

fn point() -> Vec<u8> {
    PolicyAuthority::generate(&SystemRandom::new()).unwrap().public_point(&SystemRandom::new()).unwrap()
}

fn packet<T: Serialize>(message: &T) -> Vec<u8> {
    encode(message, MAX_FRAME.min(MAX_PACKET)).unwrap()
}

fn bytes<const MAX: usize>(bytes: &[u8]) -> Bytes<MAX> {
    Bytes::new(bytes.to_vec()).unwrap()
}

pub(crate) const POLICY: &str = r#"permit (principal, action, resource == Blindferry::Credential::"github-deploy");"#;
