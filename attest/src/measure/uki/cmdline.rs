//! The command line as systemd-stub passes it on, and the kernel measures it.

/// The text of a section `.cmdline`: up to the first NUL, white space and control characters at both ends cut off, those
/// within turned into spaces. None when it is not UTF-8, which the stub mends in its own way.
pub(super) fn as_passed(section: &[u8]) -> Option<String> {
    let text = section.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = str::from_utf8(text).ok()?;
    let blank = |c: char| c <= ' ' || c == '\u{7f}';
    Some(text.trim_matches(blank).chars().map(|c| if blank(c) { ' ' } else { c }).collect())
}

/// Whether versions of the stub pass it on differently: 252 keeps white space at the start, and takes DEL for a letter.
pub(super) fn is_ambiguous(section: &[u8]) -> bool {
    let text = section.split(|byte| *byte == 0).next().unwrap_or_default();
    text.first().is_some_and(|first| *first <= b' ') || text.contains(&0x7f)
}

#[cfg(test)]
mod tests {
    use super::{as_passed, is_ambiguous};

    #[test]
    fn what_versions_of_the_stub_pass_on_differently_is_not_predicted() {
        for section in [&b" quiet"[..], b"\n", b"qui\x7fet"] {
            assert!(is_ambiguous(section));
        }
        for section in [&b"quiet splash\n"[..], b"quiet\0 \x7f", b"\0", b""] {
            assert!(!is_ambiguous(section));
        }
    }

    #[test]
    fn a_command_line_is_passed_without_what_editors_leave() {
        let passed = |section: &[u8]| as_passed(section);
        assert_eq!(passed(b"quiet splash\n").as_deref(), Some("quiet splash"));
        assert_eq!(passed(b" \tquiet\tsplash \x7f\n\0more").as_deref(), Some("quiet splash"));
        assert_eq!(passed("name=\u{e4}".as_bytes()).as_deref(), Some("name=\u{e4}"));
        assert_eq!(passed(b"\0quiet").as_deref(), Some(""));
        assert_eq!(passed(b"\xff"), None);
    }
}
