//! Probes of where memory goes when it leaves memory: swap, and hibernation.

use crate::kernel::MOUNT_PROC;
use crate::machine::{Look, Machine};
use crate::{Answer, good, lacking, unknown};

pub(crate) fn swap(machine: &Machine) -> Answer {
    let table = match machine.look("proc", "swaps") {
        Look::Text(table) => table,
        Look::Absent => return good("no swap in this kernel", "memory stays memory"),
        Look::Unreadable(why) => return unknown(why, "whether memory reaches a disk is not known", MOUNT_PROC),
    };
    // proc_swaps(5): a heading, then the file and its kind. Blanks in names are written as \040.
    let places = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        Some((fields.next()?, fields.next()?))
    });
    let kept: Vec<(&str, Kept)> = places.map(|(place, kind)| (place, kept(machine, place, kind))).collect();
    let told = |how: Kept| {
        let places: Vec<&str> = kept.iter().filter(|(_, kept)| *kept == how).map(|(place, _)| *place).collect();
        (!places.is_empty()).then(|| places.join(", "))
    };
    let means = "secret memory is never swapped; what else our processes hold, and the token in a program that knows \
                 nothing of us, may reach that disk in the clear";
    if let Some(places) = told(Kept::Plain) {
        return lacking(format!("not encrypted: {places}"), means, ENCRYPT);
    }
    if let Some(places) = told(Kept::File) {
        return unknown(format!("a file, whose disk is not known: {places}"), means, ENCRYPT);
    }
    match told(Kept::Safely) {
        None => good("there is none", "memory stays memory"),
        Some(places) => good(format!("encrypted, or in memory: {places}"), "what is swapped is nowhere in the clear"),
    }
}

/// What becomes of pages at some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// They stay in memory, or are encrypted.
    Safely,
    /// They are in the clear on a device.
    Plain,
    /// They are in a file, on whatever that lies.
    File,
}

fn kept(machine: &Machine, place: &str, kind: &str) -> Kept {
    if kind == "file" {
        return Kept::File;
    }
    let device = place.strip_prefix("/dev/").unwrap_or(place);
    // zram with a backing device writes there what it likes to.
    if device.starts_with("zram") {
        let backing = machine.look(&format!("sys/block/{device}"), "backing_dev");
        return match backing {
            Look::Text(backing) if backing != "none" => Kept::Plain,
            _ => Kept::Safely,
        };
    }
    let mapped = device.strip_prefix("mapper/").and_then(|name| by_name(machine, name));
    if is_encrypted(machine, mapped.as_deref().unwrap_or(device), DEEPEST) { Kept::Safely } else { Kept::Plain }
}

/// The device of the device mapper that has this name.
fn by_name(machine: &Machine, name: &str) -> Option<String> {
    let devices = machine.names("sys/block").into_iter().filter(|device| device.starts_with("dm-"));
    devices.into_iter().find(
        |device| matches!(machine.look(&format!("sys/block/{device}/dm"), "name"), Look::Text(found) if found == name),
    )
}

/// Whether it is dm-crypt, or all that it lies on is.
fn is_encrypted(machine: &Machine, device: &str, depth: u8) -> bool {
    let folder = format!("sys/block/{device}");
    if matches!(machine.look(&format!("{folder}/dm"), "uuid"), Look::Text(uuid) if uuid.starts_with("CRYPT-")) {
        return true;
    }
    let below = machine.names(&format!("{folder}/slaves"));
    depth > 0 && !below.is_empty() && below.iter().all(|device| is_encrypted(machine, device, depth - 1))
}

/// How many devices may lie one upon the other.
const DEEPEST: u8 = 8;

const ENCRYPT: &str = "in /etc/crypttab: swap /dev/DISK /dev/urandom swap, and /dev/mapper/swap in /etc/fstab; or zram; or \
                       swapoff --all; in the units of programs with tokens: MemorySwapMax=0";

pub(crate) fn hibernation(machine: &Machine) -> Answer {
    let shut = "memory is not written to a disk as a whole";
    let states = match machine.look("sys/power", "state") {
        Look::Text(states) => states,
        Look::Absent => return good("not in this kernel", shut),
        Look::Unreadable(why) => {
            return unknown(why, "whether the machine can hibernate is not known", "mount -t sysfs sysfs /sys");
        }
    };
    let off = matches!(machine.look("sys/power", "disk"), Look::Text(modes) if modes.contains("[disabled]"));
    if off || !states.split(' ').any(|state| state == "disk") {
        return good("not possible at this moment", shut);
    }
    lacking(
        format!("possible ({states})"),
        "the kernel refuses it while secret memory is in use; at other times all of memory goes to a disk, tokens in programs too",
        "on the kernel's command line: nohibernate; or systemctl mask hibernate.target hybrid-sleep.target \
         suspend-then-hibernate.target",
    )
}
