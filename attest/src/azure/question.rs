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
    /// All of them, in the order in which they are asked.
    pub const ALL: [Self; 15] = [
        Self::Length,
        Self::Magic,
        Self::Version,
        Self::Header,
        Self::Tdx,
        Self::ReportType,
        Self::HashType,
        Self::Padding,
        Self::Binding,
        Self::BindingTail,
        Self::Vmpl,
        Self::Runtime,
        Self::RuntimeKey,
        Self::Ak,
        Self::UserData,
    ];

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
}

impl fmt::Display for Question {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
