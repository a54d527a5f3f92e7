//! Independent implementations from package registries, installed once under the target directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A directory in which these commands have run, with that script of ours; or `None`, and why is printed.
pub(crate) fn install(script: &str, commands: &[&[&str]]) -> Option<PathBuf> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(script.replace('.', "-"));
    fs::create_dir_all(&place).unwrap();
    // Tests are processes that may want the same: one installs, the others wait.
    let lock = File::create(place.join("lock")).unwrap();
    lock.lock().unwrap();
    let done = place.join("installed");
    let wanted = format!("{commands:?}");
    if fs::read_to_string(&done).ok().as_ref() != Some(&wanted) {
        for command in commands {
            if let Err(why) = run(command, &place) {
                println!("skipped: {command:?}: {why}");
                return None;
            }
        }
        fs::write(done, wanted).unwrap();
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(script);
    fs::copy(source, place.join(script)).unwrap();
    Some(place)
}

fn run(command: &[&str], place: &Path) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("an empty command")?;
    let mut process = Command::new(program);
    let output = process.args(arguments).current_dir(place).stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
