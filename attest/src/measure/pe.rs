//! A PE image, as firmware loads and hashes it: its sections, and its Authenticode digest.
//!
//! Only what those two need is read (Microsoft, PE Format; Windows Authenticode Portable Executable Signature Format).
//! An image that firmware and we could read differently is refused: sections that overlap in the file, or lie in the
//! headers or behind its end.

use ring::digest::{Context, SHA256};

/// The largest image that is read, in bytes: a kernel, and an initrd with all its firmware files.
pub const MAX_IMAGE: usize = 1024 * 1024 * 1024;

/// An image whose headers have been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    bytes: &'a [u8],
    layout: Layout,
    sections: Vec<Section<'a>>,
}

/// A section of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    name: [u8; 8],
    /// Where it starts in the file, and what the file holds of it, padding included.
    offset: usize,
    raw: &'a [u8],
    /// How much of memory it takes, in bytes.
    size: usize,
}

/// Why a file is no PE image that can be measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeError {
    /// Larger than any image.
    #[error("an image of {found} bytes is larger than {MAX_IMAGE}")]
    TooLarge {
        /// Its length in bytes.
        found: usize,
    },
    /// It does not start as a PE image does.
    #[error("this is no PE image: its {what} is wrong")]
    NotPe {
        /// Where the difference is.
        what: &'static str,
    },
    /// The file ends within its headers.
    #[error("the image ends within its headers")]
    HeadersEndEarly,
    /// It has more sections than [`MAX_SECTIONS`].
    #[error("the image has {found} sections, more than {MAX_SECTIONS}")]
    TooManySections {
        /// How many.
        found: u16,
    },
    /// A section lies in the headers, in another one, or behind the end of the file.
    #[error("section {name:?} lies outside its place in the file")]
    SectionPlace {
        /// Its name.
        name: String,
    },
    /// The signatures are not the last thing in the file.
    #[error("the signatures are not at the end of the file, so that what follows them would be measured in two ways")]
    Signatures,
}

impl<'a> Image<'a> {
    /// Reads the headers of an image.
    ///
    /// # Errors
    ///
    /// When it is no PE image, or could be read in two ways.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PeError> {
        if bytes.len() > MAX_IMAGE {
            return Err(PeError::TooLarge { found: bytes.len() });
        }
        let layout = Layout::parse(bytes)?;
        let sections = layout.sections(bytes)?;
        Ok(Self { bytes, layout, sections })
    }

    /// Its sections, in the order of their headers.
    #[must_use]
    pub fn sections(&self) -> &[Section<'a>] {
        &self.sections
    }

    /// The digest that firmware checks signatures against and extends PCR 4 by: SHA-256 over all but the checksum, the
    /// place of the signatures, and the signatures.
    ///
    /// What the file holds between sections is not part of it, what follows the last section is.
    #[must_use]
    pub fn authenticode(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let mut take = |from: usize, to: usize| context.update(self.bytes.get(from..to).unwrap_or_default());
        let Layout { checksum, signatures_entry, headers, end, .. } = self.layout;
        take(0, checksum);
        match signatures_entry {
            Some(entry) => {
                take(checksum + 4, entry);
                take(entry + 8, headers);
            }
            None => take(checksum + 4, headers),
        }
        let mut by_offset: Vec<_> = self.sections.iter().filter(|section| !section.raw.is_empty()).collect();
        by_offset.sort_by_key(|section| section.offset);
        // As the specification has it: the sum of what was hashed, not the end of the last section. They differ where
        // sections leave gaps, and then firmware hashes the tail from the sum.
        let mut hashed = headers;
        for section in by_offset {
            take(section.offset, section.offset + section.raw.len());
            hashed += section.raw.len();
        }
        take(hashed, end);
        let mut value = [0; 32];
        value.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        value
    }
}

impl<'a> Section<'a> {
    /// Its name, without the zeros that fill it up; of a long name, whatever the header has.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(self.name.len());
        self.name.get(..end).unwrap_or_default()
    }

    /// Its content: what is in memory of what is in the file. None where memory has more, which is zeros.
    #[must_use]
    pub fn content(&self) -> Option<&'a [u8]> {
        self.raw.get(..self.size)
    }
}

/// Where in the file things are, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    /// The checksum of four bytes, which is not hashed.
    checksum: usize,
    /// The directory entry of eight bytes that says where the signatures are, which is not hashed either.
    signatures_entry: Option<usize>,
    /// The section headers.
    table: usize,
    section_count: usize,
    /// The end of all headers.
    headers: usize,
    /// The end of what is hashed: of the file, or of what comes before the signatures.
    end: usize,
}

