//! Targets of what people write: names, configurations, templates, and the environment of a parent.

use std::{
    fmt::{Debug, Display},
    os::unix::ffi::OsStrExt as _,
    str::FromStr,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use blindferry_broker::configuration::Configuration as BrokerConfiguration;
use blindferry_environment::{Danger, Origin, Policy, Switch, standing, value::holds_credential};
use blindferry_front::configuration::Configuration as FrontConfiguration;
use blindferry_launch::template::{
    Template,
    escape::{Escape, EscapeError},
};
use blindferry_proto::{
    bounded::Text,
    identifier::{AskId, AuditKey, Digest, GrantId, LeaseId, Machine, WorkerKey},
    name::{Audience, CredentialName, HostName, VariableName},
    platform::Choice,
    protection::ProtectionLevel,
};
use blindferry_session::client::{VaultIdentity, VaultReference};
use blindferry_vault::upstream::Address;

use super::part;

/// Names and identifiers: what is one is printed as it was read, and nothing in it ends a line, a quotation or a path.
pub fn names(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let cut = Text::<16>::cut(text);
    assert!(text.starts_with(cut.as_str()) && cut.as_str().len() <= 16);
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let names = [
        printed::<CredentialName>(text) && !text.contains(['/', '"', '\\', '=']) && text.len() <= CredentialName::MAX,
        printed::<HostName>(text) && !text.contains(['/', '"', '\\', '=']) && text.len() <= HostName::MAX,
        printed::<Audience>(text) && !text.contains(['"', '\\']) && text.len() <= Audience::MAX,
        printed::<VariableName>(text) && !text.contains('=') && text.len() <= VariableName::MAX,
        printed::<Digest>(text),
        printed::<GrantId>(text),
        printed::<LeaseId>(text),
        printed::<AskId>(text),
        printed::<WorkerKey>(text),
        printed::<AuditKey>(text),
        printed::<Machine>(text),
        printed::<ProtectionLevel>(text),
    ];
    let known = text.parse::<Choice>().is_ok() || text.parse::<Switch>().is_ok();
    let address = text.parse::<Address>().map(|address| {
        let (host, authority, path) = (address.host(), address.authority(), address.path());
        assert!(!host.is_empty() && authority.contains(host) && !authority.contains('@') && address.port() != 0);
        let scheme = if address.tls_name().is_some() { "https" } else { "http" };
        let again: Address =
            format!("{scheme}://{authority}{path}").parse().expect("what was taken apart is an address");
        assert_eq!((again.host(), again.port()), (host, address.port()));
    });
    let one = names.contains(&true) || known || address.is_ok();
    assert!(!one || plain(text), "{text:?}");
    one
}

/// The files of front and broker, and the vault's reference that a broker reads.
pub fn configurations(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let front = toml::from_str::<FrontConfiguration>(text).map(|front| {
        assert_ne!(front.limits.dial_timeout().as_secs(), 0);
        let _ = (front.device_process(|_| true), front.device_process(|_| false));
    });
    let broker = BrokerConfiguration::parse(text).map(|broker| {
        let _ = (broker.platform(|_| true), broker.platform(|_| false));
    });
    let reference = VaultReference::parse(text).map(|reference| {
        let vouched = reference.audit_key.is_some() || matches!(reference.identity, VaultIdentity::Ak(_));
        assert!(vouched, "a guest's vault that any other could stand in for");
    });
    front.is_ok() || broker.is_ok() || reference.is_ok()
}

/// The environment of a parent: a byte with what is let through, a part with names that are asked for, one line each, and
/// the block. No lock is passed that was not opened by name.
pub fn environment(mut data: &[u8]) -> bool {
    let Some((&choice, rest)) = data.split_first() else { return false };
    data = rest;
    let mut policy = Policy::default();
    if choice & 1 != 0 {
        policy.pass_everything_harmless();
    }
    let on: Vec<Switch> = Switch::all().skip(usize::from(choice >> 1) & 31).take(2).collect();
    on.iter().for_each(|switch| policy.pass(*switch));
    for line in part(&mut data).split(|byte| *byte == b'\n') {
        let asked = std::ffi::OsStr::from_bytes(line.get(1..).unwrap_or_default()).to_owned();
        let _refused = match line.first() {
            Some(b'!') => policy.inherit_credential(asked),
            Some(_) => policy.ask(asked),
            None => continue,
        };
    }
    let Ok(selection) = policy.select_from_block(data) else { return false };
    for passed in selection.passed() {
        let stands = standing(passed.name.as_bytes());
        if let Some(switch) = stands.code() {
            assert!(on.contains(&switch), "{:?} loads code", passed.name);
        }
        if passed.origin != Origin::Credential {
            assert!(stands.credential.is_none(), "{:?} is a credential", passed.name);
            let value = passed.name.to_str().and_then(|name| selection.environment().get(name)).unwrap_or_default();
            assert!(!holds_credential(value.as_bytes()), "{:?} holds one", passed.name);
        }
        if passed.origin == Origin::Everything {
            assert!(stands.switch().is_none_or(|switch| switch.danger() == Danger::None));
        }
    }
    for (name, reason) in selection.left_out() {
        assert!(!reason.remedy(name).is_empty() && selection.passed().all(|passed| passed.name != name));
    }
    selection.into_environment().into_assignments().expect("no value has a NUL");
    true
}

/// A file that embeds tokens, and a token: a part in front with the file, then the token. What a reader of a format makes
/// of the token is the token.
pub fn templates(mut data: &[u8]) -> bool {
    let text = part(&mut data);
    let template = Template::of("a-file", text);
    if let Ok(template) = &template {
        for name in template.names() {
            assert!(!name.is_empty() && !name.contains(char::is_whitespace), "{name:?}");
            assert!(text.windows(name.len()).any(|window| window == name.as_bytes()));
        }
        assert!(template.names().next().is_some(), "a template that delivers nothing");
        let first = template.names().next();
        assert!(template.bind(|name| if Some(name) == first { Err(()) } else { Ok(()) }).is_err(), "nobody was asked");
    }
    for escape in [Escape::Raw, Escape::Json, Escape::Toml, Escape::Url, Escape::Shell, Escape::Base64] {
        let mut place = vec![0; escape.at_most(data.len())];
        match escape.write(data, &mut place) {
            Ok(used) => reads_back(escape, data, place.get(..used).expect("no longer than was said")),
            Err(EscapeError::NotText) => assert!(std::str::from_utf8(data).is_err()),
            Err(EscapeError::Nul) => assert!(data.contains(&0)),
        }
    }
    template.is_ok()
}

/// Whether a reader of the format reads the token, and nothing beside it.
fn reads_back(escape: Escape, token: &[u8], written: &[u8]) {
    match escape {
        Escape::Raw => assert_eq!(written, token),
        Escape::Json => {
            let read: String = serde_json::from_slice(written).expect("JSON");
            assert_eq!(read.as_bytes(), token);
        }
        Escape::Toml => {
            let line = [b"x = ", written].concat();
            let read: toml::Table = std::str::from_utf8(&line).expect("text").parse().expect("TOML");
            assert_eq!(read.len(), 1);
            assert_eq!(read.get("x").and_then(toml::Value::as_str).expect("a string").as_bytes(), token);
        }
        Escape::Url => {
            assert!(written.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(byte)));
            let wanted = token.iter().map(|byte| if is_unreserved(*byte) { 1 } else { 3 }).sum::<usize>();
            assert_eq!(written.len(), wanted);
        }
        Escape::Shell => {
            let inside = written.strip_prefix(b"'").and_then(|rest| rest.strip_suffix(b"'")).expect("one word");
            let quotes = token.iter().filter(|byte| **byte == b'\'').count();
            assert_eq!(inside.len(), token.len() + 3 * quotes);
            let closed = inside.split(|byte| *byte == b'\'').enumerate();
            // Outside of the quotes there is nothing but an escaped quote.
            assert!(
                closed.skip(1).all(|(at, piece)| at % 3 == 0 || piece == if at % 3 == 1 { &b"\\"[..] } else { b"" })
            );
        }
        Escape::Base64 => assert_eq!(STANDARD.decode(written).expect("Base64"), token),
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Whether `text` is one, and then it is printed as it was read.
fn printed<T: FromStr + Display + PartialEq + Debug>(text: &str) -> bool {
    let Ok(value) = text.parse::<T>() else { return false };
    assert_eq!(value.to_string(), text, "{value:?}");
    true
}
