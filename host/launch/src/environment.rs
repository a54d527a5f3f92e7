//! What the command line says of the program's environment, and what the policy makes of the launcher's own.

use blindferry_environment::{Policy, Refusal, Selection, Switch};
use blindferry_handle::inherit::{InheritError, take_inherited};
use blindferry_handle::memfd::{Handle, HandleError};
use blindferry_proto::limits::MAX_INHERITED;
use blindferry_proto::name::VariableName;
use blindferry_proto::start::{BadStrings, MAX_STRINGS, split};
use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt;

pub(crate) use blindferry_environment::Environment;

/// What of the environment passes beside what every program gets.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Wanted {
    /// Passes this variable on, or sets it; may be given several times
    ///
    /// Neither a credential nor what makes programs load code: that is refused, and said which option does it.
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,

    /// Passes a group of variables on; may be given several times
    ///
    /// aws, azure, google, kubernetes, docker, ssh-agent, gpg, session-bus, display, proxy, certificates, virtual-env,
    /// toolchain, ci; and, each of which can make PROGRAM run other code, library-path, preload, shell-code, python-code,
    /// node-code, java-code, script-code, git-code, build-code, programs.
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    pass: Vec<Switch>,

    /// Passes a credential of the parent on, by the name of its variable; may be given several times
    #[arg(long, value_name = "NAME")]
    inherit_credentials: Vec<OsString>,

    /// Passes the whole environment on, but what is a credential, leads to one, or makes programs load code
    #[arg(long)]
    inherit_env: bool,
}

impl Wanted {
    /// Divides `present`.
    pub(crate) fn select(&self, present: impl Iterator<Item = (OsString, OsString)>) -> Result<Selection, Refusal> {
        let mut policy = Policy::default();
        for asked in &self.env {
            policy.ask(asked.clone())?;
        }
        for name in &self.inherit_credentials {
            policy.inherit_credential(name.clone())?;
        }
        self.pass.iter().for_each(|&switch| policy.pass(switch));
        if self.inherit_env {
            policy.pass_everything_harmless();
        }
        policy.select(present)
    }
}

/// The variables that the policy divides: this process's own, or those that whoever started the starter's launcher had.
/// There they are data: a process that holds more than its caller has none of the caller's variables.
pub(crate) fn present(environment: Option<RawFd>) -> Result<Vec<(OsString, OsString)>, PresentError> {
    let Some(number) = environment else { return Ok(std::env::vars_os().collect()) };
    let descriptor = take_inherited(number).map_err(PresentError::Inherit)?;
    let bytes = Handle::from_fd_within(descriptor, MAX_STRINGS).and_then(|handle| handle.read());
    let bytes = bytes.map_err(PresentError::Read)?;
    let assignments = split(&bytes).map_err(PresentError::Strings)?;
    Ok(assignments.into_iter().filter_map(assignment).collect())
}

/// What has no name is no variable, as with the standard library.
fn assignment(text: &[u8]) -> Option<(OsString, OsString)> {
    let equals = text.iter().skip(1).position(|byte| *byte == b'=')? + 1;
    let (name, value) = text.split_at_checked(equals)?;
    Some((OsString::from_vec(name.to_vec()), OsString::from_vec(value.get(1..)?.to_vec())))
}

