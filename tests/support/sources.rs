//! The project's own files, read as text: for questions that no compiler answers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One file of the project.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path from the project's root.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// A type as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeDefinition {
    /// `struct` or `enum` and its name.
    pub name: String,
    /// The traits that it derives.
    pub derives: BTreeSet<String>,
    /// Everything between its name and its end.
    pub body: String,
}

impl Source {
    /// The part before its unit tests; nothing of a file that holds tests alone.
    #[must_use]
    pub fn production(&self) -> &str {
        if self.path.contains("/tests/") || self.path.starts_with("tests/") || self.path.ends_with("/tests.rs") {
            return "";
        }
        self.before_tests()
    }

    /// The part before its unit tests.
    #[must_use]
    pub fn before_tests(&self) -> &str {
        self.text.find("\n#[cfg(test)]\nmod tests {").map_or(&self.text, |end| &self.text[..=end])
    }

    /// Lines that are not comments.
    pub fn code(&self) -> impl Iterator<Item = &str> {
        self.text.lines().filter(|line| !line.trim_start().starts_with("//"))
    }

    /// Whether it has a test of this name: a function marked as one, or named in the list of a file that runs its tests
    /// itself.
    #[must_use]
    pub fn has_test(&self, name: &str) -> bool {
        let lines: Vec<&str> = self.text.lines().map(str::trim).collect();
        let listed = self.text.contains("fn main(") && self.text.contains(&format!("\"{name}\""));
        let opening = [format!("fn {name}("), format!("async fn {name}(")];
        let marked = lines.iter().enumerate().any(|(at, line)| {
            let marks = lines[..at].iter().rev().take_while(|above| above.starts_with(['#', '/']));
            opening.iter().any(|opening| line.starts_with(opening.as_str()))
                && marks.into_iter().any(|mark| mark.starts_with("#[") && mark.contains("test"))
        });
        listed || marked
    }

    /// The types that its production code defines.
    #[must_use]
    pub fn types(&self) -> Vec<TypeDefinition> {
        let lines: Vec<&str> = self.production().lines().collect();
        let mut found = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let plain = line.trim_start();
            let plain = plain.strip_prefix("pub(crate) ").or_else(|| plain.strip_prefix("pub ")).unwrap_or(plain);
            let Some(rest) = plain.strip_prefix("struct ").or_else(|| plain.strip_prefix("enum ")) else { continue };
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let indent = line.len() - line.trim_start().len();
            let is_end = |line: &&&str| {
                let depth = line.len() - line.trim_start().len();
                depth == indent && (line.ends_with('}') || line.ends_with(';'))
            };
            let length = lines[at..].iter().position(|line| is_end(&line)).map_or(1, |end| end + 1);
            let body = lines[at..at + length].iter().filter(|line| !line.trim_start().starts_with("//"));
            let body = body.copied().collect::<Vec<_>>().join("\n").replacen(&name, "", 1);
            let above = lines[..at].iter().rev().take_while(|line| line.trim_start().starts_with(['#', '/']));
            let derives = above.filter_map(|line| line.trim().strip_prefix("#[derive(")?.strip_suffix(")]"));
            let derives = derives.flat_map(|list| list.split(", ")).map(str::to_owned).collect();
            found.push(TypeDefinition { name, derives, body });
        }
        found
    }
}

/// The project's root.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// One file of the project.
#[must_use]
pub fn file(path: &str) -> Source {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    Source { path: path.to_owned(), text }
}

/// All files of the project with one of these endings, in order; what is built or generated is not among them.
#[must_use]
pub fn files(endings: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    walk(root(), &mut paths);
    paths.sort();
    let wanted = paths.into_iter().filter(|path| endings.iter().any(|ending| path.ends_with(ending)));
    // What is not text has no lines to look at.
    wanted.filter_map(|path| Some(Source { text: fs::read_to_string(root().join(&path)).ok()?, path })).collect()
}

/// All of the project's Rust.
#[must_use]
pub fn rust() -> Vec<Source> {
    files(&[".rs"])
}

/// Whether `text` has `word` as a whole word.
#[must_use]
pub fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(part) && !text[at + word.len()..].chars().next().is_some_and(part)
    })
}

fn walk(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path: PathBuf = entry.path();
        let name = entry.file_name();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            if name != "target" && name != ".git" && name != "node_modules" {
                walk(&path, found);
            }
        } else if kind.is_file() && name != "Cargo.lock" {
            found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
        }
    }
}
