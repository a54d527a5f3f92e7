//! A judgement as people and as programs read it. Whatever evidence says comes out escaped: nobody's file steers a terminal.

use super::input::InputError;
use super::judge::{Judgement, Row, Word};
use crate::failure::Failure;
use crate::invocation::Invocation;
use blindferry_proto::shown::{hides, visible};
use rustix::termios::tcgetwinsize;
use serde::Serialize;
use serde_json::Value;
use std::env;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, stdout};

/// Shows a judgement.
///
/// # Errors
/// [`Failure::Output`].
pub(super) fn show(invocation: &Invocation, judgement: &Judgement) -> Result<(), Failure> {
    if invocation.output.is_json() {
        let Judgement { kind, verdict, rows, reference, claims, dangers } = judgement;
        let problem = problem(judgement);
        let document = Document {
            verdict: verdict.text(),
            code: verdict.code(),
            problem: problem.as_deref(),
            advice: judgement.advice(),
            kind: Some(*kind),
            reference: reference.as_deref(),
            dangers,
            checks: rows,
            claims,
        };
        return print_json(invocation, &document);
    }
    invocation.output.print(&text(judgement, &Style::of_standard_output()))
}

/// Shows with `--json` why nothing was judged.
///
/// # Errors
/// [`Failure::Output`].
pub(super) fn show_unreadable(invocation: &Invocation, error: &InputError) -> Result<(), Failure> {
    let problem = error.to_string();
    let document = Document {
        verdict: "unjudged",
        code: Some(error.code()),
        problem: Some(&problem),
        advice: Some(error.hint()),
        kind: None,
        reference: None,
        dangers: &[],
        checks: &[],
        claims: &Value::Null,
    };
    print_json(invocation, &document)
}

/// Prints a document; characters that a terminal could obey are escaped, which JSON allows everywhere in a text.
///
/// # Errors
/// [`Failure::Output`].
pub(super) fn print_json(invocation: &Invocation, document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document).map_err(|source| Failure::Json { source })?;
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character == '\n' || !hides(character) {
            safe.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a String does not fail.
                let _written = write!(safe, "\\u{unit:04x}");
            }
        }
    }
    invocation.output.print(&safe)
}

#[derive(Serialize)]
struct Document<'a> {
    verdict: &'static str,
    code: Option<&'static str>,
    problem: Option<&'a str>,
    advice: Option<&'static str>,
    kind: Option<&'static str>,
    reference: Option<&'a str>,
    dangers: &'a [String],
    checks: &'a [Row],
    claims: &'a Value,
}

/// How wide, and whether in colour.
struct Style {
    width: usize,
    colour: bool,
}

impl Style {
    fn of_standard_output() -> Self {
        let standard = stdout();
        let terminal = standard.is_terminal();
        let columns = if terminal { tcgetwinsize(&standard).ok().map(|size| usize::from(size.ws_col)) } else { None };
        Self {
            // Elsewhere the same for everybody.
            width: columns.filter(|columns| *columns > 0).unwrap_or(120).clamp(60, 160),
            colour: terminal && env::var_os("NO_COLOR").is_none(),
        }
    }

