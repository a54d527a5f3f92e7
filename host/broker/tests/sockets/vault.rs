//! A vault that is played at the broker's uplink: it keeps the rules of grants, and writes down what it is told.

use blindferry_broker::uplink::{Event, Heard, NotHeard, Order, Orders};
use blindferry_proto::bounded::{Bytes, Text};
use blindferry_proto::identifier::{AskId, GrantId, LeaseId, ParcelKey, RequestId, WorkerKey};
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::session::{Answer, BrokerRequest, Granted, LeaseEnd, Parcelled, Request};
use blindferry_proto::waiting::Waiting;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

/// The ask of `by-hand`, which waits until somebody decides.
pub(crate) const WAITING_ASK: AskId = AskId([9; 8]);
pub(crate) const PARCEL_KEY: ParcelKey = ParcelKey([0xcc; 32]);

#[derive(Clone)]
pub(crate) struct Vault {
    state: Arc<Mutex<State>>,
    events: mpsc::Sender<Event>,
}

#[derive(Default)]
struct State {
    down: bool,
    slow: bool,
    unanswered: Vec<oneshot::Sender<Result<Heard, NotHeard>>>,
    idle: u32,
    unknown: Vec<LeaseId>,
    told: Vec<BrokerRequest>,
    grants: u8,
    decided: Option<bool>,
    spent: HashMap<Vec<u8>, (WorkerKey, RequestId, LeaseId)>,
}

impl Vault {
    pub(crate) fn play(mut orders: Orders, events: mpsc::Sender<Event>) -> Self {
        let vault = Self { state: Arc::default(), events };
        vault.state.lock().unwrap().idle = 90;
        let played = vault.clone();
        tokio::spawn(async move {
            while let Some(Order { request, reply }) = orders.recv().await {
                let mut state = played.state.lock().unwrap();
                if state.slow && Request::Broker(request.clone()).is_report() {
                    state.told.push(request);
                    state.unanswered.push(reply);
                    continue;
                }
                let answer = state.answer(request);
                let _gone = reply.send(answer.map(|answer| Heard { answer, parcel_key: PARCEL_KEY }));
            }
        });
        vault
    }

    pub(crate) fn go_down(&self) {
        self.state.lock().unwrap().down = true;
    }

    pub(crate) async fn come_up(&self) {
        self.state.lock().unwrap().down = false;
        self.events.send(Event::Up).await.unwrap();
    }

    /// From now on nothing that only reports is answered.
    pub(crate) fn slow_down(&self) {
        self.state.lock().unwrap().slow = true;
    }

    /// What was reported meanwhile is answered, and what comes from now on at once.
    pub(crate) fn speed_up(&self) {
        let mut state = self.state.lock().unwrap();
        state.slow = false;
        for reply in std::mem::take(&mut state.unanswered) {
            let _gone = reply.send(Ok(Heard { answer: Answer::Done, parcel_key: PARCEL_KEY }));
        }
    }

    /// A person decides about what waits.
    pub(crate) fn decide(&self, yes: bool) {
        self.state.lock().unwrap().decided = Some(yes);
    }

    pub(crate) fn set_idle(&self, seconds: u32) {
        self.state.lock().unwrap().idle = seconds;
    }

    /// From now on there is no such lease.
    pub(crate) fn lose(&self, lease: LeaseId) {
        self.state.lock().unwrap().unknown.push(lease);
    }

    pub(crate) async fn end(&self, lease: LeaseId, why: LeaseEnd) {
        self.events.send(Event::LeaseEnded(lease, why)).await.unwrap();
    }

    pub(crate) fn told(&self) -> Vec<BrokerRequest> {
        self.state.lock().unwrap().told.clone()
    }

    /// Waits until the vault was told something, and says after how long.
    pub(crate) async fn wait_for(&self, what: impl Fn(&BrokerRequest) -> bool) -> Duration {
        let began = Instant::now();
        while !self.told().iter().any(&what) {
            assert!(began.elapsed() < Duration::from_secs(10), "never told; told were {:?}", self.told());
            sleep(Duration::from_millis(5)).await;
        }
        began.elapsed()
    }

    pub(crate) fn keeps_of(&self, lease: LeaseId) -> usize {
        self.told()
            .iter()
            .filter(|told| matches!(told, BrokerRequest::Keep { leases } if leases.contains(&lease)))
            .count()
    }
}

impl State {
    fn answer(&mut self, request: BrokerRequest) -> Result<Answer, NotHeard> {
        if self.down {
            return Err(NotHeard::Down);
        }
        self.told.push(request.clone());
        match request {
            BrokerRequest::Ask(ask) if ask.credential.as_str() == "forbidden" => refused(RefusalCode::Denied),
            BrokerRequest::Ask(ask) if ask.credential.as_str() == "by-hand" => match ask.wait {
                Some(_) => Ok(Answer::Waiting(Waiting { ask: WAITING_ASK, seconds: 300 })),
                None => refused(RefusalCode::ApprovalRequired),
            },
            BrokerRequest::Collect { ask } => match self.decided.take() {
                None => Ok(Answer::Waiting(Waiting { ask, seconds: 299 })),
                Some(true) => Ok(self.granted()),
                Some(false) => refused(RefusalCode::ApprovalDenied),
            },
            BrokerRequest::Ask(_) => Ok(self.granted()),
            BrokerRequest::Redeem(redeem) => {
                let fresh = LeaseId([0x10 + u8::try_from(self.spent.len()).unwrap(); 16]);
                let spent = (redeem.worker_key, redeem.request, fresh);
                let (key, number, lease) = *self.spent.entry(redeem.grant.into_vec()).or_insert(spent);
                if (key, number) == (redeem.worker_key, redeem.request) {
                    Ok(self.parcelled(lease, number))
                } else {
                    refused(RefusalCode::GrantSpent)
                }
            }
            BrokerRequest::Renew(renew) => Ok(self.parcelled(renew.lease, renew.request)),
            BrokerRequest::Keep { leases } if leases.iter().any(|lease| self.unknown.contains(lease)) => {
                refused(RefusalCode::Unknown)
            }
            _ => Ok(Answer::Done),
        }
    }

    fn granted(&mut self) -> Answer {
        self.grants += 1;
        Answer::Granted(Granted {
            id: GrantId([self.grants; 16]),
            grant: Bytes::new(grant(self.grants)).unwrap(),
            expires: 4_000_000_000,
        })
    }

    fn parcelled(&self, lease: LeaseId, request: RequestId) -> Answer {
        Answer::Parcelled(Parcelled {
            lease,
            parcel: Bytes::new(parcel(lease, request)).unwrap(),
            expires: 4_000_000_000,
            lease_idle: self.idle,
            token_type: Text::cut("Bearer"),
        })
    }
}

fn refused(code: RefusalCode) -> Result<Answer, NotHeard> {
    Err(NotHeard::Refused(code.into()))
}

/// What the grant of this number looks like: all byte values, so that nothing may treat it as text.
pub(crate) fn grant(number: u8) -> Vec<u8> {
    (0..=255).map(|byte: u8| byte ^ number).collect()
}

/// What the parcel for this request looks like.
pub(crate) fn parcel(lease: LeaseId, request: RequestId) -> Vec<u8> {
    [lease.0, request.0].concat().repeat(200)
}
