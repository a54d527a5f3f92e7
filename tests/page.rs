//! Does the operators' page show a real browser how the fleet is, to operators alone, and nothing else to anybody?

use blindferry_front::page;
use blindferry_proto::audit::Event;
use blindferry_proto::credential::Kind;
use blindferry_proto::operator::{Approvee, OperatorRequest};
use blindferry_proto::refusal::RefusalCode;
use blindferry_tests::browser::{Browser, ELSEWHERE};
use blindferry_tests::command::Desk;
use blindferry_tests::fleet::{Fleet, HOST, Plan};
use blindferry_tests::operator::settings;
use blindferry_tests::operators_page::reports::{HOSTILE, busy, hostile, quiet};
use blindferry_tests::operators_page::{Inside, ScriptedPage, exchange};
use blindferry_tests::overhearing::Overhearing;
use blindferry_tests::process::eventually;
use blindferry_tests::tpm::adjacent_ports;
use blindferry_tests::worker::{ScriptedWorker, ask_for};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MASTER: &str = "sk-live-8d40c1ae7b2f93560e1a-page";

#[test]
fn an_operator_enters_by_a_ticket_and_sees_the_fleet_in_a_real_browser() {
    let Some(browser) = Browser::start() else { return };
    let plan = Plan::default();
    let Some(mut fleet) = Fleet::set_up(&plan) else { return };
    let listen = format!("127.0.0.1:{}", adjacent_ports());
    fleet.enclave.configure_with(&plan, &format!("[page]\nlisten = \"{listen}\"\n"));
    fleet.init(&plan);
    fleet.enclave.serve();
    fleet.operator().approve(HOST, Approvee::Ek(fleet.host.tpm.ek()));
    fleet.host.serve();
    let (operator, desk) = (fleet.operator(), Desk::of(&fleet));
    operator.put("payments-api", settings(Kind::Release), MASTER.as_bytes());
    let mut worker = ScriptedWorker::start(&fleet, ask_for(&fleet, "payments-api").unwrap(), fleet.enclave.public);
    assert!(worker.says()["lease"].is_string());
    assert!(ask_for(&fleet, "no-such-credential").is_err());

    let said = desk.says(&["page"]);
    let url = said["url"].as_str().unwrap();
    let ticket = url.strip_prefix(&format!("http://{listen}/enter#")).unwrap();
    browser.open(url);
    browser.titled("Overview");
    let text = browser.reads("payments-api");
    for shown in [
        HOST,
        "● connected",
        "✓ accepted",
        "✓ audit verified by the vault",
        "granted",
        "Last proved",
        "you need not believe it",
    ] {
        assert!(text.contains(shown), "{shown:?} is not in {text}");
    }
    assert!(!browser.url().contains(ticket), "the ticket went from the address");
    assert_eq!(browser.run("return document.cookie"), "", "a script sees no cookie");
    assert!(
        operator
            .events()
            .iter()
            .any(|event| matches!(event, Event::Operator { action, .. } if action.as_str() == "page"))
    );

    // Nothing that is secret is on it, and the search finds what is there.
    let html = browser.run("return document.documentElement.outerHTML");
    let html = html.as_str().unwrap();
    assert!(html.contains("payments-api") && !html.contains(MASTER) && !html.contains(ticket));

    // It renews itself without being loaded anew.
    browser.run("window.mark = 'the same page'");
    operator.put("a-new-one", settings(Kind::Release), MASTER.as_bytes());
    browser.reads("a-new-one");
    assert_eq!(browser.run("return window.mark"), "the same page");

    // The same address a second time, from another browser.
    browser.click("header button");
    browser.titled("Enter");
    browser.open("about:blank");
    browser.open(url);
    assert!(browser.reads("No entry").contains("this ticket is not good"));
    browser.open(&format!("http://{listen}/"));
    browser.titled("Enter");
}

#[test]
fn without_a_page_in_the_configuration_the_operator_is_told_so() {
    let Some(fleet) = Fleet::start() else { return };
    let refused = fleet.operator().ask(OperatorRequest::Page).unwrap_err();
    assert_eq!(refused.code, RefusalCode::Unknown);
    assert!(refused.detail.as_str().contains("[page]"), "{refused}");
}

#[test]
fn hostile_texts_stay_texts_in_a_real_browser() {
    let Some(browser) = Browser::start() else { return };
    // The same text does run where nobody escapes it.
    browser.open(&format!("data:text/html,{}", HOSTILE.replace('<', "%3C").replace('>', "%3E")));
    browser.titled("ran");
    let inline =
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s);";
    browser.run(inline);
    assert_eq!(browser.run("return window.ran"), 1);

    let page = ScriptedPage::start(hostile());
    let ticket = page.ticket(1);
    browser.open(&format!("{}/enter#{ticket}", page.origin()));
    browser.titled("Overview");
    let text = browser.reads("onerror");
    assert!(text.matches(HOSTILE).count() >= 6, "each place shows it as it is: {text}");
    assert_eq!(browser.run("return document.querySelectorAll('main img').length"), 0);
    // And were one place forgotten, the policy of the page forbids what is inline.
    browser.run(inline);
    assert_eq!(browser.run("return window.ran === undefined"), true);
    assert!(browser.title().contains("Overview"));
}

