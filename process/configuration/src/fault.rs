//! What is wrong with a configuration: problem, cause, fix, and where.

use crate::place::Place;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

/// Whether a service starts with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The service does not start.
    Error,
    /// It starts, and an operator should know.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// How bad it is.
    pub severity: Severity,
    /// Where; nowhere when something is missing, or the file cannot be read.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// What is wrong.
    pub problem: String,
    /// Why that is so.
    pub cause: Option<String>,
    /// What to do about it.
    pub fix: Option<String>,
}

impl Fault {
    /// An error without a place.
    pub(crate) fn error(problem: impl Into<String>) -> Self {
        Self { severity: Severity::Error, place: None, problem: problem.into(), cause: None, fix: None }
    }

    pub(crate) fn at(self, place: Option<Place>) -> Self {
        Self { place, ..self }
    }

    pub(crate) fn because(self, cause: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    pub(crate) fn mend(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }
}

/// Everything that is wrong with a file, in the order in which it stands there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// The file.
    pub path: PathBuf,
    /// What is wrong; nothing when it is in order.
    pub faults: Vec<Fault>,
}

impl Faults {
    /// One thing that is wrong with the file at `path`.
    pub(crate) fn one(path: &Path, fault: Fault) -> Self {
        Self { path: path.to_owned(), faults: vec![fault] }
    }

    /// The same as one JSON document: `{path, faults: [{severity, line, column, width, excerpt, problem, cause, fix}]}`.
    ///
    /// # Errors
    /// A path that is no text cannot be written.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }

    /// What `check-config` of a service prints: a line that all is in order, the mistakes, or either as JSON. Mistakes
    /// that are not asked for as JSON go to standard error. Whether the service would start is for [`Faults::fatal`].
    ///
    /// # Errors
    /// As [`Faults::to_json`].
    pub fn print(&self, json: bool) -> Result<(), serde_json::Error> {
        if json {
            println!("{}", self.to_json()?);
        } else if self.faults.is_empty() {
            println!("{} is in order", self.path.display());
        } else {
            eprintln!("{self}");
        }
        Ok(())
    }

    /// Itself, unless a service would start all the same; then its warnings.
    ///
    /// # Errors
    /// Itself, when anything in it is an error.
    pub fn fatal(self) -> Result<Self, Self> {
        if self.faults.iter().any(|fault| fault.severity == Severity::Error) { Err(self) } else { Ok(self) }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.faults.iter().enumerate() {
            if at != 0 {
                f.write_str("\n\n")?;
            }
            write_fault(f, &self.path, fault)?;
        }
        Ok(())
    }
}

impl Error for Faults {}

fn write_fault(f: &mut fmt::Formatter<'_>, path: &Path, fault: &Fault) -> fmt::Result {
    let severity = match fault.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    write!(f, "{severity}: {}", fault.problem)?;
    let margin = match &fault.place {
        None => {
            write!(f, "\n  --> {}", path.display())?;
            1
        }
        Some(Place { line, column, excerpt, width }) => {
            let number = line.to_string();
            let margin = number.len();
            write!(f, "\n{:margin$} --> {}: line {line}, column {column}", "", path.display())?;
            write!(f, "\n {:margin$} |\n {number} | {excerpt}\n {:margin$} | ", "", "")?;
            // A tab before the place is one here too, so that both end in the same column.
            for character in excerpt.chars().take(column.saturating_sub(1)) {
                f.write_str(if character == '\t' { "\t" } else { " " })?;
            }
            f.write_str(&"^".repeat(*width))?;
            margin
        }
    };
    for (name, text) in [("cause", &fault.cause), ("fix", &fault.fix)] {
        if let Some(text) = text {
            write!(f, "\n {:margin$} = {name}: {text}", "")?;
        }
    }
    Ok(())
}
