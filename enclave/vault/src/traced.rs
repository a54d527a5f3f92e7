//! What one request of a broker did, for the front to tell as a trace: where the front asked for that, and nowhere else.
//!
//! While a request is answered its task carries a recorder; steps that are measured for the metrics are noted there too.
//! Numbers leave the vault and words of the code, and the identity of the grant. Whoever has the front learns no more by
//! that than how long each step took.

use crate::figures::Kind;
use blindferry_proto::bounded::Text;
use blindferry_proto::front::{MAX_STEPS, Part, Traced};
use blindferry_proto::identifier::GrantId;
use blindferry_proto::refusal::Refusal;
use blindferry_session::spans::{Numbered, span};
use blindferry_watch::figures::Step;
use std::cell::RefCell;
use std::future::Future;
use std::time::{Duration, Instant};

tokio::task_local! {
    static RECORDER: RefCell<Recorded>;
}

/// What was noted while a request was answered.
#[derive(Debug)]
pub(crate) struct Recorded {
    since: Instant,
    grant: Option<GrantId>,
    parts: Vec<Part>,
}

/// Answers a request that came at `since`, and notes what is done for it.
pub(crate) async fn recorded<F: Future>(since: Instant, answering: F) -> (F::Output, Recorded) {
    let recorder = RefCell::new(Recorded { since, grant: None, parts: Vec::new() });
    let both = async {
        let output = answering.await;
        let noted = RECORDER.with(|recorder| recorder.replace(Recorded { since, grant: None, parts: Vec::new() }));
        (output, noted)
    };
    RECORDER.scope(recorder, both).await
}

/// The request under way is about this grant.
pub(crate) fn about(grant: GrantId) {
    let _nobody_records = RECORDER.try_with(|recorder| recorder.borrow_mut().grant = Some(grant));
}

/// A step of the request under way has just ended.
pub(crate) fn note(kind: Kind, took: Duration) {
    let _nobody_records = RECORDER.try_with(|recorder| {
        let mut recorded = recorder.borrow_mut();
        if recorded.parts.len() < MAX_STEPS {
            let began = microseconds(recorded.since.elapsed().saturating_sub(took));
            recorded.parts.push(Part { step: Text::cut(kind.name()), began, microseconds: microseconds(took) });
        }
    });
}

impl Recorded {
    /// What the front is told, if a grant was found that it is about.
    pub(crate) fn told(self, kind: Kind, numbered: Option<Numbered>, refusal: Option<&Refusal>) -> Option<Traced> {
        let grant = self.grant?;
        Some(Traced {
            grant,
            parent: span(&grant, numbered),
            step: Text::cut(kind.name()),
            refusal: refusal.map(|refusal| Text::cut(refusal.code.as_str())),
            microseconds: microseconds(self.since.elapsed()),
            parts: self.parts,
        })
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_notes_its_own_steps_and_no_others() {
        let grant = GrantId([7; 16]);
        let answering = async {
            note(Kind::Mint, Duration::ZERO);
            tokio::spawn(async { note(Kind::StoreCommit, Duration::ZERO) }).await.unwrap();
            about(grant);
        };
        let ((), noted) = recorded(Instant::now(), answering).await;
        note(Kind::Audit, Duration::ZERO);
        let told = noted.told(Kind::Redeem, None, None).unwrap();
        assert_eq!((told.grant, told.step.as_str()), (grant, "redeem"));
        assert_eq!(told.parts.iter().map(|part| part.step.as_str()).collect::<Vec<_>>(), ["mint"]);
    }

    #[tokio::test]
    async fn what_is_about_no_grant_is_not_told_and_steps_are_bounded() {
        let ((), noted) = recorded(Instant::now(), async { note(Kind::Mint, Duration::ZERO) }).await;
        assert_eq!(noted.told(Kind::Broker, None, None), None);
        let many = async {
            about(GrantId([7; 16]));
            (0..2 * MAX_STEPS).for_each(|_| note(Kind::StoreRead, Duration::ZERO));
        };
        let told = recorded(Instant::now(), many).await.1.told(Kind::Broker, None, None).unwrap();
        assert_eq!(told.parts.len(), MAX_STEPS);
    }
}