/// Why the environment that was handed over cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PresentError {
    #[error("cannot take the environment's descriptor")]
    Inherit(#[source] InheritError),
    #[error("cannot read the environment")]
    Read(#[source] HandleError),
    #[error("the environment is none")]
    Strings(#[source] BadStrings),
}

/// What should be said loudly: credentials of the parent that the program gets.
pub(crate) fn inherited(selection: &Selection) -> Option<String> {
    let names: Vec<String> = selection.inherited_credentials().map(shown).collect();
    (!names.is_empty()).then(|| format!("inherits credentials of its parent: {}", names.join(", ")))
}

/// What the vault is told of them, for policy and audit: all of their names, or there is no launch.
///
/// # Errors
/// [`Untellable`].
pub(crate) fn told(selection: &Selection) -> Result<Vec<VariableName>, Untellable> {
    let names: Vec<&OsStr> = selection.inherited_credentials().collect();
    if names.len() > MAX_INHERITED {
        return Err(Untellable::TooMany { count: names.len() });
    }
    let parsed = |name: &OsStr| match name.to_str().map(str::parse) {
        Some(Ok(parsed)) => Ok(parsed),
        _ => Err(Untellable::Name { name: shown(name) }),
    };
    names.into_iter().map(parsed).collect()
}

/// An inherited credential that no audit record could name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Untellable {
    #[error("{count} of them, and a record of the audit names {MAX_INHERITED}")]
    TooMany { count: usize },
    #[error("{name}: a record of the audit names printable ASCII of at most {} bytes", VariableName::MAX)]
    Name { name: String },
}

/// A name that cannot steer a terminal or a log.
fn shown(name: &OsStr) -> String {
    name.to_string_lossy().escape_debug().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        wanted: Wanted,
    }

    fn select(words: &[&str]) -> Result<Selection, Refusal> {
        let words = Words::try_parse_from([&["x"], words].concat()).unwrap();
        let present = [("PATH", "/bin"), ("MINE", "1"), ("GH_TOKEN", "t"), ("CI", "1"), ("LD_PRELOAD", "x.so")];
        words.wanted.select(present.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn names(words: &[&str]) -> Vec<OsString> {
        select(words).unwrap().environment().names().map(OsStr::to_owned).collect()
    }

    #[test]
    fn an_assignment_is_a_name_and_a_value() {
        let of = |text: &[u8]| assignment(text);
        assert_eq!(of(b"A=b=c"), Some(("A".into(), "b=c".into())));
        assert_eq!(of(b"A="), Some(("A".into(), "".into())));
        assert_eq!((of(b"=A=b").unwrap().0, of(b"A"), of(b"")), ("=A".into(), None, None));
    }

    #[test]
    fn each_option_lets_in_what_it_says() {
        assert_eq!(names(&[]), ["PATH"]);
        assert_eq!(names(&["--env", "MINE", "--env", "NEW=2"]), ["MINE", "NEW", "PATH"]);
        assert_eq!(names(&["--pass", "ci,preload"]), ["CI", "LD_PRELOAD", "PATH"]);
        assert_eq!(names(&["--inherit-credentials", "GH_TOKEN"]), ["GH_TOKEN", "PATH"]);
        assert_eq!(names(&["--inherit-env"]), ["CI", "MINE", "PATH"]);
    }

    #[test]
    fn inherited_credentials_are_named() {
        assert_eq!(inherited(&select(&["--inherit-env"]).unwrap()), None);
        let said = inherited(&select(&["--inherit-credentials", "GH_TOKEN"]).unwrap());
        assert_eq!(said.as_deref(), Some("inherits credentials of its parent: GH_TOKEN"));
    }

    #[test]
    fn a_credential_that_the_audit_could_not_name_is_not_inherited() {
        let told_of = |names: &[String]| {
            let mut policy = Policy::default();
            for name in names {
                policy.inherit_credential(name).unwrap();
            }
            let present = names.iter().map(|name| (name.into(), "secret".into()));
            told(&policy.select(present).unwrap())
        };
        let numbered = |count: usize| (0..count).map(|n| format!("KEY_{n}_TOKEN")).collect::<Vec<_>>();
        let told_names: Vec<String> = told_of(&numbered(8)).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(told_names, numbered(8));
        assert_eq!(told_of(&numbered(9)), Err(Untellable::TooMany { count: 9 }));
        for name in ["ü_TOKEN".to_owned(), "N".repeat(129)] {
            assert_eq!(told_of(std::slice::from_ref(&name)), Err(Untellable::Name { name }));
        }
    }

    #[test]
    fn the_help_names_every_group() {
        let help: String = Words::command().render_long_help().to_string().split_whitespace().collect();
        for switch in Switch::all() {
            assert!(help.contains(switch.name()), "{switch}");
        }
        assert!(Words::try_parse_from(["x", "--pass", "nonsense"]).is_err());
    }
}
