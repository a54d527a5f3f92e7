//! The questions that are asked of Azure's blob beside those of SEV-SNP and of the TPM, each with its stable code.

use std::fmt;

/// A question that a blob of Azure's has to answer, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Question {
    /// Length.
    Length,
    /// Magic number.
    Magic,
    /// Version.
    Version,
    /// Fields of the headers.
    Header,
    /// Not of Intel TDX, which is not supported.
    Tdx,
    /// Kind of report.
    ReportType,
    /// Hash of the runtime data.
    HashType,
    /// Padding.
    Padding,
    /// The report vouches for the runtime data.
    Binding,
    /// The rest of REPORT_DATA.
    BindingTail,
    /// The paravisor's privilege level.
    Vmpl,
    /// Form of the runtime data.
    Runtime,
    /// Keys in the runtime data.
    RuntimeKey,
    /// The quote is by the vTPM's key.
    Ak,
    /// User data.
    UserData,
}

impl Question {
    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Length => "azure-length",
            Self::Magic => "azure-magic",
            Self::Version => "azure-version",
            Self::Header => "azure-header",
            Self::Tdx => "azure-tdx",
            Self::ReportType => "azure-report-type",
            Self::HashType => "azure-hash",
            Self::Padding => "azure-padding",
            Self::Binding => "azure-runtime-binding",
            Self::BindingTail => "azure-report-data",
            Self::Vmpl => "azure-vmpl",
            Self::Runtime => "azure-runtime",
            Self::RuntimeKey => "azure-runtime-key",
            Self::Ak => "azure-ak",
            Self::UserData => "azure-user-data",
        }
    }

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

impl fmt::Display for Question {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
