//! The table of what attackers could read: at which step, in which process, as whom.

use crate::account::{Account, CALLER, is_root};
use crate::attack::{Found, Look, Surface, forms, look, look_and_abort, needle, search};
use crate::process::lives;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::collections::BTreeMap;

/// A process by the name of its part, whose user it has, and its id.
pub type Place = (&'static str, Account, u32);

/// All looks of one test.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    step: String,
    place: &'static str,
    attacker: &'static str,
    look: Look,
}

impl Table {
    /// Looks into each process, as another process of its user and as root.
    pub fn look(&mut self, step: &str, places: &[Place], needles: &[String]) {
        let needles: Vec<&str> = needles.iter().map(String::as_str).collect();
        for (place, account, id) in places {
            assert!(lives(*id), "{step}: {place} lives");
            for (attacker, as_whom) in [(SAME_USER, *account), (ROOT, CALLER)] {
                if attacker == ROOT && !is_root() {
                    continue;
                }
                let look = look(as_whom, &[*id], &needles).remove(0);
                self.rows.push(Row { step: step.to_owned(), place, attacker, look });
            }
        }
    }

    /// Makes each process dump core, and says how long the core was. It is asked for by another process of its user, who
    /// may read it; the limit is lifted by whoever runs the tests, where that may be done at all.
    pub fn dump_cores(&mut self, places: &[Place], needles: &[String]) -> BTreeMap<&'static str, u64> {
        let needles: Vec<&str> = needles.iter().map(String::as_str).collect();
        let mut lengths = BTreeMap::new();
        for (place, account, id) in places {
            assert!(lives(*id), "core: {place} lives");
            let process = Pid::from_raw(id.cast_signed());
            // Not permitted without CAP_SYS_RESOURCE: then the limit of each stays what its user may make of it.
            let _refused = prlimit(process, Resource::Core, Rlimit { current: None, maximum: None });
            let look = look_and_abort(*account, &[*id], &needles).remove(0);
            lengths.insert(*place, look.surface("core").bytes);
            self.rows.push(Row { step: "core".to_owned(), place, attacker: SAME_USER, look });
        }
        lengths
    }

    /// What anybody could read, such as an answer, a file or a bus.
    ///
    /// # Panics
    /// When there is nothing to be read, which would show nothing.
    pub fn read(&mut self, step: &str, place: &'static str, bytes: &[u8], needles: &[String]) {
        assert!(!bytes.is_empty(), "{step}: nothing was searched in {place}");
        let forms: Vec<_> = needles.iter().map(|line| forms(&needle(line))).collect();
        let found = search(bytes, &forms, place);
        let length = u64::try_from(bytes.len()).unwrap();
        let surface = Surface { surface: place.to_owned(), bytes: length, refused: Vec::new(), found };
        let look = Look { pid: 0, surfaces: vec![surface] };
        self.rows.push(Row { step: step.to_owned(), place, attacker: ANYBODY, look });
    }

    /// Prints all of it.
    pub fn print(&self) {
        println!("{:<24} {:<26} {:<10} {:>12}  found", "step", "place", "attacker", "bytes read");
        for Row { step, place, attacker, look } in &self.rows {
            let found: Vec<String> = all(look).map(|one| format!("{} in {}", one.form, one.at)).collect();
            println!("{step:<24} {place:<26} {attacker:<10} {:>12}  {}", look.bytes(), found.join(", "));
        }
    }

    /// Root may find something in these places; nobody else finds anything anywhere, and of what is ours another process
    /// of the user reads no memory at all.
    pub fn judge(&self, roots: &[&str]) {
        for Row { step, place, attacker, look } in &self.rows {
            let found: Vec<&Found> = all(look).collect();
            let is_allowed = *attacker == ROOT && roots.contains(place);
            assert!(found.is_empty() || is_allowed, "{step}: {place}, as {attacker}: {found:?}");
            // A parent is a stranger's program, and an open book that says nothing.
            if *attacker == SAME_USER && is_root() && *place != "parent" {
                let memory = look.surface("memory");
                assert!(memory.bytes == 0, "{step}: {place} can be read: {:?}", memory.refused);
            }
        }
    }
}

fn all(look: &Look) -> impl Iterator<Item = &Found> {
    look.surfaces.iter().flat_map(|surface| &surface.found)
}

const SAME_USER: &str = "same user";
const ROOT: &str = "root";
const ANYBODY: &str = "anybody";
