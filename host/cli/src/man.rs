//! `man`: manual pages, one for each command, from the definitions that also parse the command line.

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output::Output;
use clap::CommandFactory;
use clap_mangen::Man as Page;
use serde::Serialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Write manual pages, one for each command
#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// Where they go; made if it is not there
    directory: PathBuf,
}

#[derive(Serialize)]
struct Written<'a> {
    directory: &'a Path,
    pages: &'a [String],
}

/// Runs it.
///
/// # Errors
/// [`Failure::Man`].
pub(crate) fn run(output: Output, Man { directory }: &Man) -> Result<(), Failure> {
    let failed = |source| Failure::Man { directory: directory.clone(), source };
    fs::create_dir_all(directory).map_err(failed)?;
    let mut written = Vec::new();
    for (name, page) in pages().map_err(failed)? {
        fs::write(directory.join(&name), page).map_err(failed)?;
        written.push(name);
    }
    output.show(&Written { directory, pages: &written }, || format!("{}\n", written.join("\n")))
}

/// Each page and its file's name, such as `blindferry-host-approve.1`.
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add(&command, &mut pages)?;
    Ok(pages)
}

fn add(command: &clap::Command, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    // The place of the date must not be empty, or what follows it moves up; a page is as old as its version.
    let version = env!("CARGO_PKG_VERSION");
    let page = Page::new(command.clone()).date(version).source(format!("blindferry {version}")).manual("Blindferry");
    let mut text = Vec::new();
    page.render(&mut text)?;
    pages.push((page.get_filename(), text));
    command.get_subcommands().filter(|one| !one.is_hide_set()).try_for_each(|one| add(one, pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_of_its_own_that_names_its_options() {
        let pages = pages().unwrap();
        let page = |name: &str| {
            let (_, text) = pages.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("no {name}"));
            String::from_utf8(text.clone()).unwrap()
        };
        assert!(
            page("blindferry.1").contains(".TH blindferry 1") && page("blindferry.1").contains("blindferry\\-host")
        );
        assert!(page("blindferry-host-approve.1").contains("\\-\\-certified"));
        assert!(page("blindferry-audit-verify.1").contains("\\-\\-known"));
        let names: std::collections::BTreeSet<_> = pages.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), pages.len(), "two commands share a page");
    }
}
