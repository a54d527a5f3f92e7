//! What goes to standard output: a text for people, or with `--json` one JSON document.

use crate::failure::Failure;
use blindferry_proto::shown::visible;
use serde::Serialize;
use std::io::{self, Write};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints `document` as JSON, or the text that `people` makes.
    ///
    /// # Errors
    /// [`Failure::Output`] when standard output takes no more; that nobody reads it any more is none.
    pub(crate) fn show(self, document: &impl Serialize, people: impl FnOnce() -> String) -> Result<(), Failure> {
        let text = if self.json {
            serde_json::to_string_pretty(document).map_err(|source| Failure::Json { source })?
        } else {
            people()
        };
        self.print(&text)
    }

    /// Prints a text and, where it has none, a line's end.
    ///
    /// # Errors
    /// As [`Output::show`].
    pub(crate) fn print(self, text: &str) -> Result<(), Failure> {
        let mut standard = io::stdout().lock();
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        match standard
            .write_all(text.as_bytes())
            .and_then(|()| standard.write_all(end.as_bytes()))
            .and_then(|()| standard.flush())
        {
            // Whoever read this has read enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(source) => Err(Failure::Output { source }),
            Ok(()) => Ok(()),
        }
    }
}

/// A line for people on standard error. Nobody is left to tell when it fails.
pub(crate) fn note(line: &str) {
    let _nobody_listens = writeln!(io::stderr().lock(), "{line}");
}

/// Rows under headings, each column as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    headings: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &'static [&'static str]) -> Self {
        Self { headings, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| visible(&cell)).collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text; headings alone where there are no rows.
    pub(crate) fn render(&self) -> String {
        let headings: Vec<String> = self.headings.iter().map(|&heading| heading.to_owned()).collect();
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&headings]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..headings.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            format!("{}\n", cells.join("  ").trim_end())
        };
        std::iter::once(&headings).chain(&self.rows).map(line).collect()
    }
}

/// Names and values, one pair a line, the values aligned.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("{name:<width$}  {}\n", visible(value))).collect()
}

/// Seconds since the epoch in RFC 3339, UTC. What RFC 3339 cannot write stays a number.
pub(crate) fn moment(seconds: u64) -> String {
    let instant = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let written = instant.and_then(|instant| instant.format(&Rfc3339).ok());
    written.unwrap_or_else(|| format!("{seconds} s since the epoch"))
}

/// Milliseconds since the epoch, likewise; always with three digits after the second, so that columns line up.
pub(crate) fn moment_from_millis(millis: u64) -> String {
    let whole = moment(millis / 1_000);
    whole
        .strip_suffix('Z')
        .map_or_else(|| format!("{millis} ms since the epoch"), |whole| format!("{whole}.{:03}Z", millis % 1_000))
}

/// A number of seconds as people say it: `1d 2h`, `15m`, `59s`.
pub(crate) fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut left = seconds;
    let mut parts = Vec::new();
    for (size, name) in units {
        if left >= size {
            parts.push(format!("{}{name}", left / size));
            left %= size;
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let mut table = Table::new(&["NAME", "KIND"]);
        table.row(["a".to_owned(), "release".to_owned()]);
        table.row(["long-name".to_owned(), "x".to_owned()]);
        assert_eq!(table.render(), "NAME       KIND\na          release\nlong-name  x\n");
    }

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        let mut table = Table::new(&["A"]);
        table.row(["\u{1b}[2Jx\ny".to_owned()]);
        assert!(!table.render().contains('\u{1b}'));
        assert_eq!(table.render().lines().count(), 2);
        assert!(pairs(&[("a", "\u{9b}31m".to_owned())]).contains("\\u{9b}"));
    }

    #[test]
    fn moments_are_rfc_3339_in_utc() {
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(moment(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(moment_from_millis(1_050), "1970-01-01T00:00:01.050Z");
        assert!(moment_from_millis(u64::MAX).contains("since the epoch"));
        assert!(moment(u64::MAX).contains("since the epoch"));
    }

    #[test]
    fn spans_have_at_most_two_units() {
        assert_eq!(span(0), "0s");
        assert_eq!(span(900), "15m");
        assert_eq!(span(93_784), "1d 2h");
    }
}
