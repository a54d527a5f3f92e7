//! Where in a file something stands, with the line as people may see it.

use crate::secret;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A part of one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its number, from 1.
    pub line: usize,
    /// The first character's number, from 1.
    pub column: usize,
    /// Characters that are meant, at least 1.
    pub width: usize,
    /// The line, without a value that may be a secret, and cut where it is long.
    pub excerpt: String,
}

impl Place {
    /// The place of bytes `span` of `text`; none for a span that is no part of it, or is all of it.
    pub(crate) fn of(text: &str, span: Range<usize>) -> Option<Self> {
        // What is wrong with the whole, such as a key that is missing, stands nowhere.
        if span.start == 0 && (span.end == 0 || span.end >= text.trim_end().len()) && text.trim_end().contains('\n') {
            return None;
        }
        let before = text.get(..span.start)?;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let whole = text.get(start..)?.lines().next().unwrap_or_default();
        let meant = text.get(span).unwrap_or_default().lines().next().unwrap_or_default();
        let excerpt = shown(whole);
        let column = before.get(start..)?.chars().count() + 1;
        let room = excerpt.chars().count().saturating_sub(column - 1);
        let width = meant.chars().count().min(room).max(1);
        Some(Self { line: before.matches('\n').count() + 1, column, width, excerpt })
    }
}

/// A line that cannot steer a terminal, tell a secret, or fill a screen.
fn shown(line: &str) -> String {
    let line = match secret::value_in(line) {
        Some(value) => line.get(..value).unwrap_or_default().to_owned() + "…",
        None => line.to_owned(),
    };
    let mut shown = String::new();
    for character in line.trim_end().chars().take(LONGEST) {
        if character.is_control() && character != '\t' { shown.push('\u{fffd}') } else { shown.push(character) }
    }
    if line.chars().count() > LONGEST {
        shown.push('…');
    }
    shown
}

/// Characters of an excerpt.
const LONGEST: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_characters_from_one() {
        let text = "a = 1\nü = \"é\" # x\nc = 3\n";
        let at = text.find("\"é\"").unwrap();
        let place = Place::of(text, at..at + "\"é\"".len()).unwrap();
        assert_eq!((place.line, place.column, place.width), (2, 5, 3));
        assert_eq!(place.excerpt, "ü = \"é\" # x");
    }

    #[test]
    fn the_whole_and_what_lies_outside_are_nowhere() {
        let text = "a = 1\nb = 2\n";
        assert_eq!(Place::of(text, 0..text.len()), None);
        assert_eq!(Place::of(text, 90..91), None);
        assert_eq!(Place::of("ü", 1..2), None, "within a character");
    }

    #[test]
    fn an_excerpt_neither_steers_the_terminal_nor_tells_a_secret() {
        let place = Place::of("x = \u{1b}[2J\n", 0..1).unwrap();
        assert!(!place.excerpt.contains('\u{1b}'), "{}", place.excerpt);
        let place = Place::of("a = 1\npassword = \"hunter2\"\n", 6..14).unwrap();
        assert!(!place.excerpt.contains("hunter2") && place.excerpt.starts_with("password"), "{}", place.excerpt);
        assert!(Place::of(&"x".repeat(1000), 3..4).unwrap().excerpt.chars().count() <= LONGEST + 1);
    }
}
