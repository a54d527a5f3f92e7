//! `blindferry-attacker`: searches other processes for secrets, as an attacker of its user could who arrives late.

#![expect(clippy::unwrap_used, reason = "a test's program ends where it cannot go on")]

use blindferry_tests::attack::{Found, Look, Surface, forms, needle, search};
use clap::Parser;
use rustix::fs::{Mode, OFlags, open};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recv, recvmsg};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, tee};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, Signal, kill_process, pidfd_getfd, pidfd_open, prlimit,
};
use std::fs::{self, File};
use std::io::{self, BufRead, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

/// Looks for needles in other processes: environment, command line, every readable mapping, open descriptors.
///
/// The needles come on standard input, a line each (`hex:` and digits for bytes), and are looked for as they are, in hexadecimal and in base64. For
/// each process a line of JSON says what could be read at all and where which needle was found.
#[derive(Debug, Parser)]
#[command(name = "blindferry-attacker")]
struct Arguments {
    /// Also makes each process dump core, and searches the core. This ends it.
    #[arg(long)]
    core: bool,
    /// Looks over and over until the first process ends, whatever they become meanwhile: says `ready` before it begins
    #[arg(long, conflicts_with = "core")]
    race: bool,
    /// With it, also looks at what the processes start
    #[arg(long, requires = "race")]
    tree: bool,
    /// The processes
    #[arg(required = true)]
    pids: Vec<u32>,
}

type Needles = Vec<Vec<(&'static str, Vec<u8>)>>;

fn main() {
    let arguments = Arguments::parse();
    let lines = io::stdin().lock().lines().map_while(Result::ok);
    let needles: Needles = lines.filter(|line| !line.is_empty()).map(|line| forms(&needle(&line))).collect();
    if arguments.race {
        println!("ready");
        let pid = arguments.pids.first().copied().unwrap();
        let surfaces = race(pid, &arguments.pids, arguments.tree, &needles);
        println!("{}", serde_json::to_string(&Look { pid, surfaces }).unwrap());
        return;
    }
    for pid in arguments.pids {
        let mut surfaces = vec![
            whole_file("environ", pid, &needles),
            whole_file("cmdline", pid, &needles),
            memory(pid, &needles),
            descriptors(pid, &needles),
            in_flight(pid, &needles),
        ];
        if arguments.core {
            surfaces.push(core(pid, &needles));
        }
        println!("{}", serde_json::to_string(&Look { pid, surfaces }).unwrap());
    }
}

fn nothing(surface: &str) -> Surface {
    Surface { surface: surface.to_owned(), bytes: 0, refused: Vec::new(), found: Vec::new() }
}

impl Note for Surface {
    fn read(&mut self, bytes: &[u8], needles: &Needles, at: &str) {
        self.bytes += u64::try_from(bytes.len()).unwrap();
        let fresh: Vec<Found> =
            search(bytes, needles, at).into_iter().filter(|one| !self.found.contains(one)).collect();
        self.found.extend(fresh);
    }
    fn refused(&mut self, what: &str, error: &dyn std::error::Error) {
        // One line for each kind of refusal is enough.
        let line = format!("{what}: {error}");
        if !self.refused.contains(&line) {
            self.refused.push(line);
        }
    }
}

trait Note {
    fn read(&mut self, bytes: &[u8], needles: &Needles, at: &str);
    fn refused(&mut self, what: &str, error: &dyn std::error::Error);
}

fn whole_file(name: &str, pid: u32, needles: &Needles) -> Surface {
    let mut surface = nothing(name);
    match fs::read(format!("/proc/{pid}/{name}")) {
        Ok(bytes) => surface.read(&bytes, needles, name),
        Err(error) => surface.refused(name, &error),
    }
    surface
}

/// Environment, stack and memfds of processes, as often as there is time for until the first is gone. Handles that were
/// opened in a good moment are kept, and tried again.
fn race(first: u32, roots: &[u32], tree: bool, needles: &Needles) -> Vec<Surface> {
    let [mut environ, mut memory, mut descriptors] = ["environ", "memory", "descriptors"].map(nothing);
    let mut held: Vec<File> = Vec::new();
    let mut all = roots.to_vec();
    while lives(first) {
        if tree {
            all = roots.to_vec();
            roots.iter().for_each(|root| below(*root, &mut all));
        }
        for pid in &all {
            if let Ok(file) = File::open(format!("/proc/{pid}/environ")) {
                held.push(file);
            }
            if let Ok(file) = File::open(format!("/proc/{pid}/mem")) {
                for range in own_memory(*pid) {
                    read_range(&file, range, "stack or heap", &mut memory, needles);
                }
            }
            for number in 3..12 {
                if let Ok(file) = File::open(format!("/proc/{pid}/fd/{number}"))
                    && file.metadata().is_ok_and(|data| data.is_file())
                {
                    read_file(&file, "descriptor", &mut descriptors, needles);
                }
            }
        }
        // The newest belong to what it is now.
        let old = held.len().saturating_sub(HELD);
        held.drain(..old);
        for file in &held {
            read_file(file, "environ", &mut environ, needles);
        }
    }
    vec![environ, memory, descriptors]
}

/// What a process has started, by any of its threads, and what that has.
fn below(pid: u32, all: &mut Vec<u32>) {
    for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children.split_ascii_whitespace().filter_map(|id| id.parse().ok()) {
            all.push(child);
            below(child, all);
        }
    }
}

fn lives(pid: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

fn own_memory(pid: u32) -> Vec<(u64, u64)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let own = maps.lines().filter_map(mapping).filter(|(_, _, name)| matches!(*name, "[stack]" | "[heap]"));
    own.map(|(range, ..)| range).collect()
}

/// Every mapping that can be read, but for files mapped read-only and privately: those hold what the file holds.
fn memory(pid: u32, needles: &Needles) -> Surface {
    let mut surface = nothing("memory");
    let maps = match fs::read_to_string(format!("/proc/{pid}/maps")) {
        Ok(maps) => maps,
        Err(error) => {
            surface.refused("maps", &error);
            return surface;
        }
    };
    let memory = match File::open(format!("/proc/{pid}/mem")) {
        Ok(memory) => memory,
        Err(error) => {
            surface.refused("mem", &error);
            return surface;
        }
    };
    for line in maps.lines() {
        let Some((range, permissions, name)) = mapping(line) else { continue };
        let of_a_file = name.starts_with('/') && !name.contains("memfd:") && !name.contains("secretmem");
        if !permissions.starts_with('r') || (of_a_file && permissions.ends_with('p') && !permissions.contains('w')) {
            continue;
        }
        let name = if name.is_empty() { "anonymous memory" } else { name };
        read_range(&memory, range, name, &mut surface, needles);
    }
    surface
}

fn read_range(memory: &File, (start, end): (u64, u64), name: &str, surface: &mut Surface, needles: &Needles) {
    let mut at = start;
    let mut buffer = vec![0; PIECE];
    // Pieces overlap, so that no needle lies across an edge.
    while at < end {
        let length = usize::try_from(end - at).unwrap().min(PIECE);
        match memory.read_at(buffer.get_mut(..length).unwrap(), at) {
            Ok(0) => break,
            Ok(read) => {
                surface.read(buffer.get(..read).unwrap(), needles, name);
                if read < length || at + u64::try_from(length).unwrap() >= end {
                    at += u64::try_from(read).unwrap();
                } else {
                    at += u64::try_from(read - OVERLAP).unwrap();
                }
            }
            Err(error) => {
                surface.refused(name, &error);
                at += 4096;
            }
        }
    }
}

/// `start-end perms offset device inode name`
fn mapping(line: &str) -> Option<((u64, u64), &str, &str)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let permissions = words.next()?;
    let name = words.nth(3).unwrap_or_default();
    let skipped = name.starts_with("[vvar") || name == "[vsyscall]";
    let address = |text| u64::from_str_radix(text, 16).ok();
    (!skipped).then_some(((address(start)?, address(end)?), permissions, name))
}

