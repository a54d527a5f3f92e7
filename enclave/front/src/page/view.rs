//! What the page looks like: HTML that is made here, every text in it escaped.

mod chart;
mod overview;
mod words;

use maud::{DOCTYPE, Markup, html};

use super::entrance::NotEntered;

pub(super) use self::overview::overview;

/// The form that takes a ticket.
pub(super) fn enter(why_not: Option<NotEntered>) -> Markup {
    let body = html! {
        div.wrap.door {
            main { section {
                h2 { "Operators' page of Blindferry" }
                @if let Some(why) = why_not {
                    p.error role="alert" { "✗ No entry: " (why) ". Ask for a new one." }
                }
                p { "On an operator's machine, run " code { "blindferry page" } " and open the address that it prints. \
                     The ticket in it is good once, for a minute." }
                form.ticket method="post" action="/enter" {
                    label for="ticket" { "Ticket, or the address with it" }
                    input #ticket name="ticket" type="text" required autocomplete="off" spellcheck="false" maxlength="400";
                    button.main type="submit" { "Enter" }
                }
            } }
        }
    };
    frame("Enter", false, &body)
}

/// Nothing to show: the vault did not answer.
pub(super) fn silent() -> Markup {
    let body = html! {
        div.wrap.door {
            main data-live="waiting" { section {
                h2 { "The vault does not answer" }
                p { "It did not report within some seconds. Its log, and the front's, say more; " code { "/readyz" }
                    " on the public address says whether it serves." }
            } }
        }
    };
    frame("No answer", true, &body)
}

/// Where scripts do not run, a page that lives is loaded anew by the browser.
fn frame(title: &str, lives: bool, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (title) " · Blindferry" }
                link rel="stylesheet" href="/page.css";
                script src="/page.js" defer {}
                @if lives { noscript { meta http-equiv="refresh" content="10"; } }
            }
            body { (body) }
        }
    }
}
