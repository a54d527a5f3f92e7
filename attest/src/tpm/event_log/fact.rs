//! What is known of an event after its PCR was compared: the digest, and the bytes behind it where they hash to it.

use std::fmt;

use super::{Bank, Event, EventLogError, Kind, Log, variable::Variable};

/// A digest that was extended into a quoted PCR. Only [`Replayed`](super::Replayed) gives one.
///
/// The type of the event is not here, for no digest covers it: an event that is called an image could be a text. Who
/// judges facts must therefore account for each fact of a PCR, by what it is and not by what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact<'a> {
    digest: [u8; 32],
    content: Content<'a>,
    called: Kind,
}

/// What was hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Four bytes: zero or all ones in order, anything else after an error of the firmware.
    Separator([u8; 4]),
    /// A variable of the firmware, name and value.
    Variable(Variable<'a>),
    /// A text. Where GRUB puts a word before it in the log (`grub_cmd: `), it is the part without, which was hashed.
    Text(&'a str),
    /// Other bytes.
    Bytes(&'a [u8]),
    /// The log does not have what was hashed: the digest alone is known.
    Unknown,
}

/// How much of a log's data is behind its digests. Says nothing about whether the digests are what was quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckedData {
    /// Events that extend something.
    pub events: usize,
    /// Those of them whose data gives the digest.
    pub hashed: usize,
}

impl Log<'_> {
    /// Hashes the data of every event again. Where the type promises that data and digest belong together (separators,
    /// actions, versions, variables of the configuration, partition tables, commands of GRUB), they have to; elsewhere the
    /// digest can be of something that a log does not have, such as an image.
    ///
    /// # Errors
    ///
    /// [`EventLogError::Data`] for the first event that breaks the promise.
    pub fn check_data(&self) -> Result<CheckedData, EventLogError> {
        let mut checked = CheckedData { events: 0, hashed: 0 };
        for (number, event) in self.events.iter().enumerate().filter(|(_, event)| event.kind != Kind::NO_ACTION) {
            let bank = [Bank::Sha256, Bank::Sha384, Bank::Sha1].into_iter().find(|bank| event.digest(*bank).is_some());
            checked.events += 1;
            match bank.map_or(Content::Unknown, |bank| verified(event, bank)) {
                Content::Unknown if promises(event) => {
                    return Err(EventLogError::Data { number, pcr: event.pcr, called: event.kind });
                }
                Content::Unknown => {}
                _ => checked.hashed += 1,
            }
        }
        Ok(checked)
    }
}

/// TCG PC Client Platform Firmware Profile, section 10.4.1, and GRUB, which writes the text that it hashes.
fn promises(event: &Event<'_>) -> bool {
    match event.kind {
        Kind::SEPARATOR | Kind::EFI_ACTION | Kind::EFI_VARIABLE_DRIVER_CONFIG | Kind::EFI_GPT_EVENT => true,
        Kind::IPL => WORDS.iter().any(|word| event.data.starts_with(word)),
        _ => false,
    }
}

impl fmt::Display for CheckedData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, hashed } = self;
        write!(f, "{hashed} of {events} events give their digests; the others are digests of what no log has")
    }
}

impl<'a> Fact<'a> {
    pub(super) fn of(event: &Event<'a>) -> Option<Self> {
        let digest = *event.digests.sha256?;
        Some(Self { digest, content: verified(event, Bank::Sha256), called: event.kind })
    }

    /// What was extended.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// What it is the digest of, as far as that is known.
    #[must_use]
    pub fn content(&self) -> &Content<'a> {
        &self.content
    }

    /// What the log calls it: a claim, for messages.
    #[must_use]
    pub fn called(&self) -> Kind {
        self.called
    }
}

/// The part of an event's data that its digest in `bank` covers. Which part it can be depends on the type; whichever it
/// is, it was hashed here and gave the digest. At most six hashes are computed.
pub(super) fn verified<'a>(event: &Event<'a>, bank: Bank) -> Content<'a> {
    let Some(digest) = event.digest(bank) else {
        return Content::Unknown;
    };
    let data = event.data;
    let gives = |part: &[u8]| bank.hash(&[part]).as_ref() == digest;
    if gives(data) {
        return read(event.kind, data);
    }
    match event.kind {
        // shim counts one byte too many in the log.
        Kind::EFI_VARIABLE_AUTHORITY => match data.split_last() {
            Some((_, rest)) if gives(rest) => read(event.kind, rest),
            _ => Content::Unknown,
        },
        // Here the value alone is hashed; the name beside it is a claim.
        Kind::EFI_VARIABLE_BOOT | Kind::EFI_VARIABLE_BOOT2 => match Variable::parse(data) {
            Ok(variable) if gives(variable.value()) => Content::Bytes(variable.value()),
            _ => Content::Unknown,
        },
        Kind::IPL => loader_text(data, gives).map_or(Content::Unknown, Content::Text),
        _ => Content::Unknown,
    }
}

fn read(kind: Kind, bytes: &[u8]) -> Content<'_> {
    if kind == Kind::SEPARATOR
        && let Ok(value) = bytes.try_into()
    {
        return Content::Separator(value);
    }
    if kind.is_variable()
        && let Ok(variable) = Variable::parse(bytes)
    {
        return Content::Variable(variable);
    }
    match str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)) {
        Ok(text) if !text.is_empty() && !text.chars().any(char::is_control) => Content::Text(text),
        _ => Content::Bytes(bytes),
    }
}

/// GRUB writes a word before what it hashes, and a zero behind, which some versions hash and some do not.
fn loader_text(data: &[u8], gives: impl Fn(&[u8]) -> bool) -> Option<&str> {
    let with_zero = WORDS.iter().find_map(|word| data.strip_prefix(*word)).unwrap_or(data);
    let without = with_zero.strip_suffix(&[0])?;
    let hashed = gives(without) || gives(with_zero);
    hashed.then(|| str::from_utf8(without).ok()).flatten()
}

/// What GRUB writes before a text that it hashes.
const WORDS: [&[u8]; 5] =
    [b"grub_cmd: ", b"kernel_cmdline: ", b"module_cmdline: ", b"grub_cmd ", b"grub_kernel_cmdline "];
