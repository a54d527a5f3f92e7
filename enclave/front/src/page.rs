//! A page for operators on a listener of its own: hosts, leases, grants, refusals and the audit, to be looked at.
//!
//! | path | answer |
//! |---|---|
//! | `GET /` | 303 to `/enter` |
//! | `GET /enter` | the form that takes a ticket of `blindferry page` |
//! | `POST /enter` | a ticket is spent, a cookie set for a room of one's own, 303 to there |
//! | `GET /look/ROOM/` | the page, for who has the room's cookie; else 303 to `/enter` |
//! | `POST /look/ROOM/leave` | the cookie opens nothing any more |
//! | `GET /page.css`, `/page.js` | the one style and the one script |
//!
//! Nobody needs to believe it: the front shows it, and the front can show what it likes. What can be believed is what
//! `blindferry status` and `blindferry audit` say over an attested session, and the page says so. It changes nothing,
//! holds no secret, and what it shows reaches the front only while an operator has the page open
//! ([decision 58](../../../docs/decisions/0058-a-page-that-nobody-needs-to-believe.md)).

pub mod entrance;
pub mod guard;
pub mod reports;
pub mod settings;
mod view;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware;
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use blindferry_proto::bounded::Text;
use blindferry_proto::front::{FromFront, MAX_ORIGIN};
use blindferry_proto::report::LOOKING;
use rustix::rand::{GetRandomFlags, getrandom};

use self::entrance::{Entrance, Looker, NotEntered, Pass};
use self::reports::{Latest, Reports};
use self::settings::{Carriage, PageSettings};

/// The page, and who may look at it.
#[derive(Debug)]
pub struct Page {
    settings: Arc<PageSettings>,
    entrance: Mutex<Entrance>,
    reports: Reports,
}

impl Page {
    /// With nobody before it.
    #[must_use]
    pub fn new(settings: PageSettings, reports: Reports) -> Self {
        Self { settings: Arc::new(settings), entrance: Mutex::default(), reports }
    }

    /// The vault told of a ticket; the answer says where to bring it.
    #[must_use]
    pub fn announce(&self, id: u64, hash: [u8; 32]) -> FromFront {
        self.entrance().announce(hash, Instant::now());
        let origin = Text::<MAX_ORIGIN>::new(self.settings.origin()).ok();
        FromFront::PageAt { id, origin }
    }

    /// What it answers.
    pub fn router(self: Arc<Self>) -> Router {
        let settings = Arc::clone(&self.settings);
        Router::new()
            .route("/", get(async || Redirect::to("/enter")))
            .route("/enter", get(async || Html(view::enter(None).into_string())).post(enter))
            .route("/look/{room}/", get(overview))
            .route("/look/{room}/leave", post(leave))
            .route("/page.css", get(async || ([(CONTENT_TYPE, "text/css; charset=utf-8")], STYLE)))
            .route("/page.js", get(async || ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT)))
            .layer(DefaultBodyLimit::max(MOST_BODY))
            .layer(middleware::from_fn_with_state(settings, guard::guard))
            .with_state(self)
    }

    fn entrance(&self) -> MutexGuard<'_, Entrance> {
        self.entrance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other servers of the same address can add cookies of our name, so the first one is not all.
    fn looker(&self, room: &str, headers: &HeaderMap) -> Option<Looker> {
        let (name, now) = (self.cookie_name(), Instant::now());
        let cookies = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
        let mut values = cookies
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .filter(|(found, _)| *found == name)
            .take(MOST_COOKIES);
        values.find_map(|(_, value)| self.entrance().looker(room, value, now))
    }

    /// A browser takes a cookie of the first name only over TLS.
    fn cookie_name(&self) -> &'static str {
        match self.settings.carriage() {
            Carriage::Tls => "__Secure-blindferry-page",
            Carriage::Loopback | Carriage::Plain => "blindferry-page",
        }
    }

    /// For the room alone: see [`entrance`].
    fn set_cookie(
        &self,
        room: &str,
        value: &str,
        seconds: u64,
    ) -> AppendHeaders<[(axum::http::HeaderName, String); 1]> {
        let secure = match self.settings.carriage() {
            Carriage::Tls => "; Secure",
            Carriage::Loopback | Carriage::Plain => "",
        };
        let name = self.cookie_name();
        let cookie =
            format!("{name}={value}; Path={}; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}", path(room));
        AppendHeaders([(SET_COOKIE, cookie)])
    }
}

async fn overview(State(page): State<Arc<Page>>, Path(room): Path<String>, headers: HeaderMap) -> Response {
    let Some(looker) = page.looker(&room, &headers) else { return Redirect::to("/enter").into_response() };
    match page.reports.latest(&looker).await {
        Latest::Report(report) => Html(view::overview(&report).into_string()).into_response(),
        Latest::Silent => (StatusCode::SERVICE_UNAVAILABLE, Html(view::silent().into_string())).into_response(),
        Latest::Closed => {
            page.entrance().close();
            Redirect::to("/enter").into_response()
        }
    }
}

async fn enter(State(page): State<Arc<Page>>, body: String) -> Response {
    let mut random = [0; Pass::RANDOM];
    if !matches!(getrandom(&mut random, GetRandomFlags::empty()), Ok(filled) if filled == random.len()) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let entered = page.entrance().enter(ticket(&body), random, Instant::now());
    match entered {
        Ok(pass) => entered_with(&page, &pass),
        Err(why) => {
            let status = match why {
                NotEntered::Wrong => {
                    tracing::warn!(name: "page-refused", "a wrong ticket was brought to the page");
                    StatusCode::FORBIDDEN
                }
                NotEntered::TooMany => StatusCode::TOO_MANY_REQUESTS,
            };
            (status, Html(view::enter(Some(why)).into_string())).into_response()
        }
    }
}

fn entered_with(page: &Page, pass: &Pass) -> Response {
    tracing::info!(name: "page-entered", "an operator looks at the page");
    let cookie = page.set_cookie(pass.room(), pass.cookie(), LOOKING);
    (cookie, Redirect::to(&path(pass.room()))).into_response()
}

async fn leave(State(page): State<Arc<Page>>, Path(room): Path<String>, headers: HeaderMap) -> Response {
    match page.looker(&room, &headers) {
        Some(looker) => {
            page.entrance().leave(looker);
            (page.set_cookie(&room, "", 0), Redirect::to("/enter")).into_response()
        }
        None => Redirect::to("/enter").into_response(),
    }
}

fn path(room: &str) -> String {
    format!("/look/{room}/")
}

/// The ticket of the form `ticket=…`, with the page's address before it or without; hexadecimal needs no decoding.
fn ticket(body: &str) -> &str {
    let value = body.split('&').find_map(|field| field.strip_prefix("ticket=")).unwrap_or_default();
    value.rsplit("%23").next().unwrap_or_default().trim_matches('+')
}

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
/// Connections at once; a browser opens up to six.
pub const CONNECTIONS: u16 = 64;
/// Cookies of our name that are tried.
const MOST_COOKIES: usize = 8;
/// A ticket, with an address before it.
const MOST_BODY: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_taken_alone_or_with_the_address_before_it() {
        assert_eq!(ticket("ticket=00ff"), "00ff");
        assert_eq!(ticket("ticket=+00ff+"), "00ff");
        assert_eq!(ticket("x=y&ticket=http%3A%2F%2F127.0.0.1%3A7490%2Fenter%2300ff"), "00ff");
        assert_eq!(ticket("00ff"), "");
    }
}
