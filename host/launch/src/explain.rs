//! What a launch would do, said before it is done: which levels hold on this machine, by trying each, and what the chosen
//! level and forms keep out and cost. No grant is needed, and nothing is started but what is attacked to try.

use crate::arguments::Arguments;
use crate::deliver::form::Rank;
use crate::deliver::plan::Piece;
use crate::environment::present;
use crate::failure::Failure;
use crate::group::{GroupError, LaidAside, OwnGroup};
use crate::level::Level;
use crate::outside::Outsider;
use crate::probe::{ProbeError, exec_only, own_group, own_namespace, user_sees_everything};
use crate::program::Program;
use blindferry_handle::packet::{PacketSocket, path_of_socket};
use blindferry_proto::causes::with_causes;
use blindferry_proto::start::{DEFAULT_STARTER, STARTER_VARIABLE};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::os::fd::RawFd;

/// Writes it to standard output.
///
/// # Errors
/// A program that is not found, forms that exclude each other, a level that is asked for and does not hold.
pub(crate) fn explain(arguments: &Arguments) -> Result<(), Failure> {
    let path =
        present(arguments.environment_fd)?.into_iter().find_map(|(name, value)| (name == "PATH").then_some(value));
    let program = Program::find(&arguments.command, path.as_deref())?;
    let explained = Explained {
        is_script: program.words.first() != arguments.command.first(),
        program,
        pieces: arguments.plan()?.pieces,
        chosen: arguments.protection,
        verdicts: Level::ALL.into_iter().map(|level| (level, tried(level, arguments.outsider_fd))).collect(),
        renewed: arguments.renew,
    };
    let text = if arguments.json { format!("{:#}\n", explained.document()) } else { explained.text() };
    // Nobody is left to tell when this fails.
    let _written = io::stdout().write_all(text.as_bytes());
    let holds = explained.verdicts.iter().all(|(level, verdict)| *level != explained.chosen || verdict.is_ok());
    if holds { Ok(()) } else { Err(Failure::NotHere { level: explained.chosen.name() }) }
}

/// All there is to say.
struct Explained {
    program: Program,
    is_script: bool,
    pieces: Vec<Piece>,
    chosen: Level,
    verdicts: Vec<(Level, Result<&'static str, String>)>,
    renewed: bool,
}

impl Explained {
    fn text(&self) -> String {
        let mut text = format!("program     {}\n", self.program.file.display());
        if self.is_script {
            text.push_str(
                "            interpreter of a script: it is protected and measured, the script is read by name\n",
            );
        }
        for (level, verdict) in &self.verdicts {
            let chosen = if *level == self.chosen { "  <- chosen" } else { "" };
            let said = match verdict {
                Ok(tried) => (*tried).to_owned(),
                Err(why) => format!("not here: {why}"),
            };
            let gap = if level.name().len() < 12 { "" } else { " " };
            text.push_str(&format!("{:<12}{gap}{said}{chosen}\n", level.name()));
        }
        let terms = self.chosen.terms();
        for (word, said) in
            [("needs", terms.needs), ("keeps out", terms.stops), ("does not", terms.leaves), ("costs", terms.costs)]
        {
            text.push_str(&format!("  {word:<10}{said}\n"));
        }
        if user_sees_everything() {
            text.push_str(
                "  note      this user holds CAP_SYS_PTRACE: its processes that have it are kept out by no level\n",
            );
        }
        for piece in &self.pieces {
            let Rank { readers, until, note } = piece.form.rank();
            let found = piece.variable().map(|name| format!(", by ${}", name.display())).unwrap_or_default();
            text.push_str(&format!("{:<12}as {}{found}\n", piece.name, piece.form.name()));
            let renewed = self.is_renewed(piece).then_some(("renewed", RENEWED));
            let said = [("readers", readers), ("until", until), ("note", note)];
            said.into_iter().chain(renewed).for_each(|(word, said)| text.push_str(&format!("  {word:<10}{said}\n")));
        }
        text
    }

    fn document(&self) -> Value {
        let levels = self.verdicts.iter().map(|(level, verdict)| {
            json!({
                "level": level.name(),
                "chosen": *level == self.chosen,
                "holds": verdict.is_ok(),
                "why": match verdict { Ok(tried) => tried, Err(why) => why.as_str() },
            })
        });
        let deliveries = self.pieces.iter().map(|piece| {
            let Rank { readers, until, note } = piece.form.rank();
            json!({
                "name": piece.name,
                "form": piece.form.name(),
                "variable": piece.variable().map(|name| name.to_string_lossy().into_owned()),
                "readers": readers,
                "until": until,
                "note": note,
                "renewed": self.is_renewed(piece),
            })
        });
        let terms = self.chosen.terms();
        json!({
            "program": self.program.file.to_string_lossy(),
            "script": self.is_script,
            "levels": levels.collect::<Vec<_>>(),
            "chosen": {
                "needs": terms.needs, "keeps_out": terms.stops, "does_not": terms.leaves, "costs": terms.costs,
                "user_sees_everything": user_sees_everything(),
            },
            "deliveries": deliveries.collect::<Vec<_>>(),
        })
    }

    fn is_renewed(&self, piece: &Piece) -> bool {
        self.renewed && piece.form.is_re_readable()
    }
}

/// In the order of [`Level::ALL`]: what is entered cannot be left again.
fn tried(level: Level, outsider: Option<RawFd>) -> Result<&'static str, String> {
    const HOLDS: &str = "holds here: a process under it was attacked, and nothing could be read";
    match level {
        Level::None => Ok("can always be had"),
        Level::ExecOnly => {
            // Else the group would protect what is attacked as well.
            let aside = LaidAside::now().map_err(|error| with_causes(&error))?;
            let held = exec_only().map_err(|error| with_causes(&error));
            aside.take_up().map_err(|error| with_causes(&error))?;
            held.map(|_| HOLDS)
        }
        Level::OwnGroup => match OwnGroup::enter() {
            Ok(entered) => own_group(&entered).map(|_| HOLDS).map_err(|error| with_causes(&error)),
            Err(error @ GroupError::NotInstalled) => Err(error.to_string()),
            Err(error) => Err(with_causes(&error)),
        },
        Level::OwnNamespace => match outsider {
            None => Err(starter()),
            // That the level before it may have been entered as well does not matter: an own group there would be said to
            // hold by the namespace.
            Some(_) => Outsider::inherited(outsider)
                .map_err(ProbeError::Outside)
                .and_then(|outsider| own_namespace(&outsider))
                .map(|_| HOLDS)
                .map_err(|error| with_causes(&error)),
        },
    }
}

/// Whether it could be had by another way of starting.
fn starter() -> String {
    let path = path_of_socket(STARTER_VARIABLE, DEFAULT_STARTER);
    match PacketSocket::connect(&path) {
        Ok(_) => {
            format!("the starter answers at {}: `blindferry run --via broker` has it, and tries it", path.display())
        }
        Err(error) => format!("the starter does not answer: {}", with_causes(&error)),
    }
}

const RENEWED: &str = "in place, at two thirds of each token's life, by a process that is as unreadable as the launcher; emptied when the lease ends";
