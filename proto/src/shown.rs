//! Text from elsewhere as people are shown it: nothing in it hides, turns what is around it, or steers a terminal.

/// The text, in which each character that [`hides`] is an escape.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if hides(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// Control characters, those that change the direction of text, and those that cannot be seen.
#[must_use]
pub fn hides(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hides_in_a_text_and_the_rest_stays() {
        for evil in ["\u{1b}[2J", "\u{9b}31m", "\u{202e}", "\r", "\n", "\u{7f}", "\u{200b}", "\u{feff}", "\u{e0041}"] {
            let shown = visible(&format!("a{evil}b"));
            assert!(shown.starts_with("a\\") && shown.ends_with('b') && !shown.chars().any(hides), "{shown}");
        }
        assert_eq!(visible("Grüße, 東京"), "Grüße, 東京");
    }
}
