//! Does any order of any messages end in a session, other than the one order with good evidence?

use crate::ends::{World, answer, open, peer_tls, pipe, request, vault_tls, welcome};
use crate::platform::{SoftwareTpm, endorsement};
use blindferry_attest::binder::{Binder, EXPORTER_LABEL};
use blindferry_proto::bounded::{Bytes, decode, encode};
use blindferry_proto::identifier::{Digest, LeaseId};
use blindferry_proto::limits::{MAX_EVIDENCE_WITH_LOGS, MAX_FRAME, MAX_FRAME_UNATTESTED};
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::role::{Context, Role};
use blindferry_proto::session::{
    Activate, Activated, Answer, Call, FromVault, LeaseEnd, Open, OpenReply, PeerProof, ProofReply, VaultProof,
};
use blindferry_session::client::{CallError, Established};
use blindferry_session::{Identity, tls};
use proptest::prelude::*;
use rustls::{ConnectionCommon, SideData};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Evidence that is good, or wrong in one way.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Quote {
    Good,
    OtherRole,
    OtherContext,
    OtherTlsKey,
    OtherChannel,
    OtherAk,
    OneBit(u16),
    Empty,
}

/// What a hostile host sends.
#[derive(Clone, Debug, PartialEq)]
enum FromHost {
    Open(Role, u16),
    Proof(Quote),
    Activated,
    Call,
    Frame(Vec<u8>),
    Raw(Vec<u8>),
}

/// What a hostile vault sends.
#[derive(Clone, Debug, PartialEq)]
enum Hostile {
    Proof(Quote),
    RefuseOpen,
    Activate,
    Welcome,
    RefuseProof,
    Answer(u64),
    Reattest,
    LeaseEnded,
    Frame(Vec<u8>),
    Raw(Vec<u8>),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn no_messages_but_the_right_ones_with_good_evidence_prove_a_host(
        steps in prop_oneof![
            prop::collection::vec(from_host(), 0..6),
            (from_host(), prop::collection::vec(from_host(), 0..3))
                .prop_map(|(second, rest)| [vec![FromHost::Open(Role::Broker, 1), second], rest].concat()),
        ]
    ) {
        let right = matches!(
            steps.as_slice(),
            [FromHost::Open(Role::Broker | Role::Operator, 1), FromHost::Proof(Quote::Good), ..]
        );
        prop_assert_eq!(run(admitted(&steps)), right);
    }

    #[test]
    fn no_messages_but_the_right_ones_with_good_evidence_make_a_session_with_a_vault(
        steps in prop_oneof![
            prop::collection::vec(from_vault(), 0..6),
            prop::collection::vec(from_vault(), 0..4).prop_map(|rest| [vec![Hostile::Proof(Quote::Good)], rest].concat()),
        ]
    ) {
        let right = matches!(
            steps.as_slice(),
            [Hostile::Proof(Quote::Good), Hostile::Welcome, ..]
                | [Hostile::Proof(Quote::Good), Hostile::Activate, Hostile::Welcome, ..]
        );
        prop_assert_eq!(run(established(&steps)), right);
    }

    #[test]
    fn whatever_an_attested_vault_sends_each_call_ends_and_so_does_the_session(
        steps in prop::collection::vec(from_vault(), 0..12)
    ) {
        let answered = steps.contains(&Hostile::Answer(1));
        let call = run(driven(&steps));
        prop_assert!(answered || matches!(call, Err(CallError::Over)), "{:?}", call);
    }
}

/// Whether the vault lets in a host that sends this.
async fn admitted(steps: &[FromHost]) -> bool {
    let world = World::new();
    let (ours, theirs) = pipe();
    let host = async {
        let identity = Identity::generate().unwrap();
        let mut stream = peer_tls(ours, tls::client(&identity).unwrap()).await.unwrap();
        let (mut role, mut context) = (Role::Broker, Context([0; 32]));
        for step in steps {
            let sent = match step {
                FromHost::Open(as_role, version) => {
                    role = *as_role;
                    frame(&mut stream, &Open { version: *version, ..open(role) }).await
                }
                FromHost::Proof(quote) => {
                    let exporter = |context: &Context| exported(stream.get_ref().1, context);
                    let evidence = quote.over(&world.host, role, identity.spki(), &context, exporter);
                    frame(&mut stream, &PeerProof { evidence, endorsement: Some(endorsement(&world.host)) }).await
                }
                FromHost::Activated => frame(&mut stream, &Activated { secret: Digest([7; 32]) }).await,
                FromHost::Call => frame(&mut stream, &Call { id: 1, request: request(1) }).await,
                FromHost::Frame(body) => framed(&mut stream, body).await,
                FromHost::Raw(bytes) => raw(&mut stream, bytes).await,
            };
            if sent.is_none() {
                break;
            }
            if let Some(OpenReply::Proof(proof)) = reply(&mut stream).await {
                context = proof.context;
            }
        }
        let _gone = stream.shutdown().await;
    };
    let (standing, ()) = tokio::join!(world.admit(theirs), host);
    standing.is_ok()
}

