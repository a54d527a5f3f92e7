//! What both ends call a request where they tell of it in a trace, without having said a word about it to each other.
//!
//! A crossing's trace is named by its grant's identity. Its first span and those of requests with a number follow from that
//! by a digest: a worker chooses its request's number, and with it cannot choose a span's.

use blindferry_proto::identifier::{GrantId, RequestId};
use blindferry_proto::session::BrokerRequest;
use ring::digest::{Context, SHA256};

/// A request that carries a number of its worker's: which sort, and the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered(Sort, RequestId);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Redeem,
    Renew,
}

impl Numbered {
    /// That of a redemption or renewal; other requests have none.
    #[must_use]
    pub fn of(request: &BrokerRequest) -> Option<Self> {
        match request {
            BrokerRequest::Redeem(redeem) => Some(Self(Sort::Redeem, redeem.request)),
            BrokerRequest::Renew(renew) => Some(Self(Sort::Renew, renew.request)),
            _ => None,
        }
    }
}

/// The span of this request at the broker; without a number, that of the ask, which all others are parts of. The first
/// eight bytes of SHA-256 over `"blindferry span v1"` ‖ grant, 16 ‖ sort, 1 ‖ number, 16.
#[must_use]
pub fn span(grant: &GrantId, numbered: Option<Numbered>) -> [u8; 8] {
    let mut digest = Context::new(&SHA256);
    digest.update(b"blindferry span v1");
    digest.update(&grant.0);
    if let Some(Numbered(sort, request)) = numbered {
        digest.update(match sort {
            Sort::Redeem => &[1],
            Sort::Renew => &[2],
        });
        digest.update(&request.0);
    }
    let digest = digest.finish();
    let mut id = [0; 8];
    for (to, from) in id.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_one_crossing_have_spans_of_their_own() {
        let (grant, other) = (GrantId([7; 16]), GrantId([8; 16]));
        let numbers =
            [None, Some(Numbered(Sort::Redeem, RequestId([1; 16]))), Some(Numbered(Sort::Renew, RequestId([1; 16])))];
        let mut spans: Vec<[u8; 8]> =
            [grant, other].iter().flat_map(|grant| numbers.map(|number| span(grant, number))).collect();
        assert_eq!(span(&grant, numbers[1]), spans[1], "both ends come to the same");
        spans.sort_unstable();
        spans.dedup();
        assert_eq!(spans.len(), 6);
    }
}
