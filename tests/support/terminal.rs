//! A person at a terminal: tmux, with a shell in it, keys that are pressed and a screen that is looked at.

use crate::process::eventually;
use std::path::Path;
use std::process::Command;

/// A terminal with `bash` in it. Gone when dropped, and what runs in it too.
#[derive(Debug)]
pub struct Person {
    socket: String,
    asked: std::cell::Cell<u32>,
}

impl Person {
    /// Sits down in this directory.
    #[must_use]
    pub fn at(directory: &Path, name: &str) -> Self {
        let person =
            Self { socket: format!("blindferry-{}-{name}", std::process::id()), asked: std::cell::Cell::new(0) };
        let mut command = person.tmux(&["new-session", "-d", "-x", "100", "-y", "30"]);
        command.args(["bash", "--norc", "--noprofile"]).current_dir(directory).env_remove("TMUX");
        assert!(command.status().unwrap().success());
        person.types("PS1='outer> '");
        person.sees("outer>");
        person
    }

    /// Types a line.
    pub fn types(&self, line: &str) {
        assert!(self.tmux(&["send-keys", "-l", line]).status().unwrap().success());
        self.presses("Enter");
    }

    /// Presses a key, by tmux's name for it.
    pub fn presses(&self, key: &str) {
        assert!(self.tmux(&["send-keys", key]).status().unwrap().success());
    }

    /// Makes the window another size.
    pub fn resizes(&self, columns: u16, lines: u16) {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        assert!(self.tmux(&["resize-window", "-x", &columns, "-y", &lines]).status().unwrap().success());
    }

    /// Waits until this is on the screen, or above it.
    ///
    /// # Panics
    /// When it does not come.
    pub fn sees(&self, text: &str) {
        let mut last = String::new();
        let seen = crate::process::within(crate::process::PATIENCE, || {
            last = self.screen();
            last.contains(text).then_some(())
        });
        assert!(seen.is_some(), "{text:?} is not on the screen:\n{last}");
    }

    /// Waits for a prompt, `outer>` or `inner>`. What is typed earlier is for the program that still runs.
    pub fn is_asked(&self) {
        eventually("a prompt", || self.screen().trim_end().ends_with("er>").then_some(()));
    }

    /// Types a command, and waits for what it prints between two marks that are not in the command itself.
    #[must_use]
    pub fn asks(&self, command: &str) -> String {
        self.is_asked();
        let number = self.asked.get() + 1;
        self.asked.set(number);
        self.types(&format!("echo \"be\"gin{number}; {command}; echo \"e\"nd{number}"));
        let (begin, end) = (format!("begin{number}\n"), format!("end{number}\n"));
        let answer = crate::process::within(crate::process::PATIENCE, || {
            let screen = self.screen();
            let (_, rest) = screen.split_once(&begin)?;
            rest.split_once(&end).map(|(answer, _)| answer.trim_end().to_owned())
        });
        assert!(answer.is_some(), "no answer to {command:?}:\n{}", self.screen());
        answer.unwrap_or_default()
    }

    /// How the shell says that the last command ended.
    #[must_use]
    pub fn status(&self) -> String {
        self.is_asked();
        let number = self.asked.get() + 1;
        self.asked.set(number);
        self.types(&format!("echo \"sta\"tus{number}:$?"));
        let mark = format!("status{number}:");
        eventually("the status", || {
            let screen = self.screen();
            let (_, rest) = screen.split_once(&mark)?;
            rest.split_once('\n').map(|(status, _)| status.to_owned())
        })
    }

    /// All that was shown, without the blanks at the ends of lines.
    #[must_use]
    pub fn screen(&self) -> String {
        let output = self.tmux(&["capture-pane", "-p", "-J", "-S", "-1000"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    /// Forgets what was shown.
    pub fn wipes(&self) {
        self.types("clear");
        assert!(self.tmux(&["clear-history"]).status().unwrap().success());
    }

    /// The process id of the shell.
    #[must_use]
    pub fn shell(&self) -> u32 {
        let output = self.tmux(&["display-message", "-p", "#{pane_pid}"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
    }

    fn tmux(&self, words: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        // No configuration of anybody's, and a server of its own.
        command.args(["-L", &self.socket, "-f", "/dev/null"]).args(words);
        command
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _gone = self.tmux(&["kill-server"]).status();
    }
}
