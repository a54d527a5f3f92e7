//! One question for each file: which peers get a session, and what becomes of all others?

#[cfg(test)]
mod calls;
#[cfg(test)]
mod ends;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod handshake;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod platform;
#[cfg(test)]
mod reattestation;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod sequences;
#[cfg(test)]
mod stalls;
#[cfg(test)]
mod transport;
