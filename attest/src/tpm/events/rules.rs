//! The rules, in the order in which they are asked.

use super::{COMMAND_LINE, EventPolicy, EventRefusal, Facts, OVERRIDES, Rule, SecureBoot};
use crate::tpm::event_log::{
    Content, Fact,
    variable::{GLOBAL, SECURITY_DATABASE, Variable},
};

pub(super) const OVERRIDES_RULE: &str = "overrides of the image";

pub(super) const RULES: &[Rule] = &[
    Rule { name: "separators", wanted: |_| "one each in PCRs 0 to 7".to_owned(), refusals: separators },
    Rule {
        name: "firmware variables",
        wanted: |_| "nothing else before PCR 7's separator".to_owned(),
        refusals: only_variables,
    },
    Rule { name: "Secure Boot", wanted: secure_boot_wanted, refusals: secure_boot },
    Rule { name: "db", wanted: |policy| listed(&policy.db), refusals: db },
    Rule { name: "dbx", wanted: |policy| listed(&policy.dbx), refusals: dbx },
    Rule { name: "boot applications", wanted: |policy| listed(&policy.images), refusals: images },
    Rule { name: "command line", wanted: command_line_wanted, refusals: command_line },
    Rule { name: OVERRIDES_RULE, wanted: |_| "none (PCR 12 is zero)".to_owned(), refusals: overrides },
    Rule { name: "exit of boot services", wanted: |_| "in order".to_owned(), refusals: exit_boot_services },
    Rule { name: "files", wanted: files_wanted, refusals: files },
];

fn separators(_: &EventPolicy, facts: &Facts<'_, '_>) -> Vec<EventRefusal> {
    let good = |pcr: &u8| {
        let mut found = facts.events.facts(*pcr).iter().filter_map(|fact| match fact.content() {
            Content::Separator(value) => Some(value),
            _ => None,
        });
        // Anything but these two tells of an error of the firmware.
        matches!((found.next(), found.next()), (Some([0, 0, 0, 0] | [0xff, 0xff, 0xff, 0xff]), None))
    };
    (0..=7).filter(|pcr| !good(pcr)).map(|pcr| EventRefusal::Separator { pcr }).collect()
}

/// Whatever comes before the separator was measured by the firmware. Were one digest unknown there, it could be that of
/// Secure Boot being off, under a false name. The firmware's words about debugging and open DMA are refused here too.
fn only_variables(_: &EventPolicy, facts: &Facts<'_, '_>) -> Vec<EventRefusal> {
    let unknown = before_separator(facts, 7).filter(|fact| !matches!(fact.content(), Content::Variable(_)));
    unknown.map(|fact| unexpected(7, fact)).collect()
}

fn secure_boot(policy: &EventPolicy, facts: &Facts<'_, '_>) -> Vec<EventRefusal> {
    if policy.secure_boot == SecureBoot::Any {
        return vec![];
    }
    let mut found = variables(facts, GLOBAL, "SecureBoot").map(|(_, variable)| variable.value());
    match (found.next(), found.next()) {
        (Some([1]), None) => vec![],
        (Some(_), None) => vec![EventRefusal::SecureBoot { found: "off" }],
        (None, _) => vec![EventRefusal::SecureBoot { found: "not measured" }],
        (Some(_), Some(_)) => vec![EventRefusal::SecureBoot { found: "measured twice" }],
    }
}

fn secure_boot_wanted(policy: &EventPolicy) -> String {
    match policy.secure_boot {
        SecureBoot::On => "on",
        SecureBoot::Any => "on or off",
    }
    .to_owned()
}

fn db(policy: &EventPolicy, facts: &Facts<'_, '_>) -> Vec<EventRefusal> {
    database("db", &policy.db, facts)
}

fn dbx(policy: &EventPolicy, facts: &Facts<'_, '_>) -> Vec<EventRefusal> {
    database("dbx", &policy.dbx, facts)
}

fn database(name: &'static str, accepted: &super::BTreeSet<[u8; 32]>, facts: &Facts<'_, '_>) -> Vec<EventRefusal> {
    if accepted.is_empty() {
        return vec![];
    }
    let mut found = variables(facts, SECURITY_DATABASE, name).map(|(fact, _)| *fact.digest());
    match (found.next(), found.next()) {
        (Some(digest), None) if accepted.contains(&digest) => vec![],
        (found, _) => vec![EventRefusal::Variable { name, found, wanted: accepted.iter().copied().collect() }],
    }
}

