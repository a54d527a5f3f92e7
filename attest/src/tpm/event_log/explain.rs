//! Says in plain words what a log says, without judging it.

use blindferry_proto::shown::hides;
use std::fmt;

use super::{
    Bank, Content, Event, Kind, Log,
    fact::verified,
    variable::{GLOBAL, Variable},
};

/// One event in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which event, from 0.
    pub number: usize,
    /// The PCR that it is said to have been extended into; none when it extends nothing.
    pub pcr: Option<u32>,
    /// The type that it is said to have.
    pub kind: Kind,
    /// Its digest, in hexadecimal: of the SHA-256 bank where there is one, else of the SHA-1 bank.
    pub digest: String,
    /// What its data says: printable, shortened.
    pub says: String,
    /// Whether the data gives the digest. If not, what the data says is a mere claim, even when the log replays.
    pub verified: bool,
}

/// Every event of a log in words, in order.
#[must_use]
pub fn explain(log: &Log<'_>) -> Vec<Line> {
    log.events().iter().enumerate().map(|(number, event)| line(number, event)).collect()
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pcr {
            Some(pcr) => write!(f, "{:4}  PCR {pcr:<2}", self.number)?,
            None => write!(f, "{:4}  -     ", self.number)?,
        }
        let claim = if self.verified || self.pcr.is_none() { "" } else { " (unverified claim)" };
        write!(f, "  {}: {}{claim}", self.kind, self.says)
    }
}

fn line(number: usize, event: &Event<'_>) -> Line {
    let bank = if event.digest(Bank::Sha256).is_some() { Bank::Sha256 } else { Bank::Sha1 };
    let extends = event.kind() != Kind::NO_ACTION;
    let content = if extends { verified(event, bank) } else { Content::Unknown };
    Line {
        number,
        pcr: extends.then_some(event.pcr()),
        kind: event.kind(),
        digest: event.digest(bank).map(hex::encode).unwrap_or_default(),
        says: says(event, &content),
        verified: content != Content::Unknown,
    }
}

fn says(event: &Event<'_>, content: &Content<'_>) -> String {
    match content {
        Content::Separator([0, 0, 0, 0] | [0xff, 0xff, 0xff, 0xff]) => "the firmware is done with this PCR".to_owned(),
        Content::Separator(other) => format!("the firmware met an error, {}", hex::encode(other)),
        Content::Variable(variable) => of_variable(variable),
        Content::Text(text) => printable(text),
        Content::Bytes(bytes) => of_bytes(bytes),
        Content::Unknown if event.kind().is_image() => "an image with this Authenticode digest was started".to_owned(),
        Content::Unknown => of_bytes(event.data()),
    }
}

fn of_variable(variable: &Variable<'_>) -> String {
    if variable.is(GLOBAL, "SecureBoot") {
        return if variable.value() == [1] { "Secure Boot is on" } else { "Secure Boot is off" }.to_owned();
    }
    match variable.value().len() {
        0 => format!("variable {} is not set", printable(variable.name())),
        len => format!("variable {}, {len} bytes", printable(variable.name())),
    }
}

/// Texts of firmware are ASCII or UTF-16, with or without a zero at the end.
fn of_bytes(bytes: &[u8]) -> String {
    let short = bytes.get(..2 * MAX_SAID).unwrap_or(bytes);
    let wide = || {
        let units: Vec<u16> =
            short.chunks_exact(2).filter_map(|unit| unit.try_into().ok()).map(u16::from_le_bytes).collect();
        String::from_utf16(&units).ok()
    };
    let plain = str::from_utf8(short).ok().map(str::to_owned);
    let text = plain.into_iter().chain(wide()).find_map(|text| {
        let text = text.trim_end_matches('\0');
        (!text.is_empty() && !text.chars().any(char::is_control)).then(|| printable(text))
    });
    text.unwrap_or_else(|| format!("{} bytes", bytes.len()))
}

/// At most [`MAX_SAID`] characters, none of which a terminal would obey.
fn printable(text: &str) -> String {
    let mut out: String =
        text.chars().take(MAX_SAID).map(|character| if hides(character) { '\u{fffd}' } else { character }).collect();
    if text.chars().nth(MAX_SAID).is_some() {
        out.push('…');
    }
    out
}

/// The most characters of a text that are shown.
const MAX_SAID: usize = 300;
