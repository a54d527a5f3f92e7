//! Which executable runs: looked up in PATH, and seen through to the interpreter where it is a script.
//!
//! A script cannot be protected, because its interpreter must read it; the interpreter can. So the first line is
//! followed as the kernel would follow it (fs/binfmt_script.c). `#!/usr/bin/env NAME` is followed one step further:
//! env would execute the interpreter in the ordinary way, and the protection would be gone.

use rustix::fs::{Access, AtFlags, CWD, accessat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// An executable that is no script, and the words that it gets, its own name first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) file: PathBuf,
    pub(crate) words: Vec<OsString>,
}

/// Why there is nothing to execute.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error("{}: not found", name.display())]
    NotFound { name: PathBuf },
    #[error("{}: cannot be looked at", file.display())]
    Unreachable { file: PathBuf, source: io::Error },
    #[error("{}: not an executable file", file.display())]
    NotExecutable { file: PathBuf },
    #[error("{}: cannot read its first line", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{}: its first line names no interpreter", file.display())]
    NoInterpreter { file: PathBuf },
    #[error("{}: more than {SCRIPTS} scripts, each the interpreter of the one before", file.display())]
    TooManyScripts { file: PathBuf },
}

impl Program {
    /// Finds what `command` names. `path` is the program's own PATH.
    pub(crate) fn find(command: &[OsString], path: Option<&OsStr>) -> Result<Self, ProgramError> {
        let name = command.first().map(OsString::as_os_str).unwrap_or_default();
        let mut program = Self { file: look_up(name, path)?, words: command.to_vec() };
        for _ in 0..SCRIPTS {
            match first_line(&program.file)? {
                None => return Ok(program),
                Some(line) => program = program.interpreted_by(&line, path)?,
            }
        }
        Err(ProgramError::TooManyScripts { file: program.file })
    }

    /// The interpreter that this script's first line names, with the script as its argument.
    fn interpreted_by(self, line: &[u8], path: Option<&OsStr>) -> Result<Self, ProgramError> {
        let none = || ProgramError::NoInterpreter { file: self.file.clone() };
        let Interpreter { name, argument } = Interpreter::of_line(line).ok_or_else(none)?;
        let (file, mut words) = match through_env(name, argument) {
            Some(words) => {
                let name = words.first().ok_or_else(none)?;
                (look_up(name, path)?, words)
            }
            None => {
                let mut words = vec![os(name)];
                words.extend(argument.map(os));
                (executable(Path::new(OsStr::from_bytes(name)))?, words)
            }
        };
        words.push(self.file.into_os_string());
        words.extend(self.words.into_iter().skip(1));
        Ok(Self { file, words })
    }
}

/// What stands behind `#!`.
#[derive(Debug, PartialEq, Eq)]
struct Interpreter<'line> {
    name: &'line [u8],
    /// At most one: the rest of the line, blanks included.
    argument: Option<&'line [u8]>,
}

impl<'line> Interpreter<'line> {
    fn of_line(line: &'line [u8]) -> Option<Self> {
        let line = line.trim_ascii();
        let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
        let (name, rest) = line.split_at_checked(end)?;
        let argument = Some(rest.trim_ascii()).filter(|rest| !rest.is_empty());
        (!name.is_empty() && !line.contains(&0)).then_some(Self { name, argument })
    }
}

/// The words that env would execute, where that is plain to see.
fn through_env(interpreter: &[u8], argument: Option<&[u8]>) -> Option<Vec<OsString>> {
    let argument = argument.filter(|_| interpreter == b"env" || interpreter.ends_with(b"/env"))?;
    let words: Vec<_> = match argument.strip_prefix(b"-S") {
        // Quotes, escapes and variables are env's business.
        Some(split) if split.iter().any(|byte| b"'\"\\$#".contains(byte)) => return None,
        Some(split) => split.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(os).collect(),
        None => vec![os(argument)],
    };
    let first = words.first()?.as_bytes();
    (!first.starts_with(b"-") && !first.contains(&b'=')).then_some(words)
}

fn look_up(name: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, ProgramError> {
    if name.as_bytes().contains(&b'/') {
        return executable(Path::new(name));
    }
    let mut closest = ProgramError::NotFound { name: name.into() };
    if name.is_empty() {
        return Err(closest);
    }
    for directory in std::env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        // An empty entry means the current directory.
        match executable(&Path::new(".").join(directory).join(name)) {
            // A directory that we may not search holds nothing for us.
            Err(ProgramError::NotFound { .. } | ProgramError::Unreachable { .. }) => {}
            Err(error) => closest = error,
            Ok(file) => return Ok(file),
        }
    }
    Err(closest)
}

fn executable(file: &Path) -> Result<PathBuf, ProgramError> {
    match file.metadata() {
        Ok(status) if status.is_file() && accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS).is_ok() => {
            Ok(file.to_owned())
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(ProgramError::NotFound { name: file.to_owned() })
        }
        Err(source) => Err(ProgramError::Unreachable { file: file.to_owned(), source }),
        Ok(_) => Err(ProgramError::NotExecutable { file: file.to_owned() }),
    }
}

