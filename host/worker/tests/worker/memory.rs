//! Looks for bytes in the memory of a process, as root would: every mapping, by `/proc/PID/mem`.

use std::fs::{File, read_to_string};
use std::os::unix::fs::FileExt;

/// How often `needle` is found, and how many bytes could be read.
///
/// The needle is given masked (each byte xored with [`MASK`]), so that a process can look for it in itself.
pub(crate) fn search(pid: u32, masked: &[u8]) -> (usize, u64) {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let (mut found, mut readable) = (0, 0);
    for line in maps.lines() {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
        let mut at = start;
        while at < end {
            let step = PIECE.min(end - at);
            // Each piece reaches into the next, so that nothing hides on the border.
            let wanted = (step + masked.len() as u64).min(end - at);
            let mut piece = vec![0; usize::try_from(wanted).unwrap()];
            if memory.read_exact_at(&mut piece, at).is_ok() && piece != vec![0; piece.len()] {
                readable += step;
                found += occurrences(&piece, masked);
            }
            piece.fill(0);
            std::hint::black_box(&piece);
            at += step;
        }
    }
    (found, readable)
}

fn occurrences(piece: &[u8], masked: &[u8]) -> usize {
    let mut found = 0;
    let mut rest = piece;
    while let Some(at) = rest.iter().position(|byte| *byte == masked[0] ^ MASK) {
        rest = &rest[at..];
        if rest.len() >= masked.len() && rest.iter().zip(masked).all(|(byte, masked)| byte ^ MASK == *masked) {
            found += 1;
        }
        rest = &rest[1..];
    }
    found
}

pub(crate) const MASK: u8 = 0xa5;
const PIECE: u64 = 4096;