/// Files and memfds through `/proc/PID/fd`; the rest through pidfd_getfd(2), where what waits in a socket is peeked at.
fn descriptors(pid: u32, needles: &Needles) -> Surface {
    let mut surface = nothing("descriptors");
    let directory = PathBuf::from(format!("/proc/{pid}/fd"));
    let numbers: Vec<i32> = match fs::read_dir(&directory) {
        Ok(entries) => entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect(),
        Err(error) => {
            surface.refused("fd", &error);
            // What is not listed may still be taken by number.
            (0..64).collect()
        }
    };
    let pidfd = Pid::from_raw(pid.cast_signed()).and_then(|id| pidfd_open(id, PidfdFlags::empty()).ok());
    for number in numbers {
        let link = fs::read_link(directory.join(number.to_string()));
        let name = link.map_or_else(|_| format!("descriptor {number}"), |link| link.display().to_string());
        if name.starts_with("/dev/") {
            continue;
        }
        // Without waiting: a pipe that nobody writes to any more would keep us forever.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if let Ok(file) = open(directory.join(number.to_string()), flags, Mode::empty()).map(File::from) {
            if file.metadata().is_ok_and(|data| data.is_file()) {
                read_file(&file, &name, &mut surface, needles);
                continue;
            }
            copy_pipe(&file, &name, &mut surface, needles);
        }
        let Some(pidfd) = &pidfd else { continue };
        match pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()) {
            Ok(taken) => peek(&taken, &name, &mut surface, needles),
            Err(rustix::io::Errno::BADF) => {}
            Err(error) => surface.refused("pidfd_getfd", &error),
        }
    }
    surface
}

