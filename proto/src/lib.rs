//! What crosses a boundary between Blindferry's processes: bytes only. No I/O, no cryptography, no async.
//!
//! | file | what it describes | between whom |
//! |---|---|---|
//! | [`session`] | messages of the attested session | broker or operator ⇄ vault |
//! | [`operator`] | what an operator asks over that session | operator ⇄ vault |
//! | [`waiting`] | an ask that waits for a person | broker or operator ⇄ vault |
//! | [`local`] | JSON packets on the host's Unix sockets | parent or worker ⇄ broker |
//! | [`front`] | packets on the socketpair inside the enclave | front ⇄ vault |
//! | [`backup`] | a copy of the store, piece by piece | front → vault → operator |
//! | [`report`] | what the operators' page shows | vault → front |
//! | [`parcel`] | a token encrypted to one worker's key | vault → worker |
//! | [`audit`] | one record of the audit chain | vault → operator |
//! | [`process`] | what is said and demanded of a local process | broker ⇄ vault |
//! | [`protection`] | the levels of protection of a launched program | launcher → broker → vault |
//! | [`start`] | JSON packets on a host's Unix socket | `blindferry run --via broker` ⇄ starter |
//! | [`setup`] | what sets up a vault, on standard input and output | operator's command ⇄ vault |
//!
//! Holding a value of one of these types tells you that its bytes parsed and that every length was within its bound;
//! nothing else. What was *checked* has types elsewhere.

pub mod audit;
pub mod backup;
pub mod bounded;
pub mod causes;
pub mod credential;
pub mod frame;
pub mod front;
pub mod identifier;
pub mod key_mix;
pub mod limits;
pub mod local;
pub mod logs;
pub mod name;
pub mod operator;
pub mod parcel;
pub mod platform;
pub mod process;
pub mod protection;
pub mod refusal;
pub mod report;
pub mod role;
pub mod session;
pub mod setup;
pub mod shown;
pub mod source;
pub mod start;
pub mod succession;
pub mod waiting;
