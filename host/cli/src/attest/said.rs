//! What evidence says, as an ordered tree: printed for people, or written as JSON.

use blindferry_proto::shown::visible;
use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// A value and what is under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Text(String),
    Number(u64),
    Flag(bool),
    List(Vec<Said>),
    Fields(Vec<(String, Said)>),
}

impl Said {
    pub(super) fn hex(bytes: &[u8]) -> Self {
        Self::Text(hex::encode(bytes))
    }

    pub(super) fn lines(lines: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::List(lines.into_iter().map(|line| Self::Text(line.into())).collect())
    }

    pub(super) fn fields(fields: impl IntoIterator<Item = (impl Into<String>, Self)>) -> Self {
        Self::Fields(fields.into_iter().map(|(name, said)| (name.into(), said)).collect())
    }

    /// The text, every line with so many blanks before it. Whatever comes from evidence is escaped.
    pub(super) fn render(&self, indent: usize, out: &mut String) {
        let blanks = " ".repeat(indent);
        match self {
            Self::Fields(fields) => {
                let width =
                    fields.iter().filter(|(_, said)| said.is_short()).map(|(name, _)| name.chars().count()).max();
                for (name, said) in fields {
                    let name = visible(name);
                    if said.is_short() {
                        let line =
                            format!("{blanks}{name:<width$}  {}", said.line(), width = width.unwrap_or_default());
                        out.push_str(line.trim_end());
                        out.push('\n');
                    } else {
                        out.push_str(&format!("{blanks}{name}\n"));
                        said.render(indent + 2, out);
                    }
                }
            }
            Self::List(list) if list.is_empty() => out.push_str(&format!("{blanks}none\n")),
            Self::List(list) => {
                for said in list {
                    if said.is_short() {
                        out.push_str(&format!("{blanks}{}\n", said.line()));
                    } else {
                        said.render(indent, out);
                    }
                }
            }
            _ => out.push_str(&format!("{blanks}{}\n", self.line())),
        }
    }

    fn is_short(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Number(_) | Self::Flag(_))
    }

    fn line(&self) -> String {
        match self {
            Self::Text(text) => visible(text),
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Self::List(_) | Self::Fields(_) => String::new(),
        }
    }
}

impl From<&str> for Said {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Said {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl Serialize for Said {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::List(list) => serializer.collect_seq(list),
            Self::Fields(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, said) in fields {
                    // The same words as keys of programs.
                    map.serialize_entry(&name.replace([' ', '-'], "_"), said)?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_programs_read_the_same_in_the_same_order() {
        let said = Said::fields([
            ("launch TCB", Said::from("bootloader 4")),
            ("a", Said::Flag(true)),
            ("policy", Said::lines(["one\u{1b}[2J", "two"])),
        ]);
        let mut text = String::new();
        said.render(2, &mut text);
        assert_eq!(text, "  launch TCB  bootloader 4\n  a           yes\n  policy\n    one\\u{1b}[2J\n    two\n");
        let json = serde_json::to_string(&said).unwrap();
        assert_eq!(json, r#"{"launch_TCB":"bootloader 4","a":true,"policy":["one\u001b[2J","two"]}"#);
    }
}
