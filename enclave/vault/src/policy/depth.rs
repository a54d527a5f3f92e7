//! How deep a policy text nests, found without recursion: Cedar's parser recurses, and takes the process with it when
//! the stack ends.
//!
//! Measured with Cedar 4.14, unoptimised, on a stack of 2 MiB: 40 parentheses overflow it while parsing, some 1000 `if`s
//! too, and 12000 additions or attributes in a row when the expression is dropped. So a text of the length that we
//! allow could end the vault. And 40 `||` in a row, 150 on the 8 MiB of a main thread, parse well but meet a limit of
//! Cedar's own when they are evaluated, and so deny everything: better to hear of it when the text is given.

/// Where a text goes too deep, and in which way: a byte offset and words.
pub(super) fn too_deep(text: &str) -> Option<(usize, &'static str)> {
    let mut depth = Depth::default();
    let mut bytes = text.bytes().enumerate().peekable();
    let mut word = 0; // how many bytes of a word, or of `if` as a word, lie behind us
    let mut word_start = 0;
    while let Some((at, byte)) = bytes.next() {
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            if word == 0 {
                word_start = at;
            }
            word += 1;
            continue;
        }
        if text.get(word_start..at).is_some_and(|found| word != 0 && found == "if") {
            depth.conditions += 1;
        }
        word = 0;
        match byte {
            b'"' => {
                while let Some((_, inside)) = bytes.next() {
                    match inside {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b'/' if bytes.peek().is_some_and(|(_, next)| *next == b'/') => {
                let _rest = bytes.by_ref().find(|(_, inside)| matches!(inside, b'\n' | b'\r'));
            }
            b'(' | b'[' | b'{' => depth.brackets += 1,
            b')' | b']' | b'}' => depth.brackets = depth.brackets.saturating_sub(1),
            b'.' => depth.links += 1,
            b'&' | b'|' => depth.halves += 1,
            b'+' | b'-' | b'*' => depth.halves += 2,
            b';' => depth = Depth::default(),
            _ => {}
        }
        if let Some(what) = depth.beyond() {
            return Some((at, what));
        }
    }
    None
}

/// What one policy has nested so far.
#[derive(Default)]
struct Depth {
    brackets: usize,
    conditions: usize,
    links: usize,
    /// Characters of `&&` and `||`; a sum or product counts as two.
    halves: usize,
}

impl Depth {
    fn beyond(&self) -> Option<&'static str> {
        match self {
            _ if self.brackets > 16 => Some("more than 16 brackets within each other"),
            _ if self.conditions > 16 => Some("more than 16 `if` in one policy"),
            _ if self.links > 1000 => Some("more than 1000 attributes and calls in one policy"),
            _ if self.halves > 2 * 64 => {
                Some("more than 64 `&&`, `||` and sums in one policy: use a set and `contains`, or several policies")
            }
            _ => None,
        }
    }
}
