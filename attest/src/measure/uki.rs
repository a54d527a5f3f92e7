//! The PCRs that a Unified Kernel Image leaves behind: what firmware, systemd-stub and the kernel extend when they boot it.
//!
//! | PCR | extended by | with |
//! |---|---|---|
//! | 4 | firmware | each image that it starts: boot loaders, the UKI and, unless Secure Boot made the stub vouch for it, the kernel within |
//! | 9 | kernel | the command line and the initrd that it was given |
//! | 11 | systemd-stub, later `systemd-pcrphase` | each section of the UKI, then each phase that the boot has reached |
//! | 12 | systemd-stub | a command line, credentials or extensions from outside of the UKI: here none |
//!
//! PCRs 4 and 11 alone do not tell whether somebody booted the image with another command line, as anybody who reaches
//! the boot menu can while Secure Boot is off. PCR 12 tells, and so does PCR 9.
//!
//! All of it is the SHA-256 bank. Which sections the stub knows, and so measures, depends on its version.

use std::collections::{BTreeMap, BTreeSet};

use ring::digest::{SHA256, digest};

use super::pe::{Image, PeError};

mod cmdline;
mod stub;

pub use stub::{StubVersion, UnknownStub};

/// How many phases are extended into PCR 11 at most.
pub const MAX_PHASES: usize = 32;

/// A Unified Kernel Image whose sections have been found.
#[derive(Clone, Debug)]
pub struct Uki<'a> {
    image: Image<'a>,
    kernel: Image<'a>,
    stub: StubVersion,
    /// What the stub measures, in its order: never empty, the kernel first.
    measured: Vec<(&'static str, &'a [u8])>,
    cmdline: Option<&'a [u8]>,
    initrd: &'a [u8],
    /// Why the kernel gets another initrd than the section, if it does.
    initrd_differs: Option<Unpredicted>,
}

/// How the image is started.
#[derive(Clone, Debug, Default)]
pub struct Boot<'a> {
    /// Who loads it.
    pub way: Way,
    /// Boot loaders between firmware and UKI, such as shim and systemd-boot, first to last.
    pub through: Vec<Image<'a>>,
    /// Whether Secure Boot is on.
    pub secure_boot: SecureBoot,
    /// The boot phases that PCR 11 may have got to, each a list as `systemd-measure --phase` has it, without which
    /// no phase has been extended.
    pub phases: Vec<Phases>,
}

/// Who loads the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// The firmware, from a disk: a boot option, or the default path of the system partition.
    #[default]
    BootOption,
    /// OVMF, from QEMU's `-kernel`.
    Monitor,
}

/// Whether Secure Boot is on. It decides whether the kernel within the UKI is measured by itself, not whether the image
/// is accepted; that is for PCR 7 to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecureBoot {
    /// Either: both values of PCR 4 are predicted, and both are of this image alone.
    #[default]
    Either,
    /// On.
    On,
    /// Off.
    Off,
}

/// A list of boot phases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phases(Vec<String>);

/// The values that PCRs may have once the image has booted. A PCR that is not listed cannot be predicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// The values, by PCR; no list is empty.
    pub pcrs: BTreeMap<u8, BTreeSet<[u8; 32]>>,
    /// PCRs 9 and 12 where they are not among them, and why not.
    pub without: BTreeMap<u8, Unpredicted>,
}

/// Why a PCR cannot be predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unpredicted {
    /// The stub hands the kernel more than the section: it wraps other sections into files of the initrd.
    #[error("the stub adds files to the initrd, made of section {section}")]
    InitrdExtended {
        /// The first such section.
        section: &'static str,
    },
    /// There is no command line in the image, so that it comes from outside.
    #[error("the image has no section .cmdline")]
    NoCmdline,
    /// Versions of the stub pass the command line on differently.
    #[error("the command line starts with white space or has a DEL, which versions of the stub pass on differently")]
    Cmdline,
    /// Boot loaders hand the image a command line, often its own, and then they and the stub measure it into PCR 12:
    /// systemd-boot 252 does, each once while Secure Boot is off.
    #[error("boot loaders may hand the image its own command line, and measure it")]
    BootLoader,
    /// The kernel is too old to measure what it is given.
    #[error("the kernel is older than 6.1, or does not say of which version it is")]
    Kernel,
}

