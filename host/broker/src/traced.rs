//! Requests to the vault as spans of a trace, and which trace a request belongs to.
//!
//! A crossing's trace is named by its grant's identity. The vault says that identity beside the grant; after that a grant
//! and a lease are known by what is remembered here, in bounded tables. What is not remembered, or never came to a grant,
//! gets a trace of its own. Nothing that a parent or a worker sends becomes an identifier.

use crate::figures::Kind;
use crate::uplink::{Heard, NotHeard};
use blindferry_proto::identifier::{AskId, GrantId, LeaseId};
use blindferry_proto::session::{Answer, BrokerRequest};
use blindferry_session::spans::{Numbered, span};
use blindferry_traces::{Place, Span, SpanId, TraceId, Traces};
use blindferry_watch::figures::Step;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Tells of requests.
#[derive(Debug)]
pub struct Tracer {
    traces: Traces,
    known: Mutex<Known>,
}

/// Which grant is behind what.
#[derive(Debug)]
struct Known {
    /// A grant is known by a hash that nobody else can work out; the bytes are not kept.
    hashes: RandomState,
    grants: Recent<u64, GrantId>,
    leases: Recent<LeaseId, GrantId>,
    waiting: Recent<AskId, Begun>,
}

/// A request that goes out.
#[derive(Debug)]
pub(crate) struct Begun {
    kind: Kind,
    since: Instant,
    about: About,
    attributes: Vec<(&'static str, String)>,
}

/// What a request is about, as far as can be told before it is answered.
#[derive(Clone, Copy, Debug)]
enum About {
    /// An ask: its grant comes with the answer.
    Ask,
    /// An ask that waits for a person.
    Waiting(AskId),
    /// Part of a crossing.
    Grant(GrantId, Option<Numbered>),
    /// A grant that is not remembered.
    Stray,
    /// Nothing that is told.
    Nothing,
}

impl Tracer {
    /// Tells of them here.
    #[must_use]
    pub fn new(traces: Traces) -> Self {
        let known = Known {
            hashes: RandomState::new(),
            grants: Recent::default(),
            leases: Recent::default(),
            waiting: Recent::default(),
        };
        Self { traces, known: Mutex::new(known) }
    }

    /// Before a request goes out.
    pub(crate) fn begin(&self, request: &BrokerRequest, since: Instant) -> Begun {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let of =
            |grant: Option<&GrantId>| grant.map_or(About::Stray, |grant| About::Grant(*grant, Numbered::of(request)));
        let about = match request {
            BrokerRequest::Ask(_) => About::Ask,
            BrokerRequest::Collect { ask } | BrokerRequest::Withdraw { ask } => About::Waiting(*ask),
            BrokerRequest::Delivered(delivered) => of(Some(&delivered.grant)),
            BrokerRequest::Redeem(redeem) => of(known.grants.get(&known.hashes.hash_one(redeem.grant.as_slice()))),
            BrokerRequest::Acknowledge { lease, .. } | BrokerRequest::End { lease, .. } => of(known.leases.get(lease)),
            BrokerRequest::Renew(renew) => of(known.leases.get(&renew.lease)),
            BrokerRequest::Keep { .. } => About::Nothing,
        };
        let attributes = match request {
            BrokerRequest::Ask(ask) => {
                vec![("blindferry.credential", ask.credential.to_string()), ("user.id", ask.parent.uid.to_string())]
            }
            BrokerRequest::Redeem(redeem) => vec![("user.id", redeem.worker.uid.to_string())],
            _ => Vec::new(),
        };
        Begun { kind: Kind::from(request), since, about, attributes }
    }

    /// After it was answered, or not.
    pub(crate) fn end(&self, begun: Begun, heard: &Result<Heard, NotHeard>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = heard.as_ref().ok().map(|heard| &heard.answer);
        // An ask that waited is one span, from the beginning; how often the vault was asked for it is not told.
        let begun = match (begun.about, answer) {
            (About::Ask, Some(Answer::Waiting(waiting))) => return known.waiting.put(waiting.ask, begun),
            (About::Waiting(_), Some(Answer::Waiting(_))) | (About::Nothing, _) => return,
            (About::Waiting(_), None) if matches!(heard, Err(NotHeard::Busy)) => return,
            (About::Waiting(ask), _) => match known.waiting.take(&ask) {
                Some(asked) => asked,
                None => return,
            },
            _ => begun,
        };
        let grant = match (begun.about, answer) {
            (About::Ask, Some(Answer::Granted(granted))) => {
                let hash = known.hashes.hash_one(granted.grant.as_slice());
                known.grants.put(hash, granted.id);
                Some((granted.id, None))
            }
            (About::Grant(grant, numbered), _) => Some((grant, Some(numbered))),
            _ => None,
        };
        if let (Some((grant, _)), Some(Answer::Parcelled(parcelled))) = (grant, answer) {
            known.leases.put(parcelled.lease, grant);
        }
        drop(known);
        let (trace, id, parent) = match grant {
            // The ask is what all else is a part of.
            Some((grant, None)) => (TraceId(grant.0), SpanId(span(&grant, None)), None),
            Some((grant, Some(numbered))) => {
                let id = numbered.map_or_else(SpanId::random, |_| SpanId(span(&grant, numbered)));
                (TraceId(grant.0), id, Some(SpanId(span(&grant, None))))
            }
            None => (TraceId::random(), SpanId::random(), None),
        };
        self.traces.tell(Span {
            process: "blindferryd",
            trace,
            id,
            parent,
            name: begun.kind.name().to_owned(),
            place: Place::Client,
            ended: Duration::ZERO,
            took: begun.since.elapsed(),
            refused: heard.as_ref().err().map(|reason| code(reason).to_owned()),
            attributes: begun.attributes,
        });
    }
}

/// The code of a refusal, or why there is no answer.
fn code(reason: &NotHeard) -> &'static str {
    match reason {
        NotHeard::Refused(refusal) => refusal.code.as_str(),
        NotHeard::Down => "down",
        NotHeard::Lost => "lost",
        NotHeard::Busy => "busy",
    }
}

/// The newest [`REMEMBERED`] of something.
#[derive(Debug)]
struct Recent<K, V> {
    values: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { values: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    fn put(&mut self, key: K, value: V) {
        if self.values.insert(key, value).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }

    fn take(&mut self, key: &K) -> Option<V> {
        self.values.remove(key)
    }
}

/// Of each: more grants than are under way on a large host, and more leases than one may have by default.
const REMEMBERED: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let mut recent = Recent::default();
        for key in 0..3 * REMEMBERED {
            recent.put(key, ());
            // One that is taken leaves no place behind that is never given back.
            if key % 2 == 0 {
                recent.take(&key);
            }
        }
        assert!(recent.order.len() <= REMEMBERED && recent.values.len() <= REMEMBERED);
        assert!(recent.get(&1).is_none() && recent.get(&(3 * REMEMBERED - 1)).is_some());
    }
}
