//! The forms in which a program may expect its token, as words of the command line, and each one's honest rank.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A form in which a program may expect its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A pipe: read once.
    Pipe,
    /// A memfd: read again and again.
    Memfd,
    /// Standard input.
    Stdin,
    /// This variable.
    Variable(OsString),
    /// Secret memory, for a program that knows of us.
    Descriptor,
    /// A file of the credential's name in `$CREDENTIALS_DIRECTORY`.
    Directory,
    /// A file at this path.
    File(PathBuf),
}

/// Not a form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadForm {
    #[error("not a form of delivery: {FORMS}")]
    Unknown,
    #[error("not the name of a variable: letters, digits and '_', and no digit in front")]
    Variable,
    #[error("file: wants an absolute path to a file")]
    Path,
}

/// All forms, as they are written.
pub(crate) const FORMS: &str = "pipe, memfd, stdin, descriptor, credentials-directory, env:VARNAME or file:PATH";

/// Who could read a token in one form, and for how long, where the level of protection holds for the program.
pub(crate) struct Rank {
    /// Who, beside the program.
    pub(crate) readers: &'static str,
    /// Until when.
    pub(crate) until: &'static str,
    /// What else it costs.
    pub(crate) note: &'static str,
}

impl Form {
    /// Its word.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Pipe => "pipe",
            Self::Memfd => "memfd",
            Self::Stdin => "stdin",
            Self::Variable(_) => "env",
            Self::Descriptor => "descriptor",
            Self::Directory => "credentials-directory",
            Self::File(_) => "file",
        }
    }

    /// Whether it can be read again, so that it can be renewed.
    pub(crate) fn is_re_readable(&self) -> bool {
        matches!(self, Self::Memfd | Self::Directory | Self::File(_))
    }

    pub(crate) fn rank(&self) -> Rank {
        match self {
            Self::Descriptor => Rank {
                readers: "nobody: it lies in secret memory, which the program moves into its own and wipes",
                until: "the program takes it, or ends",
                note: "only for programs that know of it; never swapped, in no core file, unreadable for root by procfs",
            },
            Self::Pipe => Rank {
                readers: "whatever inherits the descriptor before it is read",
                until: "it is read once; in the kernel until then",
                note: "a second reader finds nothing",
            },
            Self::Stdin => Rank {
                readers: "whatever shares standard input with the program and reads it first",
                until: "it is read once; in the kernel until then",
                note: "the program has no other standard input",
            },
            Self::Memfd => Rank {
                readers: "what the program starts and leaves the descriptor to; root",
                until: "the last of them ends, or the program overwrites it",
                note: "in ordinary memory, which can be swapped out; the program may overwrite it",
            },
            Self::Directory | Self::File(_) => Rank {
                readers: "what the program starts and leaves the descriptor to; root",
                until: "the last of them ends",
                note: "as memfd, and read-only; the path is a link that leads every process to its own descriptor, so it \
                       holds nothing and leads others nowhere; a process of this user can put another link in its place",
            },
            Self::Variable(_) => Rank {
                readers: "all that the program starts, whether it needs it or not; root",
                until: "the last of them ends",
                note: "in ordinary memory, which can be swapped out; often logged, and copied into reports of crashes",
            },
        }
    }
}

impl FromStr for Form {
    type Err = BadForm;
    fn from_str(text: &str) -> Result<Self, BadForm> {
        match text {
            "pipe" => Ok(Self::Pipe),
            "memfd" => Ok(Self::Memfd),
            "stdin" => Ok(Self::Stdin),
            "descriptor" => Ok(Self::Descriptor),
            "credentials-directory" => Ok(Self::Directory),
            _ => {
                if let Some(name) = text.strip_prefix("env:") {
                    return is_variable_name(name).then(|| Self::Variable(name.into())).ok_or(BadForm::Variable);
                }
                let path = Path::new(text.strip_prefix("file:").ok_or(BadForm::Unknown)?);
                let is_file = path.is_absolute() && path.file_name().is_some() && !text.ends_with('/');
                is_file.then(|| Self::File(path.to_owned())).ok_or(BadForm::Path)
            }
        }
    }
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_variable_no_path_and_no_form_is_refused() {
        for bad in
            ["env:", "env:1A", "env:A=B", "env:A B", "env", "file", "file:", "file:a", "file:/a/", "file:/", "", "PIPE"]
        {
            assert!(bad.parse::<Form>().is_err(), "{bad}");
        }
        assert_eq!("file:/a:b".parse(), Ok(Form::File("/a:b".into())));
        assert_eq!("env:A_1".parse(), Ok(Form::Variable("A_1".into())));
    }
}