#[test]
fn a_site_that_points_its_name_at_the_page_reads_nothing_and_sends_nothing() {
    let Some(browser) = Browser::start() else { return };
    let page = ScriptedPage::start(hostile());
    let ticket = page.ticket(1);
    // Under its own name the page is there; under the attacker's, the same socket says no.
    browser.open(&format!("{}/enter", page.origin()));
    browser.reads("Operators' page");
    browser.open(&format!("http://{ELSEWHERE}:{}/enter", page.address.port()));
    assert!(browser.reads("not what the page is called").lines().count() <= 2);
    // A form of a foreign site with a good ticket, which would have the operator look at the attacker's session.
    let form = format!("<form method=post action={}/enter><input name=ticket value={ticket}></form>", page.origin());
    browser.open(&format!("data:text/html,{}", form.replace('<', "%3C").replace('>', "%3E")));
    browser.run("document.forms[0].submit()");
    browser.reads("does not come from the page");
    assert!(page.enter(&ticket).is_ok(), "the ticket was not spent");
}

#[test]
fn another_server_of_the_same_address_is_not_sent_the_cookie() {
    let Some(browser) = Browser::start() else { return };
    let page = ScriptedPage::start(quiet());
    let other = Overhearing::start();
    browser.open(&format!("{}/enter#{}", page.origin(), page.ticket(1)));
    browser.titled("Overview");
    let room = browser.run("return location.pathname");
    let hears = |path: &str| {
        browser.open(&format!("http://{}{path}", other.address));
        browser.titled("Other");
        other.last()
    };
    // Wherever it has the browser go, but for the path that it does not know.
    for path in ["/", "/look/", "/enter", &format!("/look/{}/", "0".repeat(32))] {
        let heard = hears(path);
        assert!(heard.starts_with(&format!("GET {path} ")) && !heard.contains("blindferry-page"), "{heard}");
    }
    let heard = hears(room.as_str().unwrap());
    assert!(heard.contains("blindferry-page="), "positive control: the path is what keeps the cookie: {heard}");
    // Nor does it learn the path where the page was left for it, and what it sets itself does not open or close the page.
    browser.open(&format!("{}{}", page.origin(), room.as_str().unwrap()));
    browser.titled("Overview");
    browser.run(&format!("location.href = 'http://{}/from'", other.address));
    browser.titled("Other");
    let heard = other.last();
    assert!(heard.starts_with("GET /from ") && !heard.to_ascii_lowercase().contains("referer"), "{heard}");
    browser.run("document.cookie = 'blindferry-page=mine; Path=/'");
    browser.open(&format!("{}{}", page.origin(), room.as_str().unwrap()));
    browser.titled("Overview");
}

#[test]
fn it_is_read_in_the_dark_and_on_a_phone() {
    let Some(browser) = Browser::start() else { return };
    let page = ScriptedPage::start(busy());
    browser.open(&format!("{}/enter#{}", page.origin(), page.ticket(1)));
    browser.titled("Overview");
    for (name, width, colours) in [("light", 1280, "light"), ("dark", 1280, "dark"), ("phone", 390, "light")] {
        browser.look(width, 900, colours);
        browser.reads("worker-17");
        let wider = browser.run("return document.documentElement.scrollWidth - innerWidth");
        assert!(wider.as_i64().unwrap() <= 0, "{name} is wider than its window by {wider}");
        let weak = browser.run(CONTRAST);
        assert_eq!(weak.as_array().map(Vec::len), Some(0), "{name} has texts without contrast: {weak}");
        if let Some(directory) = std::env::var_os("BLINDFERRY_SCREENSHOTS") {
            browser.screenshot(&Path::new(&directory).join(format!("{name}.png")));
        }
    }
    let unnamed = "return [...document.querySelectorAll('table')].filter(t => !t.caption || !t.tHead).length \
                   + [...document.querySelectorAll('svg')].filter(s => !s.ariaLabel && s.ariaHidden !== 'true').length \
                   + [...document.querySelectorAll('input')].filter(i => !i.labels.length).length";
    assert_eq!(browser.run(unnamed), 0, "what has no name");
}

