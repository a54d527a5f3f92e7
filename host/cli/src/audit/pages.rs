//! Takes page after page of the audit. Each record is verified before anybody sees it; whoever follows compares with the
//! head at every look.

use crate::audit::AuditError;
use crate::audit::verify::{Broken, Chain, Head};
use crate::failure::Failure;
use blindferry_proto::audit::{Body, Record};
use blindferry_proto::identifier::AuditKey;
use std::time::Duration;

/// What the vault answered.
#[derive(Debug)]
pub(crate) struct Page {
    /// Records in order; empty at the end.
    pub(crate) records: Vec<Record>,
    /// The newest there is.
    pub(crate) head: Option<Head>,
    /// Who signed them, says the vault.
    pub(crate) key: AuditKey,
}

/// Whom records go to.
pub(crate) trait Reader {
    /// A record as it came: one that does not verify is evidence.
    ///
    /// # Errors
    /// It cannot be kept.
    fn keep(&mut self, record: &Record) -> Result<(), Failure>;
    /// A record that was verified.
    ///
    /// # Errors
    /// It cannot be shown.
    fn show(&mut self, record: &Record, body: &Body) -> Result<(), Failure>;
}

/// Takes everything that there is, and compares with the head. The head.
///
/// # Errors
/// What `ask` or `reader` said; [`AuditError::Broken`].
pub(crate) async fn catch_up(
    ask: &mut impl AsyncFnMut(u64) -> Result<Page, Failure>,
    pinned: AuditKey,
    chain: &mut Chain,
    reader: &mut impl Reader,
) -> Result<Option<Head>, Failure> {
    let mut empty_pages = 0;
    loop {
        let Page { records, head, key } = ask(chain.next()).await?;
        if key != pinned {
            return Err(AuditError::from(Broken::Key { found: key, pinned }).into());
        }
        if !records.is_empty() {
            empty_pages = 0;
            for record in &records {
                reader.keep(record)?;
                let verified = chain.accept(record).map_err(AuditError::from)?;
                reader.show(record, verified.body())?;
            }
            continue;
        }
        // A record may have come between the reading of the page and of the head; it is there when asked again.
        empty_pages += 1;
        if empty_pages < EMPTY_PAGES && head.is_some_and(|head| head.number >= chain.next()) {
            continue;
        }
        return Ok(head);
    }
}

/// Catches up, and goes on doing so.
///
/// # Errors
/// Why it cannot go on, as with [`catch_up`].
pub(crate) async fn follow(
    ask: &mut impl AsyncFnMut(u64) -> Result<Page, Failure>,
    pinned: AuditKey,
    chain: &mut Chain,
    reader: &mut impl Reader,
    pause: Duration,
) -> Result<std::convert::Infallible, Failure> {
    loop {
        let head = catch_up(ask, pinned, chain, reader).await?;
        chain.agrees(head).map_err(AuditError::from)?;
        tokio::time::sleep(pause).await;
    }
}

/// So many pages may be empty although the vault names a newer record.
const EMPTY_PAGES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verify::hash_of;
    use crate::audit::verify::tests::audit;
    use crate::session::runtime;
    use blindferry_proto::bounded::Bytes;

    #[derive(Default)]
    struct Shown(Vec<u64>);

    impl Reader for Shown {
        fn keep(&mut self, _: &Record) -> Result<(), Failure> {
            Ok(())
        }
        fn show(&mut self, _: &Record, body: &Body) -> Result<(), Failure> {
            self.0.push(body.number);
            Ok(())
        }
    }

    /// Follows an audit of which one more record is there at each look; `change` sees all of them before each.
    fn followed(change: impl Fn(usize, &mut Vec<Record>, &mut Option<Head>)) -> (Vec<u64>, Failure) {
        let (key, records) = audit(1, 6);
        let mut shown = Shown::default();
        let mut chain = Chain::from(key, 0);
        let mut looks = 0;
        let mut ask = async |from: u64| {
            looks += 1;
            let mut there: Vec<Record> = records.iter().take(looks).cloned().collect();
            if there.len() == records.len() {
                return Err(Failure::NotConfirmed);
            }
            let mut head =
                there.last().map(|last| Head { number: u64::try_from(there.len()).unwrap() - 1, hash: hash_of(last) });
            change(looks, &mut there, &mut head);
            let records = there.into_iter().skip(usize::try_from(from).unwrap()).collect();
            Ok(Page { records, head, key })
        };
        let over = runtime().unwrap().block_on(follow(&mut ask, key, &mut chain, &mut shown, Duration::ZERO));
        (shown.0, over.unwrap_err())
    }

    #[test]
    fn who_follows_sees_each_record_once_and_in_order() {
        let (shown, over) = followed(|_, _, _| {});
        assert_eq!(shown, [0, 1, 2, 3, 4]);
        assert!(matches!(over, Failure::NotConfirmed), "until there is nothing more: {over}");
    }

    #[test]
    fn a_changed_record_is_told_while_following_and_not_shown() {
        let (shown, over) = followed(|_, records, _| {
            if let Some(record) = records.get_mut(2) {
                let mut body = record.body.as_slice().to_vec();
                *body.last_mut().unwrap() ^= 1;
                record.body = Bytes::new(body).unwrap();
            }
        });
        assert_eq!(shown, [0, 1]);
        assert!(matches!(over, Failure::Audit(AuditError::Broken(Broken::Signature { number: 2 }))), "{over}");
    }

    #[test]
    fn an_audit_that_was_put_back_is_told_while_following() {
        let (_, over) = followed(|looks, records, head| {
            if looks > 3 {
                records.truncate(1);
                *head = records.first().map(|first| Head { number: 0, hash: hash_of(first) });
            }
        });
        assert!(matches!(over, Failure::Audit(AuditError::Broken(Broken::HeadBehind { .. }))), "{over}");
    }
}