/// Descriptors that were sent to it and that it has not taken: its socket is duplicated, and looked into without taking
/// anything out.
fn in_flight(pid: u32, needles: &Needles) -> Surface {
    let mut surface = nothing("in flight");
    let Some(pidfd) = Pid::from_raw(pid.cast_signed()).and_then(|id| pidfd_open(id, PidfdFlags::empty()).ok()) else {
        return surface;
    };
    for number in 0..64 {
        let Ok(socket) = pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()) else { continue };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut buffer = vec![0; 4096];
        let mut vector = [IoSliceMut::new(&mut buffer)];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        if recvmsg(&socket, &mut vector, &mut ancillary, flags).is_err() {
            continue;
        }
        for message in ancillary.drain() {
            let RecvAncillaryMessage::ScmRights(descriptors) = message else { continue };
            for file in descriptors.map(File::from) {
                read_file(&file, "a descriptor on its way", &mut surface, needles);
            }
        }
    }
    surface
}

fn read_file(file: &File, name: &str, surface: &mut Surface, needles: &Needles) {
    let mut at = 0;
    let mut buffer = vec![0; PIECE];
    while let Ok(read @ 1..) = file.read_at(&mut buffer, at) {
        surface.read(buffer.get(..read).unwrap(), needles, name);
        if read <= OVERLAP {
            break;
        }
        at += u64::try_from(read - OVERLAP).unwrap();
    }
}

fn peek(taken: &OwnedFd, name: &str, surface: &mut Surface, needles: &Needles) {
    let mut buffer = vec![0; PIECE];
    match recv(taken.as_fd(), &mut buffer[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((read, _)) => surface.read(buffer.get(..read).unwrap(), needles, name),
        // Nothing waits there, or it is no socket.
        Err(_) => {
            copy_pipe(taken, name, surface, needles);
            if let Ok(file) = taken.try_clone().map(File::from) {
                read_file(&file, name, surface, needles);
            }
        }
    }
}

/// What waits in a pipe, as a copy: what is read out of it would be missing to its reader.
fn copy_pipe(taken: impl AsFd, name: &str, surface: &mut Surface, needles: &Needles) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    if let Ok(copied @ 1..) = tee(taken, &writer, PIECE, SpliceFlags::NONBLOCK) {
        let mut buffer = vec![0; copied];
        File::from(reader).read_exact(&mut buffer).unwrap();
        surface.read(&buffer, needles, name);
    }
}

/// Raises the limit as far as it goes, sends SIGABRT, and looks where the kernel says that cores go.
fn core(pid: u32, needles: &Needles) -> Surface {
    let mut surface = nothing("core");
    let Some(id) = Pid::from_raw(pid.cast_signed()) else { return surface };
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let directory = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_else(|_| PathBuf::from("."));
    match prlimit(Some(id), Resource::Core, Rlimit { current: None, maximum: None }) {
        Ok(_) => {}
        Err(_) => {
            let hard = limit_of(pid).unwrap_or(0);
            let most = Rlimit { current: Some(hard), maximum: Some(hard) };
            if let Err(error) = prlimit(Some(id), Resource::Core, most) {
                surface.refused("prlimit", &error);
            }
        }
    }
    if let Err(error) = kill_process(id, Signal::ABORT) {
        surface.refused("kill", &error);
        return surface;
    }
    // A process that is held dies when it is let go.
    let _gone = kill_process(id, Signal::CONT);
    for _ in 0..200 {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if state.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z')) {
            break;
        }
        sleep(Duration::from_millis(10));
    }
    let pattern = pattern.trim();
    if pattern.starts_with('|') {
        surface.refused.push(format!("cores go to the program {pattern}"));
        return surface;
    }
    let pattern = pattern.replace("%p", &pid.to_string());
    for path in [directory.join(&pattern), directory.join(format!("{pattern}.{pid}"))] {
        if let Ok(mut file) = File::open(&path) {
            let mut core = Vec::new();
            if file.read_to_end(&mut core).is_ok() {
                surface.read(&core, needles, "core");
            }
            // Ours to remove: it came from the signal above.
            drop(fs::remove_file(&path));
        }
    }
    surface
}

/// The hard limit on cores, from `/proc/PID/limits`.
fn limit_of(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max core file size"))?;
    match line.split_ascii_whitespace().nth(5)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Handles of earlier moments that a racer keeps.
const HELD: usize = 8;
const PIECE: usize = 1 << 20;
/// Longer than any needle in any form.
const OVERLAP: usize = 1 << 14;
