//! The last stage: gives up what is left, and becomes the program.

use crate::arguments::Arguments;
use crate::calls::{Sockets, deny};
use crate::failure::Failure;
use crate::fence::{Fence, alone, around};
use crate::first::Where;
use crate::surroundings;
use blindferry_handle::inherit::close_on_exec_all_but;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::set_no_new_privs;
use std::convert::Infallible;
use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Becomes the program.
///
/// # Errors
/// [`Failure`]: it returns only then.
pub(crate) fn run(arguments: &Arguments, place: Where) -> Result<Infallible, Failure> {
    let power = |doing| move |error: rustix::io::Errno| Failure::Power { doing, source: error.into() };
    set_no_new_privs(true).map_err(power("give up new privileges"))?; // before the other two, which need it or root
    let view = surroundings::view(arguments)?;
    let fence = match place {
        Where::Inside => around(&view),
        Where::Beside => alone(&view.searched()),
    }?;
    match (fence, place) {
        (Fence::Whole, _) => {}
        (Fence::Partial | Fence::None, _) if arguments.require => {
            return Err(Failure::Required { lacking: "all of Landlock".to_owned() });
        }
        (Fence::None, Where::Beside) => return Err(Failure::Nothing { lacking: "none were had".to_owned() }),
        (Fence::Partial | Fence::None, _) => {}
    }
    if place == Where::Beside {
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(power("end with the stage before"))?;
    }
    close_on_exec_all_but(&[]).map_err(Failure::Close)?;
    deny(sockets(place, fence, arguments))?; // last: for good
    let mut words = arguments.program.iter();
    let program = words.next().cloned().unwrap_or_default();
    let mut command = Command::new(&program);
    command.args(words);
    for name in DIRECTORIES.iter().filter(|name| env::var_os(name).is_some_and(|path| !Path::new(&path).is_dir())) {
        // It leads to what is not shown.
        command.env_remove(name);
    }
    Err(Failure::Program { program: PathBuf::from(program), source: command.exec() })
}

/// Landlock does not know the paths of sockets, so where no layout hides them none can be made; nor can an abstract one be
/// told from another.
fn sockets(place: Where, fence: Fence, arguments: &Arguments) -> Sockets {
    match (place, fence) {
        (Where::Beside, _) if arguments.no_network => Sockets::None,
        (Where::Beside, _) => Sockets::NoUnix,
        // Abstract sockets belong to a network namespace.
        (Where::Inside, Fence::Whole) => Sockets::Usual,
        (Where::Inside, _) if arguments.no_network => Sockets::Usual,
        (Where::Inside, _) => Sockets::NoUnix,
    }
}

/// Variables that name a directory in which programs make files.
const DIRECTORIES: &[&str] = &["TMPDIR", "TMP", "TEMP", "XDG_RUNTIME_DIR"];
