//! What every answer of the page says to the browser, and whose requests are not answered at all.
//!
//! A site that a browser visits can point its own name at our address (DNS rebinding), and then reads what we answer: so
//! the name in `Host` must be ours. It can send forms to us: so what changes anything must say that it comes from our
//! page, by `Sec-Fetch-Site`, which no site can set, or by `Origin`.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::settings::{Carriage, PageSettings};

/// What a page may do in the browser: show itself, with one style and one script of ours.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                          form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Refuses what does not come to us, or not from us; says on every answer what the browser may do with it.
pub async fn guard(
    State(page): State<Arc<PageSettings>>,
    request: Request,
    next: Next,
) -> Result<Response, Infallible> {
    let mut response = match refusal(&page, request.method(), request.headers()) {
        Some(why) => (StatusCode::FORBIDDEN, why).into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, referrer_policy(page.carriage())),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// Without TLS over a network browsers send no `Sec-Fetch-Site`, and under `no-referrer` an `Origin` that says nothing.
fn referrer_policy(carriage: Carriage) -> &'static str {
    match carriage {
        Carriage::Tls | Carriage::Loopback => "no-referrer",
        Carriage::Plain => "same-origin",
    }
}

fn refusal(page: &PageSettings, method: &Method, headers: &HeaderMap) -> Option<&'static str> {
    match only(headers, &HOST) {
        Some(host) if page.is_host(host) => {}
        _ => return Some("this is not what the page is called here\n"),
    }
    if *method == Method::GET || *method == Method::HEAD {
        return None;
    }
    let ours = match headers.contains_key(SEC_FETCH_SITE) {
        true => only(headers, &SEC_FETCH_SITE) == Some("same-origin"),
        false => only(headers, &ORIGIN).is_some_and(|origin| page.is_origin(origin)),
    };
    if ours { None } else { Some("this does not come from the page\n") }
}

/// The one value of a header; `None` where there is none, more than one, or none that is text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Fetch Metadata Request Headers, W3C, section 2.4; browsers send it to loopback and over TLS.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: &Method, headers: &[(&'static str, &'static str)]) -> bool {
        let page: PageSettings = toml::from_str("listen = \"127.0.0.1:7490\"").unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        refusal(&page, method, &map).is_some()
    }

    #[test]
    fn a_name_that_was_pointed_at_us_is_refused() {
        assert!(!refused(&Method::GET, &[("host", "127.0.0.1:7490")]));
        assert!(refused(&Method::GET, &[("host", "evil.example:7490")]));
        assert!(refused(&Method::GET, &[]));
        assert!(refused(&Method::GET, &[("host", "127.0.0.1:7490"), ("host", "evil.example")]));
    }

    #[test]
    fn a_form_of_another_site_is_refused() {
        let host = ("host", "127.0.0.1:7490");
        assert!(!refused(&Method::POST, &[host, ("origin", "http://127.0.0.1:7490")]));
        assert!(!refused(&Method::POST, &[host, ("origin", "null"), ("sec-fetch-site", "same-origin")]));
        assert!(refused(&Method::POST, &[host]));
        assert!(refused(&Method::POST, &[host, ("origin", "null")]));
        assert!(refused(&Method::POST, &[host, ("origin", "http://evil.example")]));
        assert!(refused(&Method::POST, &[host, ("origin", "http://127.0.0.1:7490"), ("sec-fetch-site", "same-site")]));
        assert!(refused(&Method::POST, &[host, ("sec-fetch-site", "none")]));
    }
}
