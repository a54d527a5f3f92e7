//! What is wrong with a policy text, and where: a line for the operator who wrote it.

use std::fmt;

use miette::Diagnostic;

/// One thing that is wrong with a policy text. Printed as `line:column: message`, always a single line of at most
/// [`Problem::MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    line: usize,
    column: usize,
    message: String,
}

impl Problem {
    /// The longest it prints as, in bytes.
    pub const MAX: usize = 512;

    /// A problem at a byte of the text. The message is put on one line and cut where it is too long to print.
    pub(super) fn at(text: &str, offset: usize, message: &str) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message: one_line(message),
        }
    }

    /// What Cedar complains about, at the first place that it points to, or at `otherwise`.
    pub(super) fn of(text: &str, complaint: &dyn Diagnostic, otherwise: usize) -> Self {
        let offset = complaint.labels().and_then(|mut labels| labels.next()).map_or(otherwise, |label| label.offset());
        let message = match complaint.help() {
            Some(help) => format!("{complaint} ({help})"),
            None => complaint.to_string(),
        };
        Self::at(text, offset, &message)
    }

    /// The line, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column in characters, from 1.
    #[must_use]
    pub fn column(&self) -> usize {
        self.column
    }

    /// What is wrong there.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// A message without line breaks and control characters, bounded: it goes into logs and frames.
pub(super) fn one_line(message: &str) -> String {
    /// Leaves room for a line and a column before it.
    const MAX_MESSAGE: usize = Problem::MAX - 32;
    const CUT: &str = "…";

    let mut line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > MAX_MESSAGE {
        line.truncate(line.floor_char_boundary(MAX_MESSAGE - CUT.len()));
        line.push_str(CUT);
    }
    line
}