#[test]
fn without_a_cookie_there_is_no_data_and_a_ticket_opens_once() {
    let page = ScriptedPage::start(busy());
    let get = |path: &str, cookie: &str| {
        exchange(page.address, &format!("GET {path}"), &[&format!("Cookie: {cookie}")], "").unwrap()
    };
    let nobody = exchange(page.address, "GET /", &[], "").unwrap();
    assert_eq!((nobody.status, nobody.header("location"), nobody.body.as_str()), (303, Some("/enter"), ""));
    let room = format!("/look/{}/", "0".repeat(32));
    for forged in ["blindferry-page=", "blindferry-page=00", &format!("blindferry-page={}", "0".repeat(64))] {
        let answer = get(&room, forged);
        assert_eq!((answer.status, answer.body.as_str()), (303, ""), "{forged}");
    }
    assert_eq!(*page.asked.lock().unwrap(), 0, "the vault is asked for nobody");

    let ticket = page.ticket(1);
    assert_eq!(page.enter(&page.ticket(2).replace('0', "1")).unwrap_err().0, 403);
    let Inside { path, cookie, attributes } = page.enter(&ticket).unwrap();
    assert!(attributes.contains("HttpOnly") && attributes.contains("SameSite=Strict"), "{attributes}");
    let shown = get(&path, &format!("other=1; blindferry-page=of-another-server; {cookie}"));
    assert!(shown.status == 200 && shown.body.contains("worker-17"), "{}", shown.head);
    let (status, body) = page.enter(&ticket).unwrap_err();
    assert!(status == 403 && body.contains("No entry") && !body.contains("worker-17"), "{status} {body}");

    // What each answer says to the browser.
    for answer in [&nobody, &shown] {
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"));
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }

    // A cookie is for one room, and a room for one cookie.
    let other = page.enter(&page.ticket(4)).unwrap();
    assert_eq!((get(&other.path, &other.cookie).status, get(&other.path, &cookie).status), (200, 303));
    assert_eq!(get(&path, &other.cookie).status, 303);
    assert_eq!(get(&path, "").status, 303, "the path alone");

    let origin = format!("Origin: {}", page.origin());
    let leave = |headers: &[&str]| exchange(page.address, &format!("POST {path}leave"), headers, "").unwrap();
    assert_eq!(leave(&[&format!("Cookie: {cookie}")]).status, 403);
    assert_eq!(get(&path, &cookie).status, 200, "who does not come from the page has nobody leave");
    let left = leave(&[&origin, &format!("Cookie: {cookie}")]);
    assert!(left.status == 303 && left.header("set-cookie").unwrap().contains("Max-Age=0"), "{}", left.head);
    assert_eq!(get(&path, &cookie).status, 303);

    // When the vault reports no longer, no cookie opens anything.
    let Inside { path, cookie, .. } = page.enter(&page.ticket(3)).unwrap();
    *page.report.lock().unwrap() = None;
    eventually("the page to close", || (get(&path, &cookie).status == 303).then_some(()));
    *page.report.lock().unwrap() = Some(busy());
    assert_eq!(get(&path, &cookie).status, 303);
}

#[test]
fn however_many_look_the_vault_is_asked_once_a_second() {
    let page = ScriptedPage::start(busy());
    let Inside { path, cookie, .. } = page.enter(&page.ticket(1)).unwrap();
    let (look, cookie) = (format!("GET {path}"), format!("Cookie: {cookie}"));
    let begun = Instant::now();
    let page = Arc::new(page);
    let looking: Vec<_> = (0..8)
        .map(|_| {
            let (page, look, cookie) = (Arc::clone(&page), look.clone(), cookie.clone());
            std::thread::spawn(move || {
                for _ in 0..10 {
                    assert_eq!(exchange(page.address, &look, &[&cookie], "").unwrap().status, 200);
                }
            })
        })
        .collect();
    looking.into_iter().for_each(|one| one.join().unwrap());
    let asked = u64::from(*page.asked.lock().unwrap());
    assert!(asked >= 1 && asked <= begun.elapsed().as_secs() + 1, "{asked} in {:?}", begun.elapsed());
}

#[test]
fn who_holds_all_connections_or_sends_too_much_is_bounded_and_the_page_comes_back() {
    let page = ScriptedPage::start(quiet());
    let long = format!("ticket={}", "0".repeat(2000));
    let origin = format!("Origin: {}", page.origin());
    assert_eq!(exchange(page.address, "POST /enter", &[&origin], &long).unwrap().status, 413);
    let held: Vec<_> = (0..page::CONNECTIONS)
        .map(|_| {
            let mut stream = TcpStream::connect(page.address).unwrap();
            // A head that never ends.
            stream.write_all(b"GET /enter HTTP/1.1\r\nX: ").unwrap();
            stream
        })
        .collect();
    let mut one_more = TcpStream::connect(page.address).unwrap();
    write!(one_more, "GET /enter HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", page.address).unwrap();
    one_more.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(one_more.read(&mut [0]).is_err(), "as many as may be are served");
    drop(held);
    one_more.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut answer = String::new();
    one_more.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("Operators"), "{answer}");
}

/// Texts whose contrast is below 4.5 to 1 (WCAG 2.2, 1.4.3), by what is behind them.
const CONTRAST: &str = r"
    const light = (colour) => {
        const [r, g, b] = colour.match(/[\d.]+/g).map(Number).map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (; element; element = element.parentElement) {
            const colour = getComputedStyle(element).backgroundColor;
            if (colour !== 'rgba(0, 0, 0, 0)') return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    const weak = [];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        if (!own || element.closest('noscript')) continue;
        const [one, other] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
        if ((one + 0.05) / (other + 0.05) < 4.5) weak.push(element.outerHTML.slice(0, 120));
    }
    return weak;";
