//! `doctor`: what this machine offers and lacks, what that means, and how to mend it.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, Table};
use blindferry_probe::{Finding, Machine, Need, Start, State, Tried, Verdict, examine, names, verdict};
use blindferry_proto::shown::visible;
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Tell what this machine offers and lacks
///
/// What can be tried without harm is tried, as the user who asks; the rest is read from /proc, /sys and /dev. Nothing is
/// changed. Each check says what was found, what it means for Blindferry here, and how to mend it. Run it as the user of
/// the service in question: limits, groups and filters of system calls are that user's.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Doctor {
    /// Count these among what is needed; may be given several times, or with commas
    #[arg(long, value_name = "CHECK", value_delimiter = ',', value_parser = PossibleValuesParser::new(names()))]
    require: Vec<String>,
}

const EXIT_CODES: &str = "\
Exit status: 0 all that is needed is there, 1 something that is needed is lacking, 2 of something that is needed it could
not be found out.";

/// Runs it, and says how to end. `start` is how this process was started.
///
/// # Errors
/// [`Failure::Output`], [`Failure::Json`].
pub(crate) fn run(output: Output, start: Start, doctor: &Doctor) -> Result<ExitCode, Failure> {
    let required: Vec<&str> = doctor.require.iter().map(String::as_str).collect();
    let findings = examine(&Machine::new("/", Tried::now(start)), &required);
    output.show(&document(&findings), || text(&findings))?;
    Ok(match verdict(&findings) {
        Verdict::Fit => ExitCode::SUCCESS,
        Verdict::Unfit => Exit::Unfit.into(),
        Verdict::Unclear => Exit::Unclear.into(),
    })
}

fn document(findings: &[Finding]) -> Value {
    let one = |finding: &Finding| {
        json!({
            "name": finding.name,
            "state": state(finding.state),
            "needed": finding.need == Need::Needed,
            "found": finding.found,
            "means": finding.means,
            "remedy": finding.remedy,
        })
    };
    let verdict = match verdict(findings) {
        Verdict::Fit => "fit",
        Verdict::Unfit => "unfit",
        Verdict::Unclear => "unclear",
    };
    json!({ "verdict": verdict, "findings": findings.iter().map(one).collect::<Vec<_>>() })
}

/// All in one table; then, of what is not good, what it means and how to mend it.
fn text(findings: &[Finding]) -> String {
    let mut table = Table::new(&["CHECK", "HERE", "NEEDED", "FOUND"]);
    for finding in findings {
        let needed = if finding.need == Need::Needed { "yes" } else { "no" };
        table.row([finding.name.to_owned(), state(finding.state).to_owned(), needed.to_owned(), finding.found.clone()]);
    }
    let mut text = table.render();
    for finding in findings.iter().filter(|finding| finding.state != State::Good) {
        let remedy = finding.remedy.map(|remedy| format!("  to do:  {remedy}\n")).unwrap_or_default();
        text.push_str(&format!(
            "\n{} is {}: {}\n  means:  {}\n{remedy}",
            finding.name,
            state(finding.state),
            visible(&finding.found),
            finding.means,
        ));
    }
    text.push('\n');
    text.push_str(&conclusion(findings));
    text
}

fn conclusion(findings: &[Finding]) -> String {
    let named = |of: State| -> String {
        let needed = findings.iter().filter(|finding| finding.need == Need::Needed && finding.state == of);
        needed.map(|finding| finding.name).collect::<Vec<_>>().join(", ")
    };
    match verdict(findings) {
        Verdict::Fit => "all that is needed is there\n".to_owned(),
        Verdict::Unfit => format!("needed and lacking: {}\n", named(State::Lacking)),
        Verdict::Unclear => format!("needed, and it could not be found out: {}\n", named(State::Unknown)),
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Good => "good",
        State::Lacking => "lacking",
        State::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(name: &'static str, state: State, need: Need) -> Finding {
        let remedy = (state != State::Good).then_some("mend it");
        Finding { name, state, need, found: "seen\u{1b}[2J".to_owned(), means: "it matters", remedy }
    }

    #[test]
    fn what_is_good_takes_one_line_and_what_is_not_says_what_it_means_and_what_to_do() {
        let findings = [
            finding("a", State::Good, Need::Needed),
            finding("b", State::Lacking, Need::Needed),
            finding("c", State::Unknown, Need::Wished),
        ];
        let text = text(&findings);
        assert_eq!(text.matches("it matters").count(), 2, "{text}");
        assert_eq!(text.matches("to do:  mend it").count(), 2, "{text}");
        assert!(text.ends_with("\nneeded and lacking: b\n") && !text.contains('\u{1b}'), "{text}");
        let unclear = conclusion(&[finding("c", State::Unknown, Need::Needed)]);
        assert!(unclear.contains("could not be found out: c"), "{unclear}");
        assert!(conclusion(&findings[..1]).contains("all that is needed"));
    }

    #[test]
    fn the_document_has_stable_names() {
        let document = document(&[finding("b", State::Lacking, Need::Needed)]);
        assert_eq!(document["verdict"], "unfit");
        let one = &document["findings"][0];
        assert_eq!((one["name"].as_str(), one["state"].as_str()), (Some("b"), Some("lacking")));
        assert_eq!((one["needed"].as_bool(), one["remedy"].as_str()), (Some(true), Some("mend it")));
        assert!(one["found"].is_string() && one["means"].is_string());
    }
}