/// Why an image is no UKI whose PCRs can be predicted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UkiError {
    /// The image cannot be read.
    #[error("cannot read the image")]
    Image(#[source] PeError),
    /// The kernel within cannot be read, so that firmware could not start it.
    #[error("cannot read the kernel in section .linux")]
    Kernel(#[source] PeError),
    /// There is no `.linux`.
    #[error("the image has no section .linux: it is no unified kernel image")]
    NoKernel,
    /// Two sections have one name, and which is measured depends on the stub.
    #[error("the image has two sections {name}")]
    SectionTwice {
        /// The name.
        name: &'static str,
    },
    /// The image has several profiles, of which one is chosen at boot.
    #[error("the image has profiles (section .profile), which are not predicted")]
    Profiles,
    /// A section is larger in memory than in the file.
    #[error("section {name} is larger in memory than in the file")]
    SectionSize {
        /// Its name.
        name: &'static str,
    },
    /// The stub does not say of which version it is, or of one that is not known.
    #[error("cannot tell which sections the stub measures")]
    Stub(#[source] UnknownStub),
    /// The command line is not UTF-8.
    #[error("section .cmdline is not UTF-8")]
    Cmdline,
}

/// Why a text is no list of phases.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is no list of boot phases: words with colons between them are needed, as enter-initrd:leave-initrd, {MAX_PHASES} at most"
)]
pub struct UnknownPhases {
    found: String,
}

