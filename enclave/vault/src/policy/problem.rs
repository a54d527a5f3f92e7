//! What is wrong with a policy text, a line each, with line and column.

use std::fmt;

use cedar_policy::{ParseErrors, ValidationError};
use miette::Diagnostic;

/// One thing that is wrong with a policy text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line and column, counted from 1; columns count characters. `None` where it is about the text as a whole.
    pub at: Option<(usize, usize)>,
    /// What is wrong, on one line.
    pub what: String,
}

impl Problem {
    pub(super) fn whole(what: String) -> Self {
        Self { at: None, what }
    }

    pub(super) fn at(text: &str, offset: usize, what: String) -> Self {
        Self { at: Some(position(text, offset)), what }
    }

    fn of(text: &str, error: &dyn Diagnostic) -> Self {
        let mut what = one_line(&error.to_string());
        if let Some(label) = error.labels().and_then(|mut labels| labels.next()) {
            if let Some(more) = label.label() {
                what = format!("{what} ({})", one_line(more));
            }
            if let Some(help) = error.help() {
                what = format!("{what}; {}", one_line(&help.to_string()));
            }
            return Self { at: Some(position(text, label.offset())), what };
        }
        Self { at: None, what }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "{line}:{column}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

pub(super) fn of_parsing(text: &str, errors: &ParseErrors, most: usize) -> Vec<Problem> {
    errors.iter().take(most).map(|error| Problem::of(text, error)).collect()
}

pub(super) fn of_validation<'a>(
    text: &str,
    errors: impl Iterator<Item = &'a ValidationError>,
    most: usize,
) -> Vec<Problem> {
    let mut problems: Vec<_> = errors.take(most).map(|error| Problem::of(text, error)).collect();
    problems.sort_by_key(|problem| problem.at);
    problems
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.char_indices().take_while(|(at, _)| *at < offset).map(|(_, c)| c);
    before.fold((1, 1), |(line, column), c| if c == '\n' { (line + 1, 1) } else { (line, column + 1) })
}
