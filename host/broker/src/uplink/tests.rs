//! The uplink against a vault that comes and goes, in frozen time.

use super::*;
use blindferry_proto::bounded::Text;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

/// Dials that end as scripted; when the script is over, dialling never ends.
struct Scripted {
    dials: VecDeque<Result<Session<Vault>, DialError>>,
    times: Arc<Mutex<Vec<Instant>>>,
}

impl Dial for Scripted {
    type Caller = Vault;
    async fn dial(&mut self) -> Result<Session<Vault>, DialError> {
        self.times.lock().unwrap().push(Instant::now());
        match self.dials.pop_front() {
            Some(dialled) => dialled,
            None => std::future::pending().await,
        }
    }
}

/// Answers everything in the same way.
#[derive(Clone, Copy)]
enum Vault {
    Answers,
    Refuses,
    IsSilent,
}

impl Call for Vault {
    async fn call(&self, _: Request) -> Result<Answer, NotHeard> {
        match self {
            Self::Answers => Ok(Answer::Done),
            Self::Refuses => Ok(Answer::Refused(RefusalCode::Denied.into())),
            Self::IsSilent => std::future::pending().await,
        }
    }
}

struct Standing {
    session: Session<Vault>,
    ends: mpsc::Sender<(LeaseId, LeaseEnd)>,
    over: oneshot::Sender<()>,
}

fn standing(vault: Vault) -> Standing {
    let (ends, receiver) = mpsc::channel(1);
    let (over, ended) = oneshot::channel();
    let driver = Box::pin(async move {
        let _told = ended.await;
        SessionEnd { reason: "the test ended it".into(), setback: Setback::Passing }
    });
    let session =
        Session { replica: ReplicaId([1; 8]), parcel_key: ParcelKey([2; 32]), caller: vault, ends: receiver, driver };
    Standing { session, ends, over }
}

fn request() -> BrokerRequest {
    BrokerRequest::Keep { leases: vec![] }
}

fn start(
    dials: impl IntoIterator<Item = Result<Session<Vault>, DialError>>,
) -> (Uplink, mpsc::Receiver<Event>, Arc<Mutex<Vec<Instant>>>) {
    let times = Arc::new(Mutex::new(Vec::new()));
    let scripted = Scripted { dials: dials.into_iter().collect(), times: Arc::clone(&times) };
    let (uplink, orders) = uplink();
    let (events, receiver) = mpsc::channel(8);
    tokio::spawn(supervise(scripted, orders, events, || u32::MAX));
    (uplink, receiver, times)
}

fn refused(code: RefusalCode) -> DialError {
    DialError::Refused(Refusal { code, detail: Text::cut("") })
}

#[tokio::test(start_paused = true)]
async fn without_a_session_every_request_is_answered_at_once() {
    let (uplink, _events, _) = start([]);
    let asked = Instant::now();
    let reason = uplink.call(request()).await.unwrap_err();
    assert_eq!(reason, NotHeard::Down);
    assert_eq!(Refusal::from(reason).code, RefusalCode::NotReady);
    assert_eq!(asked.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_is_followed_by_another() {
    let (first, second) = (standing(Vault::Answers), standing(Vault::Refuses));
    let (uplink, mut events, _) = start([Ok(first.session), Ok(second.session)]);
    assert_eq!(events.recv().await, Some(Event::Up));
    let heard = uplink.call(request()).await.unwrap();
    assert_eq!((heard.answer, heard.parcel_key), (Answer::Done, ParcelKey([2; 32])));
    first.over.send(()).unwrap();
    assert_eq!(events.recv().await, Some(Event::Up));
    assert_eq!(uplink.call(request()).await.unwrap_err(), NotHeard::Refused(RefusalCode::Denied.into()));
    drop(second.over);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_lost_when_its_session_ends_under_it() {
    let silent = standing(Vault::IsSilent);
    let (uplink, mut events, _) = start([Ok(silent.session)]);
    events.recv().await.unwrap();
    let asking = tokio::spawn(async move { uplink.call(request()).await });
    sleep(Duration::from_secs(1)).await;
    silent.over.send(()).unwrap();
    assert_eq!(asking.await.unwrap().unwrap_err(), NotHeard::Lost);
}

#[tokio::test(start_paused = true)]
async fn a_vault_that_never_answers_does_not_keep_anybody_for_ever() {
    let silent = standing(Vault::IsSilent);
    let (uplink, mut events, _) = start([Ok(silent.session)]);
    events.recv().await.unwrap();
    assert_eq!(uplink.call(request()).await.unwrap_err(), NotHeard::Lost);
    drop(silent.over);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_requests_is_refused_and_not_queued_without_bound() {
    let silent = standing(Vault::IsSilent);
    let (uplink, mut events, _) = start([Ok(silent.session)]);
    events.recv().await.unwrap();
    let mut flood = JoinSet::new();
    for _ in 0..2000 {
        let uplink = uplink.clone();
        flood.spawn(async move { uplink.call(request()).await.unwrap_err() });
    }
    let mut busy = 0;
    let mut lost = 0;
    while let Some(reason) = flood.join_next().await {
        match reason.unwrap() {
            NotHeard::Busy => busy += 1,
            NotHeard::Lost => lost += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(lost <= QUEUE + UNDER_WAY, "{lost} were let in");
    assert_eq!(busy + lost, 2000);
    drop(silent.over);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_only_an_operator_mends_is_dialled_again_less_eagerly() {
    for (code, patient) in [
        (RefusalCode::NotReady, false),
        (RefusalCode::NotAttested, true),
        (RefusalCode::HostPending, true),
        (RefusalCode::Denied, true),
    ] {
        let (_uplink, _events, times) = start((0..4).map(|_| Err(refused(code))));
        // Four dials that are refused, and one that never ends and is not given up yet.
        sleep(Duration::from_secs(77)).await;
        let times = times.lock().unwrap();
        assert_eq!(times.len(), 5, "it dials again for ever");
        assert_eq!(times[1] - times[0] >= Duration::from_secs(5), patient, "{code}");
        assert!(times.windows(3).all(|three| three[2] - three[1] > three[1] - three[0]), "waits grow");
    }
}

#[tokio::test(start_paused = true)]
async fn leases_that_the_vault_ends_are_passed_on_in_order() {
    let session = standing(Vault::Answers);
    let (_uplink, mut events, _) = start([Ok(session.session)]);
    events.recv().await.unwrap();
    for n in 0..20 {
        session.ends.send((LeaseId([n; 16]), LeaseEnd::Removed)).await.unwrap();
        assert_eq!(events.recv().await, Some(Event::LeaseEnded(LeaseId([n; 16]), LeaseEnd::Removed)));
    }
    drop(session.over);
}