impl<'a> Uki<'a> {
    /// Finds the sections of an image.
    ///
    /// # Errors
    ///
    /// When it is no UKI, or one whose measurements cannot be told from the file alone.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, UkiError> {
        Self::with(Image::parse(bytes).map_err(UkiError::Image)?, None)
    }

    /// The same for a stub that does not say of which version it is.
    ///
    /// # Errors
    ///
    /// As for [`Uki::parse`].
    pub fn parse_with_stub(bytes: &'a [u8], stub: StubVersion) -> Result<Self, UkiError> {
        Self::with(Image::parse(bytes).map_err(UkiError::Image)?, Some(stub))
    }

    fn with(image: Image<'a>, stub: Option<StubVersion>) -> Result<Self, UkiError> {
        let find = |name: &'static str| {
            let mut found = image.sections().iter().filter(|section| section.name() == name.as_bytes());
            let (first, second) = (found.next(), found.next());
            match (first, second) {
                (_, Some(_)) => Err(UkiError::SectionTwice { name }),
                (None, None) => Ok(None),
                (Some(section), None) => section.content().map(Some).ok_or(UkiError::SectionSize { name }),
            }
        };
        if image.sections().iter().any(|section| section.name() == b".profile") {
            return Err(UkiError::Profiles);
        }
        let stub = match stub {
            Some(stub) => stub,
            None => StubVersion::of_magic(find(".sdmagic")?).map_err(UkiError::Stub)?,
        };
        // The stub takes a section without content for none.
        let find = |name| find(name).map(|content| content.filter(|content| !content.is_empty()));
        let linux = find(".linux")?.ok_or(UkiError::NoKernel)?;
        let kernel = Image::parse(linux).map_err(UkiError::Kernel)?;
        let mut measured = Vec::new();
        for name in stub.sections() {
            measured.extend(find(name)?.map(|content| (name, content)));
        }
        let mut initrd_differs = None;
        for section in stub.wrapped() {
            if find(section)?.is_some() {
                initrd_differs = initrd_differs.or(Some(Unpredicted::InitrdExtended { section }));
            }
        }
        let (cmdline, initrd) = (find(".cmdline")?, find(".initrd")?.unwrap_or_default());
        Ok(Self { kernel, stub, measured, cmdline, initrd, initrd_differs, image })
    }

    /// The version of its stub.
    #[must_use]
    pub fn stub(&self) -> StubVersion {
        self.stub
    }

    /// The command line as the kernel gets it.
    ///
    /// # Errors
    ///
    /// When it is not UTF-8.
    pub fn cmdline(&self) -> Result<Option<String>, UkiError> {
        self.cmdline.map(|section| cmdline::as_passed(section).ok_or(UkiError::Cmdline)).transpose()
    }

    /// What PCRs 4, 9, 11 and 12 will hold.
    ///
    /// # Errors
    ///
    /// When the command line is not UTF-8.
    pub fn predict(&self, boot: &Boot<'_>) -> Result<Prediction, UkiError> {
        let mut pcrs = BTreeMap::from([(4, self.boot_manager(boot)), (11, self.image_and_phases(&boot.phases))]);
        let mut without = BTreeMap::new();
        let overrides = if boot.through.is_empty() { Ok(Pcr::new().0) } else { Err(Unpredicted::BootLoader) };
        for (pcr, predicted) in [(9, self.kernel_parameters()?), (12, overrides)] {
            match predicted {
                Ok(value) => drop(pcrs.insert(pcr, BTreeSet::from([value]))),
                Err(reason) => drop(without.insert(pcr, reason)),
            }
        }
        Ok(Prediction { pcrs, without })
    }

    /// PCR 4.
    fn boot_manager(&self, boot: &Boot<'_>) -> BTreeSet<[u8; 32]> {
        let kernel_measured: &[bool] = match boot.secure_boot {
            SecureBoot::Either => &[true, false],
            SecureBoot::Off => &[true],
            SecureBoot::On => &[false],
        };
        let images = boot.through.iter().chain([&self.image]).map(Image::authenticode).collect::<Vec<_>>();
        let kernel = self.kernel.authenticode();
        let values = kernel_measured.iter().map(|measured| {
            let mut pcr = Pcr::new();
            let ready = |pcr: &mut Pcr| {
                pcr.measure(b"Calling EFI Application from Boot Option");
                pcr.measure(&[0; 4]);
            };
            let mut images = images.iter();
            // OVMF loads what QEMU gives it first and then says that it will boot; with boot options it is the other way.
            if boot.way == Way::Monitor {
                images.by_ref().take(1).for_each(|first| pcr.extend(first));
            }
            ready(&mut pcr);
            images.for_each(|image| pcr.extend(image));
            if *measured {
                pcr.extend(&kernel);
            }
            pcr.0
        });
        values.collect()
    }

    /// PCR 9.
    fn kernel_parameters(&self) -> Result<Result<[u8; 32], Unpredicted>, UkiError> {
        // First, so that it is refused whatever else keeps the PCR from being predicted.
        let cmdline = self.cmdline()?;
        if let Some(reason) = self.initrd_differs {
            return Ok(Err(reason));
        }
        if !self.kernel_measures() {
            return Ok(Err(Unpredicted::Kernel));
        }
        let Some(cmdline) = cmdline else {
            return Ok(Err(Unpredicted::NoCmdline));
        };
        if self.cmdline.is_some_and(cmdline::is_ambiguous) {
            return Ok(Err(Unpredicted::Cmdline));
        }
        let mut pcr = Pcr::new();
        pcr.measure(&cmdline.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect::<Vec<_>>());
        if !self.initrd.is_empty() {
            pcr.measure(self.initrd);
        }
        Ok(Ok(pcr.0))
    }

    /// Whether the kernel is of a version that measures its command line and its initrd.
    fn kernel_measures(&self) -> bool {
        self.measured
            .first()
            .and_then(|(_, kernel)| stub::kernel_version(kernel))
            .is_some_and(|version| version >= (6, 1))
    }

    /// PCR 11.
    fn image_and_phases(&self, phases: &[Phases]) -> BTreeSet<[u8; 32]> {
        let mut image = Pcr::new();
        for (name, content) in &self.measured {
            image.measure(&[name.as_bytes(), &[0]].concat());
            image.measure(content);
        }
        let reached = |phases: &Phases| {
            let mut pcr = image.clone();
            phases.0.iter().for_each(|phase| pcr.measure(phase.as_bytes()));
            pcr.0
        };
        match phases {
            [] => BTreeSet::from([reached(&Phases::default())]),
            phases => phases.iter().map(reached).collect(),
        }
    }
}

impl std::str::FromStr for Phases {
    type Err = UnknownPhases;

    /// Reads words with colons between them; a lone colon is no phase at all, as in `systemd-measure --phase`.
    fn from_str(text: &str) -> Result<Self, UnknownPhases> {
        if text == ":" {
            return Ok(Self::default());
        }
        let words: Vec<_> = text.split(':').take(MAX_PHASES + 1).map(str::to_owned).collect();
        let word = |word: &String| {
            (1..=64).contains(&word.len())
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        if words.len() > MAX_PHASES || !words.iter().all(word) {
            return Err(UnknownPhases { found: text.chars().take(200).collect() });
        }
        Ok(Self(words))
    }
}

/// One PCR of the SHA-256 bank.
#[derive(Clone)]
struct Pcr([u8; 32]);

impl Pcr {
    fn new() -> Self {
        Self([0; 32])
    }

    fn measure(&mut self, data: &[u8]) {
        self.extend(digest(&SHA256, data).as_ref());
    }

    fn extend(&mut self, with: &[u8]) {
        let extended = digest(&SHA256, &[&self.0, with].concat());
        self.0.iter_mut().zip(extended.as_ref()).for_each(|(to, from)| *to = *from);
    }
}