/// What follows `#!` in the first line, of a script.
fn first_line(file: &Path) -> Result<Option<Vec<u8>>, ProgramError> {
    let read = |source| ProgramError::Read { file: file.to_owned(), source };
    let mut start = Vec::new();
    match File::open(file) {
        Ok(open) => open.take(LINE).read_to_end(&mut start).map_err(read)?,
        // Executable and not readable: no interpreter could read it either, so it is no script.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(read(error)),
    };
    let Some(line) = start.strip_prefix(b"#!") else { return Ok(None) };
    match line.iter().position(|byte| *byte == b'\n') {
        Some(end) => Ok(line.get(..end).map(<[u8]>::to_vec)),
        None if start.len() < 256 => Ok(Some(line.to_vec())),
        // The kernel would cut it, and run something else.
        None => Err(ProgramError::NoInterpreter { file: file.to_owned() }),
    }
}

fn os(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

/// The kernel looks at no more of a first line, in bytes (`BINPRM_BUF_SIZE`).
const LINE: u64 = 256;

/// The kernel follows no more scripts than this.
const SCRIPTS: usize = 5;

/// As execvp(3) does when there is no PATH, without the current directory.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_line_is_an_interpreter_and_at_most_one_argument() {
        let of = |line: &'static [u8]| Interpreter::of_line(line).map(|found| (found.name, found.argument));
        assert_eq!(of(b"/bin/sh"), Some((&b"/bin/sh"[..], None)));
        assert_eq!(of(b" \t/bin/sh  -e -u \r"), Some((&b"/bin/sh"[..], Some(&b"-e -u"[..]))));
        assert_eq!(of(b"  "), None);
        assert_eq!(of(b"/bin/\0sh"), None);
    }

    #[test]
    fn env_is_seen_through_where_it_is_plain_what_it_would_do() {
        let words = |argument: &'static [u8]| through_env(b"/usr/bin/env", Some(argument));
        assert_eq!(words(b"python3").unwrap(), ["python3"]);
        assert_eq!(words(b"-S python3 -u -B").unwrap(), ["python3", "-u", "-B"]);
        assert_eq!(words(b"-Spython3").unwrap(), ["python3"]);
        for opaque in [&b"-i"[..], b"-S A=1 python3", b"-S -i python3", b"-S sh -c 'x y'", b"-S $SHELL", b"A=1", b"-S"]
        {
            assert_eq!(through_env(b"/usr/bin/env", Some(opaque)), None);
        }
        assert_eq!(through_env(b"/usr/bin/python3", Some(b"x")), None);
        assert_eq!(through_env(b"/usr/bin/env", None), None);
    }

    #[test]
    fn a_script_becomes_its_interpreter_with_the_script_as_argument() {
        let script = Script::new("plain", "#!/bin/sh -e\necho\n");
        let program = Program::find(&[script.0.clone().into(), "a b".into()], None).unwrap();
        assert_eq!(program.file, Path::new("/bin/sh"));
        assert_eq!(program.words, [OsStr::new("/bin/sh"), OsStr::new("-e"), script.0.as_os_str(), OsStr::new("a b")]);
        let by_env = Script::new("env", "#!/usr/bin/env sh\n");
        let program = Program::find(&[by_env.0.clone().into()], Some(OsStr::new("/nowhere:/bin"))).unwrap();
        assert!(program.file.ends_with("bin/sh"));
        assert_eq!(program.words, [OsStr::new("sh"), by_env.0.as_os_str()]);
    }

    #[test]
    fn a_script_whose_interpreter_is_itself_ends() {
        let path = std::env::temp_dir().join(format!("blindferry-launch-{}-self", std::process::id()));
        let script = Script::new("self", &format!("#!{}\n", path.display()));
        assert_eq!(script.0, path);
        assert!(matches!(Program::find(&[path.into()], None), Err(ProgramError::TooManyScripts { .. })));
    }

    #[test]
    fn what_is_missing_and_what_is_not_executable_are_told_apart() {
        let find = |name: &str| Program::find(&[name.into()], Some(OsStr::new("/etc:/bin")));
        assert!(matches!(find("no-such-program"), Err(ProgramError::NotFound { .. })));
        assert!(matches!(find("/no/such"), Err(ProgramError::NotFound { .. })));
        assert!(matches!(find("group"), Err(ProgramError::NotExecutable { .. })));
        assert!(matches!(find("/etc"), Err(ProgramError::NotExecutable { .. })));
        assert!(matches!(find(""), Err(ProgramError::NotFound { .. })));
        let long = Script::new("long", &format!("#!/bin/sh {}\n", "x".repeat(300)));
        assert!(matches!(find(long.0.to_str().unwrap()), Err(ProgramError::NoInterpreter { .. })));
    }

    struct Script(PathBuf);

    impl Script {
        fn new(name: &str, text: &str) -> Self {
            use std::os::unix::fs::PermissionsExt;
            let path = std::env::temp_dir().join(format!("blindferry-launch-{}-{name}", std::process::id()));
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            Self(path)
        }
    }

    impl Drop for Script {
        fn drop(&mut self) {
            let _gone = std::fs::remove_file(&self.0);
        }
    }
}