    fn paint(&self, text: &str, mark: Mark) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match mark {
            Mark::Good => "32",
            Mark::Bad => "1;31",
            Mark::Open => "33",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

#[derive(Clone, Copy)]
enum Mark {
    Good,
    Bad,
    Open,
}

fn text(judgement: &Judgement, style: &Style) -> String {
    let mut out = String::new();
    let asked: Vec<&Row> = judgement.rows.iter().filter(|row| row.ok.is_some()).collect();
    let open: Vec<&Row> = judgement.rows.iter().filter(|row| row.ok.is_none()).collect();
    if !asked.is_empty() {
        out.push_str(&table(&asked, style));
        out.push('\n');
    }
    out.push_str(&verdict(judgement, asked.len(), style));
    for danger in &judgement.dangers {
        out.push_str(&indented("accepted dangerously: ", danger, style.width));
    }
    if !open.is_empty() {
        let answerable = judgement.reference.is_none() && !matches!(judgement.verdict, Word::Unjudged(_));
        let how = if answerable { "; --policy and the other options answer them" } else { "" };
        out.push_str(&format!("\nleft open ({}){how}:\n", questions(open.len())));
        for row in open {
            let (found, wanted) = (short(&row.found), short(&row.wanted));
            let wanted = wanted.strip_prefix("not judged: ").unwrap_or(&wanted);
            out.push_str(&indented("  - ", &format!("{}: {found} ({wanted})", row.name), style.width));
        }
    }
    out
}

fn verdict(judgement: &Judgement, asked: usize, style: &Style) -> String {
    let what = words(judgement.kind);
    let (word, mark) = match judgement.verdict {
        Word::Accepted => ("accepted", Mark::Good),
        Word::Refused(_) => ("refused", Mark::Bad),
        Word::Unjudged(_) => ("could not be judged", Mark::Open),
    };
    let mut out = match (judgement.verdict.code(), &judgement.reference) {
        (None, Some(reference)) => {
            format!(
                "{}: {what}, by the reference values {}",
                style.paint(word, mark),
                visible(&format!("{reference:?}"))
            )
        }
        (None, None) => format!("{}: {what}; {} answered, none wrongly", style.paint(word, mark), questions(asked)),
        (Some(code), _) => format!("{}: {what}: {code}", style.paint(word, mark)),
    };
    out.push('\n');
    if let Some(problem) = problem(judgement) {
        out.push_str(&indented("  problem: ", &short(&problem), style.width));
    }
    if let Some(advice) = judgement.advice() {
        out.push_str(&indented("  what to do: ", advice, style.width));
    }
    let others: Vec<_> = judgement.rows.iter().filter_map(|row| row.code).skip(1).collect();
    if !others.is_empty() {
        out.push_str(&indented("  refused too: ", &others.join(", "), style.width));
    }
    out
}

fn questions(count: usize) -> String {
    format!("{count} question{}", if count == 1 { "" } else { "s" })
}

/// What decided, in a sentence.
fn problem(judgement: &Judgement) -> Option<String> {
    let row = judgement.decisive()?;
    Some(format!("{}: found {}; wanted {}", row.name, row.found, row.wanted))
}

/// Rows with a verdict, in columns; cells that do not fit go on in the next line.
fn table(rows: &[&Row], style: &Style) -> String {
    let names = rows.iter().map(|row| row.name.len()).max().unwrap_or_default().clamp(5, 36);
    let left = style.width.saturating_sub(WORD + names + 6);
    let widths = [names, left / 2, left - left / 2];
    let mut out = String::new();
    let mut line = |mark: &str, cells: [&str; 3]| {
        let cells: Vec<Vec<String>> = cells.iter().zip(widths).map(|(cell, width)| wrapped(cell, width)).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or_default();
        for row in 0..height {
            let mut text = if row == 0 { mark.to_owned() } else { " ".repeat(WORD) };
            for (cell, width) in cells.iter().zip(widths) {
                let cell = cell.get(row).map_or("", String::as_str);
                text.push_str(&format!("  {cell}{}", " ".repeat(width.saturating_sub(cell.chars().count()))));
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
    };
    line(&" ".repeat(WORD), ["CHECK", "FOUND", "WANTED"]);
    for row in rows {
        let (word, mark) = if row.ok == Some(true) { ("ok", Mark::Good) } else { ("REFUSED", Mark::Bad) };
        let word = style.paint(&format!("{word:WORD$}"), mark);
        let wanted = if row.found == row.wanted { "the same".to_owned() } else { short(&row.wanted) };
        line(&word, [row.name, &short(&row.found), &wanted]);
    }
    out
}

/// The width of the column of verdicts.
const WORD: usize = 7;

/// Lines of at most `width` characters, broken at blanks where there are any.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut rest: Vec<char> = word.chars().collect();
        loop {
            let used = lines.last().map_or(0, |line| line.chars().count());
            let blank = usize::from(used > 0);
            if used + blank + rest.len() <= width {
                if let Some(line) = lines.last_mut() {
                    line.push_str(if blank == 1 { " " } else { "" });
                    line.extend(&rest);
                }
                break;
            }
            if used > 0 {
                lines.push(String::new());
                continue;
            }
            let tail = rest.split_off(width.min(rest.len()));
            if let Some(line) = lines.last_mut() {
                line.extend(&rest);
            }
            lines.push(String::new());
            rest = tail;
        }
    }
    lines
}

/// A text behind its heading, its further lines under the first; escaped.
fn indented(heading: &str, text: &str, width: usize) -> String {
    let indent = heading.chars().count();
    let lines = wrapped(&visible(text), width.saturating_sub(indent).max(20));
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        out.push_str(&if index == 0 { heading.to_owned() } else { " ".repeat(indent) });
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// The words of a kind.
fn words(kind: &str) -> &'static str {
    match kind {
        "snp-report" => "SEV-SNP report",
        "azure-hcl" => "evidence of an Azure confidential machine",
        "tpm-quote" => "TPM quote",
        "tdx-quote" => "Intel TDX quote",
        "event-log" => "event log",
        "ima-list" => "IMA list",
        "revocation-list" => "revocation list",
        _ => "certificate",
    }
}

/// A text with its long hexadecimal numbers shortened, escaped.
fn short(text: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for character in text.chars().map(Some).chain([None]) {
        if let Some(digit) = character.filter(|character| matches!(character, '0'..='9' | 'a'..='f')) {
            digits.push(digit);
            continue;
        }
        if digits.len() > LONG {
            let (head, tail) =
                (digits.get(..12).unwrap_or_default(), digits.get(digits.len() - 8..).unwrap_or_default());
            out.push_str(&format!("{head}…{tail}"));
        } else {
            out.push_str(&digits);
        }
        digits.clear();
        out.extend(character);
    }
    visible(&out)
}

/// Longer numbers are shortened.
const LONG: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_numbers_are_shortened_and_words_are_not() {
        assert_eq!(short(&"ab".repeat(48)), "abababababab…abababab");
        assert_eq!(short("chip 0123456789abcdef"), "chip 0123456789abcdef");
        assert_eq!(short("a deadbeef facade"), "a deadbeef facade");
    }

    #[test]
    fn a_cell_is_never_wider_than_its_column_and_loses_nothing() {
        for text in ["", "short", "a text of several words that is long", &"x".repeat(100), "a b"] {
            let lines = wrapped(text, 10);
            assert!(lines.iter().all(|line| line.chars().count() <= 10), "{lines:?}");
            assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
        }
    }

    #[test]
    fn colour_is_only_where_it_is_asked_for() {
        let style = |colour| Style { width: 80, colour };
        assert_eq!(style(false).paint("ok", Mark::Good), "ok");
        assert_eq!(style(true).paint("ok", Mark::Good), "\u{1b}[32mok\u{1b}[0m");
    }
}