/// Whether a host takes a vault that sends this for one.
async fn established(steps: &[Hostile]) -> bool {
    let world = World::new();
    let (ours, theirs) = pipe();
    let (established, ()) = tokio::join!(world.connect(ours), hostile_vault(&world, theirs, steps));
    established.is_ok()
}

async fn hostile_vault<S: blindferry_session::channel::Stream>(world: &World, theirs: S, steps: &[Hostile]) {
    let identity = Identity::generate().unwrap();
    let mut stream = vault_tls(theirs, tls::server(&identity).unwrap()).await.unwrap();
    let Some(Open { context, .. }) = reply(&mut stream).await else { panic!("the host did not greet") };
    let bytes = || Bytes::new(vec![9; 40]).unwrap();
    for step in steps {
        let sent = match step {
            Hostile::Proof(quote) => {
                let exporter = |context: &Context| exported(stream.get_ref().1, context);
                let evidence = quote.over(&world.vault, Role::Vault, identity.spki(), &context, exporter);
                let own = Binder::compute(Role::Vault, identity.spki(), &exporter(&context)).unwrap();
                let proof = VaultProof {
                    evidence,
                    context: Context([1; 32]),
                    logs: WantedLogs::NONE,
                    vouched: world.vouched(&own),
                };
                frame(&mut stream, &OpenReply::Proof(proof)).await
            }
            Hostile::RefuseOpen => frame(&mut stream, &OpenReply::Refused(RefusalCode::Busy.into())).await,
            Hostile::Activate => {
                let credential = Activate { credential: bytes(), encrypted_secret: Bytes::new(vec![8; 40]).unwrap() };
                frame(&mut stream, &ProofReply::Activate(credential)).await
            }
            Hostile::Welcome => frame(&mut stream, &ProofReply::Welcome(welcome())).await,
            Hostile::RefuseProof => frame(&mut stream, &ProofReply::Refused(RefusalCode::NotAttested.into())).await,
            Hostile::Answer(id) => frame(&mut stream, &FromVault::Answer { id: *id, answer: answer(1) }).await,
            Hostile::Reattest => {
                frame(&mut stream, &FromVault::Reattest { context: Context([2; 32]), logs: WantedLogs::NONE }).await
            }
            Hostile::LeaseEnded => {
                let push = FromVault::LeaseEnded { lease: LeaseId([1; _]), why: LeaseEnd::Idle };
                frame(&mut stream, &push).await
            }
            Hostile::Frame(body) => framed(&mut stream, body).await,
            Hostile::Raw(bytes) => raw(&mut stream, bytes).await,
        };
        if sent.is_none() {
            break;
        }
    }
    let _gone = stream.shutdown().await;
    // It hangs up only when the host has had its say.
    let _unread = timeout(Duration::from_secs(1), stream.read_to_end(&mut Vec::new())).await;
}

/// How a call ends in a session with a vault that is attested and then sends this.
async fn driven(steps: &[Hostile]) -> Result<Answer, CallError> {
    let world = World::new();
    let (ours, theirs) = pipe();
    let first = [&[Hostile::Proof(Quote::Good), Hostile::Welcome], steps].concat();
    let host = async {
        let Established { caller, driver, .. } = world.connect(ours).await.unwrap();
        let (_over, call) = tokio::join!(biased; driver.run(), caller.call(request(1)));
        call
    };
    tokio::join!(host, hostile_vault(&world, theirs, &first)).0
}

