//! A real browser without a window: Chromium, driven over WebDriver (W3C) on loopback.
//!
//! It reaches loopback alone: every other name is unknown to it, but [`ELSEWHERE`], which leads to loopback as the name of
//! an attacker's site would after DNS rebinding.

use crate::process::{Running, eventually, within};
use crate::program::missing;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// An attacker's host name, which leads to this machine.
pub const ELSEWHERE: &str = "evil.example";

/// A browser with nothing in it.
#[derive(Debug)]
pub struct Browser {
    driver: SocketAddr,
    session: String,
    _running: Running,
    /// What the driver says; it would end if nobody could hear it.
    _said: BufReader<ChildStdout>,
    _profile: TempDir,
}

impl Browser {
    /// Starts one; `None`, and a line says why, where there is none.
    #[must_use]
    pub fn start() -> Option<Self> {
        if missing(&["chromium", "chromedriver"]) {
            return None;
        }
        let profile = TempDir::with_prefix("blindferry-browser-").unwrap();
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped());
        // Its scratch files end with ours.
        command.env("TMPDIR", profile.path()).env("HOME", profile.path());
        let mut running = Running::start(command, &profile.path().join("driver.log"));
        let mut said = BufReader::new(running.child().stdout.take().unwrap());
        let port = port(&mut said);
        let driver = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let rules = format!("MAP {ELSEWHERE} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1");
        let arguments = [
            "--headless=new",
            "--no-sandbox", // it runs as root in a container, and sees our pages alone
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--lang=en",
            &format!("--host-resolver-rules={rules}"),
            &format!("--user-data-dir={}", profile.path().join("profile").display()),
        ];
        let options = json!({ "binary": chromium(), "args": arguments });
        let wanted =
            json!({ "capabilities": { "alwaysMatch": { "browserName": "chrome", "goog:chromeOptions": options } } });
        let answer = request(driver, "POST", "/session", &wanted);
        let session = answer["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {answer}")).to_owned();
        Some(Self { driver, session, _running: running, _said: said, _profile: profile })
    }

    /// Goes to an address, and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.ask("POST", "/url", &json!({ "url": url }));
    }

    /// The address that is shown.
    #[must_use]
    pub fn url(&self) -> String {
        self.text_of("/url")
    }

    /// The title that is shown.
    #[must_use]
    pub fn title(&self) -> String {
        self.text_of("/title")
    }

    /// What a person reads on the page.
    #[must_use]
    pub fn text(&self) -> String {
        self.run("return document.body ? document.body.innerText : ''").as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a person reads this on the page, and gives all of it.
    pub fn reads(&self, what: &str) -> String {
        let found = within(Duration::from_secs(60), || Some(self.text()).filter(|text| text.contains(what)));
        found.unwrap_or_else(|| panic!("{what:?} is not on {}: {}", self.url(), self.text()))
    }

    /// Waits until a page with this title is shown.
    pub fn titled(&self, title: &str) {
        eventually(title, || self.title().contains(title).then_some(()));
    }

    /// Runs a script as the developer's console would, and gives what it returns.
    pub fn run(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Clicks on what this CSS selector finds first.
    pub fn click(&self, selector: &str) {
        let found = self.ask("POST", "/element", &json!({ "using": "css selector", "value": selector }));
        let element = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str).unwrap();
        self.ask("POST", &format!("/element/{element}/click"), &json!({}));
    }

    /// Makes the window so wide and high, in pixels, and prefers these colours.
    pub fn look(&self, width: u32, height: u32, colours: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": colours }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Says something in the browser's own protocol.
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.ask("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Writes what is to be seen into a PNG.
    pub fn screenshot(&self, path: &Path) {
        let shot = self.devtools("Page.captureScreenshot", &json!({ "format": "png", "captureBeyondViewport": true }));
        let png = shot["data"].as_str().unwrap();
        let png = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, png).unwrap();
        fs::write(path, png).unwrap();
    }

    fn text_of(&self, path: &str) -> String {
        self.ask("GET", path, &Value::Null).as_str().unwrap_or_default().to_owned()
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = request(self.driver, method, &format!("/session/{}{path}", self.session), body);
        assert!(answer.get("error").is_none(), "{method} {path}: {answer}");
        answer
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser with its session, and is then ended itself.
        drop(exchange(self.driver, "DELETE", &format!("/session/{}", self.session), ""));
    }
}

fn chromium() -> &'static str {
    ["/usr/bin/chromium", "/usr/local/bin/chromium"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or("chromium")
}

/// The driver says which port it found.
fn port(said: &mut impl BufRead) -> u16 {
    for line in said.lines() {
        let line = line.unwrap();
        if let Some((_, port)) = line.split_once("successfully on port ") {
            return port.trim_end_matches('.').parse().unwrap();
        }
    }
    panic!("chromedriver did not say its port");
}

fn request(driver: SocketAddr, method: &str, path: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = exchange(driver, method, path, &body).unwrap();
    let mut answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{method} {path}: {answer}"));
    answer["value"].take()
}

fn exchange(driver: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(driver)?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {driver}\r\nContent-Type: application/json\r\n");
    write!(stream, "{head}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut answer = vec![0; length];
    reader.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A browser that starts on a busy machine takes its time.
const ANSWER_TIME: Duration = Duration::from_secs(120);
