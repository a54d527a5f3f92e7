//! The judgement of a machine whose boot and logs were made by the test itself.

use blindferry_attest::attested::{AppraisalError, Attested};

#[expect(unreachable_pub, reason = "a library has this file too")]
#[path = "../../../tests/support/boot.rs"]
mod maker;

pub(crate) use maker::*;

use crate::synthetic::Case;

/// What the judgement says of a boot.
pub(crate) trait Judged {
    fn case(&self, quoted: &[u8], tables: &str) -> Case;
    fn judge(&self) -> Result<Attested, AppraisalError>;
    fn whole_case(&self) -> Case;
    fn refusal(&self) -> &'static str;
}

impl Judged for Boot {
    /// A quote of these PCRs with the log beside it.
    fn case(&self, quoted: &[u8], tables: &str) -> Case {
        let values = self.pcrs();
        let bits = quoted.iter().fold(0u32, |bits, pcr| bits | 1 << pcr).to_le_bytes();
        Case {
            selection: vec![0, 0, 0, 1, 0x00, 0x0b, 3, bits[0], bits[1], bits[2]],
            pcrs: quoted.iter().map(|pcr| (*pcr, values[usize::from(*pcr)])).collect(),
            reference: format!(
                "version = 2\nrole = \"broker\"\n[[tpm]]\nname = \"fleet\"\nfirmware = \"any\"\n{tables}"
            ),
            event_log: self.log(),
            ima_log: self.ima_log(),
            ..Case::good()
        }
    }

    /// The judgement of its events alone.
    fn judge(&self) -> Result<Attested, AppraisalError> {
        self.whole_case().judge()
    }

    fn whole_case(&self) -> Case {
        let mut quoted: Vec<u8> = (0..=7).collect();
        quoted.extend(self.policy.contains("command_lines").then_some(9));
        quoted.extend(self.policy.contains("[tpm.events.ima").then_some(10));
        quoted.push(12);
        self.case(&quoted, &format!("[tpm.events]\n{}", self.policy))
    }

    fn refusal(&self) -> &'static str {
        self.judge().unwrap_err().code()
    }
}
