//! The second start: this executable again, from an exec-only image, and the marker that ends the loop.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::thread::set_name;

use crate::image::{ExecOnlyImage, ImageError};

/// What the first start left in the environment, if this is a second one.
pub(super) fn marker() -> Option<OsString> {
    env::var_os(MARKER)
}

/// Where the executable lies. The marker's word counts only for a process that runs from a memfd.
pub(super) fn executable(first: Option<OsString>) -> Option<PathBuf> {
    let running = env::current_exe().ok();
    match first {
        Some(first) if running.as_deref().is_none_or(|path| path.as_os_str().as_bytes().starts_with(b"/memfd:")) => {
            Some(PathBuf::from(first))
        }
        _ => running,
    }
}

/// Starts this executable again; returns only when that fails.
pub(super) fn start_again() -> ImageError {
    let own = Path::new("/proc/self/exe");
    let image = match ExecOnlyImage::from_path(own) {
        Ok(image) => image,
        Err(error) => return error,
    };
    let executable = env::current_exe().unwrap_or_else(|_| own.to_owned());
    let mut env: Vec<CString> = env::vars_os().filter_map(|(name, value)| assignment(&name, &value)).collect();
    env.extend(assignment(OsStr::new(MARKER), executable.as_os_str()));
    let args: Vec<CString> = env::args_os().filter_map(|argument| CString::new(argument.into_vec()).ok()).collect();
    image.exec(&args, &env)
}

/// `None` for what holds a NUL, which cannot have come through execve(2).
fn assignment(name: &OsStr, value: &OsStr) -> Option<CString> {
    let mut text = OsString::from(name);
    text.push("=");
    text.push(value);
    CString::new(text.into_vec()).ok()
}

/// Takes the marker out of the environment, so that a child which is ours too is not deceived by it, and gives the
/// process, which the kernel has named after a descriptor, its name back.
pub(super) fn forget_marker() {
    if env::var_os(MARKER).is_none() {
        return;
    }
    // SAFETY: `enter` has seen in /proc that this is the only thread, and nothing here starts another: nobody reads
    // the environment meanwhile.
    unsafe { env::remove_var(MARKER) };
    let name = env::args_os()
        .next()
        .as_deref()
        .map(Path::new)
        .and_then(Path::file_name)
        .map(OsStr::as_bytes)
        .map(CString::new);
    if let Some(Ok(name)) = name {
        // Only what ps shows.
        let _named = set_name(&name);
    }
}

/// Says, to a second start, that it is one, and where the first one's executable lay. Gone once it is read.
const MARKER: &str = "BLINDFERRY_STARTED_FROM";
