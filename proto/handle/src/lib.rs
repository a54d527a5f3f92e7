//! The descriptors that cross a boundary, and the memory that must not: the one crate of Blindferry that holds `unsafe`.
//!
//! What leaves a process does so as a packet with descriptors ([`packet`]), most often a sealed memfd of ciphertext
//! ([`memfd`]); what stays is held in pages that other processes cannot read ([`secret`]). Around these two stand the
//! questions who is at the other end ([`peer`]), what was inherited ([`inherit`]), how this process and its children
//! come to be unreadable from their first instruction ([`entry`], [`image`]), what a process leaves beside the program
//! that it becomes ([`beside`]), what it shows of its start ([`start`]), what freed memory still says ([`wiping`]), what
//! this kernel does when it is asked in earnest ([`attempt`]), what a process of the same user gets at ([`attacked`]), namespaces of one's own ([`namespace`]), powers put aside or
//! given up ([`power`]), waiting for one descriptor ([`wait`]), and the one device that needs a raw call ([`sev_guest`]).
//!
//! Every other crate forbids `unsafe`. Here each block carries the argument why it is sound, and none of it is
//! reachable through a safe function whose caller could break that argument.
//!
//! Linux only: 6.5 or later for [`peer`] (`SO_PEERPIDFD`), 5.14 or later for real secret memory.

#[cfg(not(target_os = "linux"))]
compile_error!("Blindferry rests on memfd_secret, sealed memfds and pidfds, which only Linux has");

pub mod attacked;
pub mod attempt;
pub mod beside;
pub mod entry;
pub mod image;
pub mod inherit;
pub mod memfd;
pub mod namespace;
pub mod packet;
pub mod peer;
pub mod power;
mod seals;
pub mod secret;
pub mod sev_guest;
pub mod start;
pub mod wait;
pub mod wiping;
