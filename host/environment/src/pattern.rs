//! Patterns of names, as the tables write them: a name, or its beginning with `*` behind it.

/// Whether `name` is `pattern`, byte for byte.
pub(crate) fn is_exactly(pattern: &str, name: &[u8]) -> bool {
    !pattern.ends_with('*') && pattern.as_bytes() == name
}

/// Whether `pattern` is a beginning and `name` goes on from it.
pub(crate) fn begins(pattern: &str, name: &[u8]) -> bool {
    pattern.strip_suffix('*').is_some_and(|beginning| name.starts_with(beginning.as_bytes()))
}

/// The same two without regard to the case of ASCII letters: npm and Terraform read either.
pub(crate) fn matches_in_any_case(pattern: &str, name: &[u8]) -> bool {
    match pattern.strip_suffix('*') {
        None => pattern.as_bytes().eq_ignore_ascii_case(name),
        Some(beginning) => {
            name.get(..beginning.len()).is_some_and(|first| first.eq_ignore_ascii_case(beginning.as_bytes()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_itself_and_a_beginning_is_what_goes_on_from_it() {
        assert!(is_exactly("PATH", b"PATH") && !is_exactly("PATH", b"PATHS") && !is_exactly("LC_*", b"LC_*"));
        assert!(begins("LC_*", b"LC_ALL") && !begins("LC_*", b"LC") && !begins("PATH", b"PATH"));
        assert!(matches_in_any_case("TF_VAR_*", b"tf_var_x") && matches_in_any_case("NETRC", b"Netrc"));
        assert!(!matches_in_any_case("TF_VAR_*", b"TF") && !matches_in_any_case("NETRC", b"NETRCS"));
    }
}
