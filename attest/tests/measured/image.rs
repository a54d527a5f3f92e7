//! PE images, and kernels that are such, as linkers lay them out.

/// A PE32+ image of these sections, each with its content padded to 512 bytes, which is what linkers do.
pub(crate) fn image(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let headers = (0x40 + 24 + 240 + sections.len() * SECTION_HEADER).next_multiple_of(512);
    let mut image = b"MZ".to_vec();
    image.resize(0x3c, 0);
    image.extend(0x40u32.to_le_bytes());
    image.extend(b"PE\0\0");
    image.extend([0x64, 0x86]);
    image.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
    image.resize(0x40 + 20, 0);
    image.extend(240u16.to_le_bytes());
    image.extend([0x2e, 0x02]);
    let optional = image.len();
    image.extend([0x0b, 0x02]);
    image.resize(optional + 60, 0);
    image.extend(u32::try_from(headers).unwrap().to_le_bytes());
    image.resize(optional + 108, 0);
    image.extend(16u32.to_le_bytes());
    image.resize(optional + 240, 0);
    let mut offset = headers;
    for (at, (name, content)) in sections.iter().enumerate() {
        let raw = content.len().next_multiple_of(512);
        let start = image.len();
        image.extend(name.as_bytes());
        image.resize(start + 8, 0);
        for field in [content.len(), 0x1000 * (at + 1), raw, if raw == 0 { 0 } else { offset }] {
            image.extend(u32::try_from(field).unwrap().to_le_bytes());
        }
        image.resize(start + SECTION_HEADER, 0);
        offset += raw;
    }
    image.resize(headers, 0);
    for (_, content) in sections {
        image.extend(*content);
        image.resize(image.len().next_multiple_of(512), 0);
    }
    image
}

/// A kernel that starts as a bzImage does: a PE image with a version.
pub(crate) fn kernel(version: &str) -> Vec<u8> {
    let mut kernel = image(&[(".text", &[0x90; 1024])]);
    let mut put = |at: usize, bytes: &[u8]| kernel.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    put(0x202, b"HdrS");
    put(0x20e, &0x100u16.to_le_bytes());
    put(0x300, version.as_bytes());
    kernel
}

/// The length of a section header, in bytes.
const SECTION_HEADER: usize = 40;
