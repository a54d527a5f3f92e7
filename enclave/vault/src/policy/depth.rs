//! How deep a policy text may nest: found before it is parsed, because Cedar's parser recurses and has no bound of its own.
//!
//! Counted are open brackets and, within one policy, whatever makes an expression deeper without a bracket: operators,
//! accesses, `if`. Strings and comments do not count.

use super::problem::Problem;

/// Brackets open at one place.
const MAX_BRACKETS: usize = 24;
/// Operators, accesses and `if` in one policy.
const MAX_OPERATORS: usize = 400;

/// Refuses a text that nests too deep.
pub(super) fn bounded(text: &str) -> Result<(), Vec<Problem>> {
    let (mut brackets, mut operators) = (0_usize, 0_usize);
    let mut rest = text.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        match c {
            '"' => {
                while let Some((_, c)) = rest.next() {
                    match c {
                        '"' => break,
                        '\\' => drop(rest.next()),
                        _ => {}
                    }
                }
            }
            '/' if rest.next_if(|(_, next)| *next == '/').is_some() => {
                while rest.next_if(|(_, c)| *c != '\n').is_some() {}
            }
            '(' | '[' | '{' => {
                brackets += 1;
                operators += 1;
            }
            ')' | ']' | '}' => brackets = brackets.saturating_sub(1),
            ';' => operators = 0,
            '&' | '|' | '+' | '-' | '*' | '!' | '.' => operators += 1,
            'i' if text.get(at..).is_some_and(|rest| rest.starts_with("if")) => operators += 1,
            _ => {}
        }
        if brackets > MAX_BRACKETS {
            return Err(vec![Problem::at(text, at, format!("brackets nest deeper than {MAX_BRACKETS}"))]);
        }
        if operators > MAX_OPERATORS {
            return Err(vec![Problem::at(
                text,
                at,
                format!("more than {MAX_OPERATORS} operators in one policy; split it"),
            )]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_do_not_count() {
        let many = "(".repeat(MAX_BRACKETS + 1);
        assert!(bounded(&format!("\"{many}\\\"{many}\" // {many}\n")).is_ok());
        assert_eq!(bounded(&format!("\n{many}")).unwrap_err()[0].at, Some((2, MAX_BRACKETS + 1)));
        assert!(bounded(&format!("// x\n{many}")).is_err());
        assert!(bounded(&format!("\"x\\\\\" {many}")).is_err());
    }

    #[test]
    fn each_policy_has_its_own_allowance() {
        let one = format!("{};", "+".repeat(MAX_OPERATORS));
        assert!(bounded(&one.repeat(5)).is_ok());
        assert!(bounded(&"+".repeat(MAX_OPERATORS + 1)).is_err());
    }
}