impl Layout {
    fn parse(bytes: &[u8]) -> Result<Self, PeError> {
        if bytes.get(..2) != Some(b"MZ") {
            return Err(PeError::NotPe { what: "first signature" });
        }
        let start = to_usize(u32_at(bytes, 0x3c)?);
        // Below MAX_IMAGE from here on, so that sums of offsets cannot overflow.
        if bytes.get(start..).and_then(|rest| rest.first_chunk()) != Some(b"PE\0\0") {
            return Err(PeError::NotPe { what: "second signature" });
        }
        let section_count = u16_at(bytes, start + 6)?;
        let optional_length = usize::from(u16_at(bytes, start + 20)?);
        if section_count > MAX_SECTIONS {
            return Err(PeError::TooManySections { found: section_count });
        }
        let optional = start + 24;
        let directories = match u16_at(bytes, optional)? {
            0x10b => optional + 96,
            0x20b => optional + 112,
            _ => return Err(PeError::NotPe { what: "format" }),
        };
        let directory_count = u32_at(bytes, directories - 4)?;
        let table = optional + optional_length;
        let headers = to_usize(u32_at(bytes, optional + 60)?);
        let section_count = usize::from(section_count);
        let signatures_entry = (directory_count > SIGNATURES).then_some(directories + 8 * to_usize(SIGNATURES));
        // The fixed fields, the directory entry and the section headers must lie in what is hashed as headers.
        let needed = signatures_entry.map_or(directories, |entry| entry + 8);
        if needed > table || table + section_count * HEADER > headers || headers > bytes.len() {
            return Err(PeError::HeadersEndEarly);
        }
        let end = match signatures_entry {
            None => bytes.len(),
            Some(entry) => match (to_usize(u32_at(bytes, entry)?), to_usize(u32_at(bytes, entry + 4)?)) {
                (_, 0) => bytes.len(),
                (at, length) if at >= headers && at.checked_add(length) == Some(bytes.len()) => at,
                _ => return Err(PeError::Signatures),
            },
        };
        Ok(Self { checksum: optional + 64, signatures_entry, table, section_count, headers, end })
    }

    fn sections<'a>(&self, bytes: &'a [u8]) -> Result<Vec<Section<'a>>, PeError> {
        let table = bytes.get(self.table..self.headers).unwrap_or_default();
        let (headers, _rest) = table.as_chunks::<HEADER>();
        let mut sections = Vec::with_capacity(self.section_count);
        for header in headers.iter().take(self.section_count) {
            sections.push(self.section(bytes, header)?);
        }
        let mut places: Vec<_> = sections.iter().filter(|section| !section.raw.is_empty()).collect();
        places.sort_by_key(|section| section.offset);
        for pair in places.windows(2) {
            let [first, second] = pair else { continue };
            if first.offset + first.raw.len() > second.offset {
                return Err(second.misplaced());
            }
        }
        Ok(sections)
    }

    fn section<'a>(&self, bytes: &'a [u8], header: &[u8; HEADER]) -> Result<Section<'a>, PeError> {
        let name = header.first_chunk().copied().ok_or(PeError::HeadersEndEarly)?;
        let size = to_usize(u32_at(header, 8)?);
        let raw_size = to_usize(u32_at(header, 16)?);
        // A section without data may point anywhere.
        let offset = if raw_size == 0 { self.headers } else { to_usize(u32_at(header, 20)?) };
        let section = Section { name, offset, raw: &[], size };
        let end = offset.checked_add(raw_size).filter(|end| *end <= self.end && offset >= self.headers);
        match end.and_then(|end| bytes.get(offset..end)) {
            Some(raw) => Ok(Section { raw, ..section }),
            None => Err(section.misplaced()),
        }
    }
}

impl Section<'_> {
    fn misplaced(&self) -> PeError {
        PeError::SectionPlace { name: String::from_utf8_lossy(self.name()).into_owned() }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, PeError> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.map(|field| u16::from_le_bytes(*field)).ok_or(PeError::HeadersEndEarly)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, PeError> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.map(|field| u32::from_le_bytes(*field)).ok_or(PeError::HeadersEndEarly)
}

/// Lossless where this is built; elsewhere an offset that no image reaches.
fn to_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX / 2)
}

/// The most sections of an image: Windows' own limit.
pub const MAX_SECTIONS: u16 = 96;
/// The length of a section header, in bytes.
const HEADER: usize = 40;
/// The index of the signatures among the directories.
const SIGNATURES: u32 = 4;
