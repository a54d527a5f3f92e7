//! Where this process is and whose it is, for the decision what is shown.

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::view::{View, Wanted};
use rustix::process::getuid;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// What the program shall see.
///
/// # Errors
/// [`Failure::Directory`], [`Failure::View`].
pub(crate) fn view(arguments: &Arguments) -> Result<View, Failure> {
    let wanted = Wanted { read: &arguments.read, write: &arguments.write, directory: directory()?, homes: homes() };
    Ok(View::of(&wanted)?)
}

/// The working directory.
///
/// # Errors
/// [`Failure::Directory`].
pub(crate) fn directory() -> Result<PathBuf, Failure> {
    env::current_dir().map_err(Failure::Directory)
}

/// By the environment, which comes first since the program looks there too, and by passwd(5).
fn homes() -> Vec<PathBuf> {
    let user = getuid().as_raw().to_string();
    let database = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let listed = database.lines().filter_map(|line| {
        let mut fields = line.split(':');
        (fields.nth(2)? == user).then(|| fields.nth(2)).flatten().map(PathBuf::from)
    });
    let mut homes: Vec<PathBuf> = env::var_os("HOME").map(PathBuf::from).into_iter().chain(listed).collect();
    // A relative one leads nowhere, and the root is no home.
    homes.retain(|home| home.is_absolute() && home != Path::new("/"));
    homes.dedup();
    homes
}
