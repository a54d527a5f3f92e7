//! An error with its causes in one line, as logs, refusals and people get it.

use core::error::Error;

/// The error, then what caused it, from the outside in.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{name}")]
    struct Layer {
        name: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn causes_come_from_the_outside_in() {
        let inner = Layer { name: "no such file", source: None };
        let middle = Layer { name: "cannot read a key", source: Some(Box::new(inner)) };
        let outer = Layer { name: "cannot start", source: Some(Box::new(middle)) };
        assert_eq!(with_causes(&outer), "cannot start: cannot read a key: no such file");
    }
}
