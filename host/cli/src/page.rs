//! `page`: a ticket for the page that the enclave's front shows to operators.

use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::span;
use crate::session::with_session;
use blindferry_proto::operator::{OperatorReply, OperatorRequest};
use blindferry_proto::report::{LOOKING, PageTicket, TICKET_LIFE};
use blindferry_proto::shown::hides;
use serde::Serialize;

/// Open the operators' page of the enclave: prints an address with a ticket in it, which is good once
///
/// The page is shown by the front, which holds no key and which nobody needs to believe: before you act on what it says,
/// ask with `status`, `host list` and `audit`. For the hours in which the page may be looked at, the front is told who uses
/// which credential where, which it otherwise does not see.
#[derive(Debug, clap::Args)]
pub(crate) struct Page {}

/// Where to go, with the ticket: this is what the operator asked for, so it is printed.
#[derive(Serialize)]
struct Address {
    url: String,
    ticket_seconds: u64,
    page_seconds: u64,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation) -> Result<(), Failure> {
    let doing = "ask for the page";
    let reply = with_session(invocation, async |session| session.ask(doing, OperatorRequest::Page).await)?;
    let OperatorReply::Page { origin, ticket } = reply else { return Err(Failure::Unexpected { doing }) };
    let url = url(origin.as_str(), &ticket).ok_or(Failure::Unexpected { doing })?;
    let address = Address { url, ticket_seconds: TICKET_LIFE, page_seconds: LOOKING };
    invocation.output.show(&address, || {
        format!(
            "{}\nGood once, within {}; the page then stays open for {}.\n",
            address.url,
            span(TICKET_LIFE),
            span(LOOKING)
        )
    })
}

/// The address; `None` when the front, which says where its page is, says something else. The ticket stands behind a `#`:
/// browsers send that to nobody, and nobody logs it.
fn url(origin: &str, ticket: &PageTicket) -> Option<String> {
    let authority = ["http://", "https://"].iter().find_map(|scheme| origin.strip_prefix(scheme))?;
    let plain = !authority.is_empty()
        && !authority.chars().any(|letter| hides(letter) || letter.is_whitespace() || "/#?@\\".contains(letter));
    plain.then(|| format!("{origin}/enter#{}", ticket.to_text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_front_cannot_have_anything_but_an_origin_printed() {
        let ticket = PageTicket::new([7; PageTicket::LEN]);
        let good = url("http://127.0.0.1:7490", &ticket).unwrap();
        assert_eq!(good, format!("http://127.0.0.1:7490/enter#{}", "07".repeat(32)));
        assert!(url("https://vault.example", &ticket).is_some());
        for evil in
            ["file:///etc", "http://", "http://a/b", "http://a\u{1b}[2J", "http://a b", "http://u@a", "http://a?x"]
        {
            assert_eq!(url(evil, &ticket), None, "{evil}");
        }
    }
}