fn images(policy: &EventPolicy, facts: &Facts<'_, '_>) -> Vec<EventRefusal> {
    let mut refusals = vec![];
    let mut started = false;
    for fact in facts.events.facts(4) {
        if is_of_the_firmware(fact) {
            continue;
        }
        if policy.images.contains(fact.digest()) {
            started = true;
        } else if fact.called().is_image() {
            refusals.push(EventRefusal::Image { found: *fact.digest() });
        } else {
            refusals.push(unexpected(4, fact));
        }
    }
    if !started && refusals.is_empty() {
        refusals.push(EventRefusal::NoImage);
    }
    refusals
}

/// What stands in PCR 4 beside images: the separator, and the firmware's own words, such as "Calling EFI Application from
/// Boot Option".
pub(super) fn is_of_the_firmware(fact: &Fact<'_>) -> bool {
    match fact.content() {
        Content::Separator(_) => true,
        Content::Text(text) => text.starts_with("Calling EFI ") || text.starts_with("Returning from EFI "),
        _ => false,
    }
}

fn command_line(policy: &EventPolicy, facts: &Facts<'_, '_>) -> Vec<EventRefusal> {
    if policy.command_lines.is_empty() {
        return vec![];
    }
    let accepted: Vec<[u8; 32]> = policy.command_lines.iter().map(super::CommandLine::digest).collect();
    let measured = facts.events.facts(COMMAND_LINE).iter().map(|fact| *fact.digest());
    let (lines, others): (Vec<_>, Vec<_>) = measured.partition(|digest| accepted.contains(digest));
    let unknown = others.into_iter().filter(|digest| !policy.files.contains(digest));
    let none = lines.is_empty().then_some(EventRefusal::CommandLine);
    none.into_iter().chain(unknown.map(|found| EventRefusal::File { found })).collect()
}

fn command_line_wanted(policy: &EventPolicy) -> String {
    match policy.command_lines.len() {
        0 => "any, for Secure Boot is on".to_owned(),
        lines => format!("one of {lines}, and {} files", policy.files.len()),
    }
}

fn overrides(_: &EventPolicy, facts: &Facts<'_, '_>) -> Vec<EventRefusal> {
    match facts.logs.quoted.value(OVERRIDES) {
        Some(found) if *found == [0; 32] => vec![],
        Some(found) => vec![EventRefusal::Override { found: *found }],
        None => vec![EventRefusal::EventLog(super::EventLogError::NotQuoted { pcr: OVERRIDES })],
    }
}

fn exit_boot_services(_: &EventPolicy, facts: &Facts<'_, '_>) -> Vec<EventRefusal> {
    let said = |wanted: &str| facts.events.facts(5).iter().any(|fact| *fact.content() == Content::Text(wanted));
    let left = said("Exit Boot Services Invocation") && said("Exit Boot Services Returned with Success");
    if left { vec![] } else { vec![EventRefusal::ExitBootServices] }
}

fn files(policy: &EventPolicy, facts: &Facts<'_, '_>) -> Vec<EventRefusal> {
    let Some(rules) = &policy.ima else {
        return vec![];
    };
    match facts.logs.files() {
        Ok(replayed) => rules.refusals(&replayed),
        Err(refusal) => vec![refusal],
    }
}

fn files_wanted(policy: &EventPolicy) -> String {
    if policy.ima.is_some() { "each listed or signed" } else { "any" }.to_owned()
}

fn before_separator<'f>(facts: &'f Facts<'_, '_>, pcr: u8) -> impl Iterator<Item = &'f Fact<'f>> {
    facts.events.facts(pcr).iter().take_while(|fact| !matches!(fact.content(), Content::Separator(_)))
}

fn variables<'f>(
    facts: &'f Facts<'_, '_>,
    vendor: [u8; 16],
    name: &'f str,
) -> impl Iterator<Item = (&'f Fact<'f>, &'f Variable<'f>)> {
    before_separator(facts, 7).filter_map(move |fact| match fact.content() {
        Content::Variable(variable) if variable.is(vendor, name) => Some((fact, variable)),
        _ => None,
    })
}

fn unexpected(pcr: u8, fact: &Fact<'_>) -> EventRefusal {
    EventRefusal::Unexpected { pcr, digest: *fact.digest(), called: fact.called().to_string() }
}

fn listed(digests: &super::BTreeSet<[u8; 32]>) -> String {
    match digests.len() {
        0 => "any".to_owned(),
        1 => digests.iter().map(hex::encode).collect(),
        several => format!("one of {several}"),
    }
}
