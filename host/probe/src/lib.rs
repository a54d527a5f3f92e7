//! What a machine offers and lacks for Blindferry: each probe looks, says what it found, what that means and how to mend it.
//!
//! What can be tried without harm was tried ([`Tried`]); the rest is read from files below a root that is an argument
//! ([`Machine`]). So the probes themselves decide, and touch nothing: the same machine gives the same findings.

/// The line that sets a sysctl for good.
macro_rules! sysctl {
    ($line:literal) => {
        concat!("in /etc/sysctl.d/60-blindferry.conf, then `sysctl --system`: ", $line)
    };
}

mod kernel;
mod machine;
mod memory;
mod platform;
mod processes;
mod swap;
mod tried;

pub use machine::{MAX_READ, Machine};
pub use tried::{Start, Tried};

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The probe's name: stable, so that fleets can ask for it.
    pub name: &'static str,
    /// How it is here.
    pub state: State,
    /// Whether Blindferry needs it.
    pub need: Need,
    /// What was seen, in the kernel's own words where it has some.
    pub found: String,
    /// What that means for Blindferry on this machine.
    pub means: &'static str,
    /// How to mend it; nothing where nothing is to be mended.
    pub remedy: Option<&'static str>,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Good,
    /// Not as it should be.
    Lacking,
    /// It could not be found out.
    Unknown,
}

/// Whether Blindferry needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Without it something of ours does not start, or a promise does not hold.
    Needed,
    /// With it an attacker has a harder time.
    Wished,
}

/// All findings as one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All that is needed is there.
    Fit,
    /// Something that is needed is lacking.
    Unfit,
    /// Nothing that is needed is known to be lacking, but of some it could not be found out.
    Unclear,
}

/// What a probe answers.
#[derive(Debug)]
struct Answer {
    state: State,
    found: String,
    means: &'static str,
    remedy: Option<&'static str>,
}

fn good(found: impl Into<String>, means: &'static str) -> Answer {
    Answer { state: State::Good, found: found.into(), means, remedy: None }
}

fn lacking(found: impl Into<String>, means: &'static str, remedy: &'static str) -> Answer {
    Answer { state: State::Lacking, found: found.into(), means, remedy: Some(remedy) }
}

fn unknown(found: impl Into<String>, means: &'static str, remedy: &'static str) -> Answer {
    Answer { state: State::Unknown, found: found.into(), means, remedy: Some(remedy) }
}

type Probe = (&'static str, Need, fn(&Machine) -> Answer);

/// All probes, what is needed first.
const PROBES: &[Probe] = &[
    ("unreadable-start", Need::Needed, processes::unreadable_start),
    ("exec-only-memory", Need::Needed, processes::exec_only_memory),
    ("peer-pidfd", Need::Needed, kernel::peer_pidfd),
    ("seccomp", Need::Needed, kernel::seccomp),
    ("platform", Need::Needed, platform::platform),
    ("tpm", Need::Wished, platform::tpm),
    ("snp", Need::Wished, platform::snp),
    ("secret-memory", Need::Wished, memory::secret_memory),
    ("locked-memory", Need::Wished, memory::locked_memory),
    ("landlock", Need::Wished, kernel::landlock),
    ("no-writable-code", Need::Wished, memory::no_writable_code),
    ("protection-keys", Need::Wished, memory::protection_keys),
    ("yama", Need::Wished, processes::yama),
    ("suid-dumpable", Need::Wished, processes::suid_dumpable),
    ("core-pattern", Need::Wished, processes::core_pattern),
    ("hidepid", Need::Wished, processes::hidepid),
    ("user-namespaces", Need::Wished, processes::user_namespaces),
    ("swap", Need::Wished, swap::swap),
    ("hibernation", Need::Wished, swap::hibernation),
    ("io-uring", Need::Wished, kernel::io_uring),
    ("bpf", Need::Wished, kernel::bpf),
    ("userfaultfd", Need::Wished, kernel::userfaultfd),
    ("lockdown", Need::Wished, kernel::lockdown),
    ("secure-boot", Need::Wished, platform::secure_boot),
    ("kernel", Need::Wished, kernel::version),
];

/// The names of all probes, in the order of their findings.
pub fn names() -> impl Iterator<Item = &'static str> {
    PROBES.iter().map(|(name, ..)| *name)
}

/// Asks every probe. Those named by `required` are needed here, whatever they are elsewhere.
#[must_use]
pub fn examine(machine: &Machine, required: &[&str]) -> Vec<Finding> {
    PROBES
        .iter()
        .map(|&(name, need, look)| {
            let Answer { state, found, means, remedy } = look(machine);
            let need = if required.contains(&name) { Need::Needed } else { need };
            Finding { name, state, need, found, means, remedy }
        })
        .collect()
}

/// All findings as one answer: what is lacking outweighs what is not known.
#[must_use]
pub fn verdict(findings: &[Finding]) -> Verdict {
    let any = |state| findings.iter().any(|finding| finding.need == Need::Needed && finding.state == state);
    if any(State::Lacking) {
        Verdict::Unfit
    } else if any(State::Unknown) {
        Verdict::Unclear
    } else {
        Verdict::Fit
    }
}
