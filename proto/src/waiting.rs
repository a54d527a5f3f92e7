//! An ask that waits for a person: what the asker says, what an operator is shown, and what the operator decides.
//!
//! An operator decides about exactly what was shown: the decision carries [`WaitingAsk::digest_input`] hashed with
//! SHA-256, and the vault grants from that very [`WaitingAsk`] and from nothing else.

use crate::bounded::{CodecError, Text, at_most, encode};
use crate::identifier::AskId;
use crate::name::{Audience, CredentialName, HostName};
use crate::session::{ProcessFacts, WorkerConstraint};
use serde::{Deserialize, Serialize};

/// Begins the bytes that are hashed: names the one use of the hash.
pub const SHOWN: &[u8] = b"blindferry waiting ask v1";
/// Bytes of a [`WaitingAsk`].
pub const MAX_WAITING_ASK: usize = 4096;
/// Policies that are named to an operator; what more there are is left out.
pub const MAX_DEMANDING: usize = 4;
/// Waiting asks in one page of a listing: a page with the longest fits a frame.
pub const ASKS_A_PAGE: usize = 12;
const _: () = assert!(ASKS_A_PAGE * MAX_WAITING_ASK < crate::limits::MAX_FRAME);

/// Bytes of a reason.
pub const MAX_REASON: usize = 256;
/// Why somebody asks, or why somebody says no: words for a person, which decide nothing.
pub type Reason = Text<MAX_REASON>;

/// What the asker says for the person who decides. Nobody has checked a word of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// The program that shall have the token.
    #[serde(default)]
    pub program: Option<Text<128>>,
    /// Why.
    #[serde(default)]
    pub reason: Option<Reason>,
}

/// The ask waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// What an operator calls it by.
    pub ask: AskId,
    /// It is refused after this many seconds from now, unless somebody decides.
    pub seconds: u32,
}

/// All that an operator is shown, and all that a grant is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingAsk {
    /// Its identity.
    pub ask: AskId,
    /// Of which credential.
    pub credential: CredentialName,
    /// Its kind, as policies call it.
    pub kind: Text<32>,
    /// The version of its record: a credential that is replaced meanwhile is another.
    pub version: u64,
    /// Whom the token is for.
    pub audience: Option<Audience>,
    /// The host that asks.
    pub host: AskingHost,
    /// The asking process, as the host's broker saw it.
    pub parent: ProcessFacts,
    /// Who may redeem the grant.
    pub worker: WorkerConstraint,
    /// The asker's own words.
    pub words: Words,
    /// Which policies demand an approval, in the order of the text.
    #[serde(deserialize_with = "at_most::<_, _, MAX_DEMANDING>")]
    pub demanded_by: Vec<Text<96>>,
    /// The version of that policy.
    pub policy_version: u64,
    /// Whether the machine that asks may not be the one that approves.
    pub other_machine: bool,
    /// When it was asked, in seconds since the epoch.
    pub asked: u64,
    /// Until when somebody can decide, in seconds since the epoch.
    pub until: u64,
}

/// The host of an ask as it was last attested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskingHost {
    /// Its name.
    pub name: HostName,
    /// Its hardware: the kind of key and the key.
    pub hardware: Text<160>,
    /// The platform of its evidence.
    pub platform: Text<16>,
    /// The reference values that it meets.
    pub reference: Text<128>,
    /// When it last proved that, in seconds since the epoch.
    pub attested: u64,
}

impl WaitingAsk {
    /// What is hashed: [`SHOWN`] ‖ the ask in postcard.
    ///
    /// # Errors
    /// [`CodecError`] when it does not fit [`MAX_WAITING_ASK`].
    pub fn digest_input(&self) -> Result<Vec<u8>, CodecError> {
        Ok([SHOWN, &encode(self, MAX_WAITING_ASK)?].concat())
    }
}

/// What an operator decides about a waiting ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// It may have one grant.
    Approve,
    /// It may not.
    Deny {
        /// Why, for the asker.
        reason: Option<Reason>,
    },
}

/// How an ask that was waiting ended without a decision, or with one that nobody used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AskEnd {
    /// Nobody decided in time.
    TimedOut,
    /// The asker went away.
    Withdrawn,
    /// The host's session ended.
    SessionOver,
    /// It was approved, and nobody came for the grant.
    NotCollected,
}
