//! The stage in the caller's session: starts the others, stands in for the program, and ends as it ends.

use crate::arguments::{Arguments, LINK, Stage};
use crate::failure::Failure;
use crate::note;
use crate::surroundings;
use blindferry_handle::attempt::landlock_abi;
use blindferry_handle::entry::{Entry, enter};
use blindferry_handle::inherit::close_all_but;
use blindferry_terminal::{Accompany, End, Finished, FromKeeper, Limits, Link, Signals, Terminal, TimedOut, accompany};
use command_fds::{CommandFdExt, FdMapping};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::termios::isatty;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// Runs the program; ends this process as the program ended, if it did so by a signal.
///
/// # Errors
/// [`Failure`], when it did not run.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let entered = enter(&Entry::new()).map_err(Failure::Enter)?;
    close_all_but(&[]).map_err(Failure::Close)?;
    for text in surroundings::view(arguments)?.notes {
        note(&format!("warning: {text}"));
    }
    let own = entered.executable().map(Path::to_owned).ok_or(Failure::NoExecutable)?;
    let signals = Signals::of_a_proxy().map_err(Failure::Signals)?;
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    let streams = [input.as_fd(), output.as_fd(), error.as_fd()];
    let terminal = Terminal::among(&streams).map_err(Failure::Terminal)?;
    let on_terminal: String = ('0'..).zip(&streams).filter(|(_, fd)| isatty(fd)).map(|(digit, _)| digit).collect();
    let confined = Confined::start(arguments, &own, &on_terminal)?;
    let limits = Limits { time: arguments.time().map(|after| TimedOut { after, grace: GRACE }) };
    let in_pipeline = on_terminal.len() < streams.len();
    let finished = accompany(&confined.link, signals, terminal, confined.master, in_pipeline, limits);
    // The first process ends when nobody is at the other end, and takes all others with it.
    drop(confined.link);
    end(confined.child);
    match finished {
        Ok(Finished::Ended(End::Exited(code))) => Ok(ExitCode::from(code)),
        Ok(Finished::Ended(killed)) => killed.follow(),
        Ok(Finished::TimedOut) => {
            note("the program ran for longer than --timeout allows");
            Ok(ExitCode::from(TIMED_OUT))
        }
        // What ended it has been told by the stage that did not go on.
        Err(Accompany::Link(error)) if error.is_closed() => Ok(ExitCode::from(BROKEN)),
        Err(error) => Err(error.into()),
    }
}

/// A program that is prepared and waits to be started.
struct Confined {
    child: Child,
    link: Link,
    master: Option<OwnedFd>,
}

impl Confined {
    /// With everything, or where that cannot be had with less, which is said.
    fn start(arguments: &Arguments, own: &Path, on_terminal: &str) -> Result<Self, Failure> {
        let abi = landlock_abi();
        if arguments.require {
            match &abi {
                Ok(abi) if *abi >= WHOLE => {}
                Ok(abi) => {
                    let lacking = format!("Landlock knows version {abi}, and {WHOLE} is needed (Linux 6.12)");
                    return Err(Failure::Required { lacking });
                }
                Err(error) => return Err(Failure::Required { lacking: format!("no Landlock: {error}") }),
            }
        }
        let lacking = match Self::stage(arguments, own, Stage::Threshold, on_terminal)? {
            Ok(confined) => {
                match abi {
                    Ok(abi) if abi >= WHOLE => {}
                    _ => note("warning: this kernel's Landlock does not keep signals and abstract sockets apart"),
                }
                return Ok(confined);
            }
            Err(lacking) => lacking,
        };
        if arguments.require {
            return Err(Failure::Required { lacking });
        }
        if abi.is_err() {
            return Err(Failure::Nothing { lacking });
        }
        note(&format!(
            "warning: no namespaces here, Landlock and seccomp alone: the program sees names and command lines of other \
             processes and has no /tmp, and nothing can connect to Unix sockets ({lacking})"
        ));
        Self::stage(arguments, own, Stage::Beside, on_terminal)?.map_err(|why| Failure::Unfit { why })
    }

    /// The reason where that stage cannot go on.
    fn stage(
        arguments: &Arguments,
        own: &Path,
        stage: Stage,
        on_terminal: &str,
    ) -> Result<Result<Self, String>, Failure> {
        let (link, theirs) = Link::pair()?;
        let mut command = stage_command(own, arguments, stage, on_terminal);
        for digit in on_terminal.chars() {
            // Nothing in there ever holds the user's own terminal.
            match digit {
                '0' => command.stdin(Stdio::null()),
                '1' => command.stdout(Stdio::null()),
                _ => command.stderr(Stdio::null()),
            };
        }
        hand_over(&mut command, theirs)?;
        // What the user's terminal sends to our group is passed on to the program, and must not end the stages.
        command.process_group(0);
        let child = command.spawn().map_err(Failure::Stage)?;
        drop(command);
        let heard = loop {
            match link.reported() {
                Ok(FromKeeper::Note(text)) => note(&format!("warning: {text}")),
                heard => break heard,
            }
        };
        match heard {
            Ok(FromKeeper::Ready(master)) => Ok(Ok(Self { child, link, master })),
            Ok(FromKeeper::Unfit(why)) => {
                end(child);
                Ok(Err(why))
            }
            Ok(_) => {
                end(child);
                Err(Failure::Unfit { why: "it does not keep to the protocol".to_owned() })
            }
            Err(error) if error.is_closed() => {
                end(child);
                Ok(Err("its process ended".to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// This executable again, as that stage.
pub(crate) fn stage_command(own: &Path, arguments: &Arguments, stage: Stage, on_terminal: &str) -> Command {
    let mut command = Command::new(own);
    command.arg0("blindferry-sandbox").args(arguments.for_stage(stage, on_terminal));
    command
}

/// Gives the next stage this end of the link, under the number where it looks for it.
pub(crate) fn hand_over(command: &mut Command, link: Link) -> Result<(), Failure> {
    let mapping = FdMapping { parent_fd: link.into_fd(), child_fd: LINK };
    command.fd_mappings(vec![mapping]).map_err(|_| Failure::Stage(io::ErrorKind::InvalidInput.into()))?;
    Ok(())
}

/// Waits until the stages have ended, and sees to it that they do.
fn end(mut child: Child) {
    let number = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let watched = number.and_then(|number| pidfd_open(number, PidfdFlags::empty()).ok());
    if let Some(watched) = watched {
        let _ended = poll(&mut [PollFd::new(&watched, PollFlags::IN)], Some(&LONG_ENOUGH));
    }
    // Does nothing to one that has ended. Of one that has not, what it started is told by its death (PR_SET_PDEATHSIG).
    let _killed = child.kill();
    let _reaped = child.wait();
}

/// Where this executable lies, for the next stage: a path that leads there in the present root.
pub(crate) fn itself() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

/// Of `timeout` (coreutils).
const TIMED_OUT: u8 = 124;

/// A problem on this machine, as with the command.
const BROKEN: u8 = 5;

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// The version of Landlock that has everything that is used: scopes of signals and abstract sockets.
const WHOLE: u32 = 6;

/// For processes that have been killed to go.
const LONG_ENOUGH: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