impl Quote {
    fn over(
        self,
        tpm: &SoftwareTpm,
        role: Role,
        spki: &[u8],
        context: &Context,
        exporter: impl Fn(&Context) -> [u8; 32],
    ) -> Bytes<MAX_EVIDENCE_WITH_LOGS> {
        let other_role = if role == Role::Broker { Role::Operator } else { Role::Broker };
        let over = |role, spki: &[u8], exporter: [u8; 32]| *Binder::compute(role, spki, &exporter).unwrap().as_bytes();
        let exported = exporter(context);
        let good = over(role, spki, exported);
        let evidence = match self {
            Self::Good => tpm.quote(&good),
            Self::OtherRole => tpm.quote(&over(other_role, spki, exported)),
            Self::OtherContext => tpm.quote(&over(role, spki, exporter(&Context([0x77; 32])))),
            Self::OtherTlsKey => tpm.quote(&over(role, Identity::generate().unwrap().spki(), exported)),
            Self::OtherChannel => tpm.quote(&over(role, spki, [0x55; 32])),
            Self::OtherAk => SoftwareTpm::new().quote(&good),
            Self::OneBit(bit) => {
                let mut evidence = tpm.quote(&good);
                let bit = usize::from(bit) % (evidence.len() * 8);
                evidence[bit / 8] ^= 1 << (bit % 8);
                evidence
            }
            Self::Empty => Vec::new(),
        };
        Bytes::new(evidence).unwrap()
    }
}

fn exported<D: SideData>(connection: &ConnectionCommon<D>, context: &Context) -> [u8; 32] {
    connection.export_keying_material([0; 32], EXPORTER_LABEL, Some(&context.0)).unwrap()
}

fn quote() -> impl Strategy<Value = Quote> {
    prop_oneof![
        3 => Just(Quote::Good),
        1 => Just(Quote::OtherRole),
        1 => Just(Quote::OtherContext),
        1 => Just(Quote::OtherTlsKey),
        1 => Just(Quote::OtherChannel),
        1 => Just(Quote::OtherAk),
        3 => any::<u16>().prop_map(Quote::OneBit),
        1 => Just(Quote::Empty),
    ]
}

fn from_host() -> impl Strategy<Value = FromHost> {
    let role = prop_oneof![Just(Role::Broker), Just(Role::Operator), Just(Role::Vault)];
    prop_oneof![
        4 => (role, prop_oneof![4 => Just(1), 1 => any::<u16>()]).prop_map(|(role, version)| FromHost::Open(role, version)),
        6 => quote().prop_map(FromHost::Proof),
        1 => Just(FromHost::Activated),
        1 => Just(FromHost::Call),
        1 => nonsense().prop_map(FromHost::Frame),
        1 => nonsense().prop_map(FromHost::Raw),
    ]
}

fn from_vault() -> impl Strategy<Value = Hostile> {
    prop_oneof![
        4 => quote().prop_map(Hostile::Proof),
        1 => Just(Hostile::RefuseOpen),
        2 => Just(Hostile::Activate),
        4 => Just(Hostile::Welcome),
        1 => Just(Hostile::RefuseProof),
        2 => (0..4_u64).prop_map(Hostile::Answer),
        1 => Just(Hostile::Reattest),
        1 => Just(Hostile::LeaseEnded),
        1 => nonsense().prop_map(Hostile::Frame),
        1 => nonsense().prop_map(Hostile::Raw),
    ]
}

/// Some bytes, too few for any of the messages above that would let somebody in.
fn nonsense() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..40)
}

async fn frame<S: AsyncRead + AsyncWrite + Unpin, T: serde::Serialize>(stream: &mut S, message: &T) -> Option<()> {
    framed(stream, &encode(message, MAX_FRAME).unwrap()).await
}

async fn framed<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, body: &[u8]) -> Option<()> {
    raw(stream, &[&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()).await
}

/// `None` when the other end is gone.
async fn raw<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Option<()> {
    stream.write_all(bytes).await.ok()?;
    stream.flush().await.ok()
}

/// What the other end says within a second, if it is such a message.
async fn reply<S: AsyncRead + Unpin, T: serde::de::DeserializeOwned>(stream: &mut S) -> Option<T> {
    let read = async {
        let length = usize::try_from(stream.read_u32().await.ok()?).unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        decode(&body, MAX_FRAME_UNATTESTED).ok()
    };
    timeout(Duration::from_secs(1), read).await.ok()?
}

/// With a clock that jumps over every wait, so that deadlines cost nothing.
fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(future)
}
