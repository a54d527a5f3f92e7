//! The words for each question: its name as people read it, and what an operator can do when it is answered wrongly.

use super::question::Question;

impl Question {
    /// What is asked about, in a few words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Length => "blob length",
            Self::Magic => "blob magic number",
            Self::Version => "blob version",
            Self::Header => "blob headers",
            Self::Tdx | Self::ReportType => "kind of report in the blob",
            Self::HashType => "hash of the runtime data",
            Self::Padding => "blob padding",
            Self::Binding => "runtime data vouched for",
            Self::BindingTail => "rest of report data",
            Self::Vmpl => "paravisor's privilege level",
            Self::Runtime => "runtime data",
            Self::RuntimeKey => "keys in the runtime data",
            Self::Ak => "attestation key of the vTPM",
            Self::UserData => "user data",
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Length | Self::Magic | Self::Header | Self::Padding => {
                "read NV index 0x01400001 of the vTPM anew and send it as it is"
            }
            Self::Version | Self::HashType => "the paravisor is newer than this program; update this program",
            Self::Tdx | Self::ReportType => "use a machine size with AMD SEV-SNP",
            Self::Binding | Self::BindingTail => {
                "the runtime data were altered, or are of another report: read the index anew, and if it stays so, \
                 distrust the machine"
            }
            Self::Vmpl => "the report was not asked for by the paravisor; distrust the machine",
            Self::Runtime | Self::RuntimeKey => "the paravisor writes something that this program does not know",
            Self::Ak => "quote with the vTPM's own key, at handle 0x81000003",
            Self::UserData => "write the binder to NV index 0x01400002 and read 0x01400001 anew",
        }
    }
}
