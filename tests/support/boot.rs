//! A machine that boots, and its logs, made by the test itself: what was measured, and what the log says was.
//!
//! The tests of the crate `attest` take this file too: what they judge as bytes is what a software TPM is extended by here.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

/// EV_SEPARATOR.
pub const SEPARATOR: u32 = 4;
/// EV_EFI_VARIABLE_DRIVER_CONFIG.
pub const VARIABLE: u32 = 0x8000_0001;
/// EV_EFI_BOOT_SERVICES_APPLICATION.
pub const APPLICATION: u32 = 0x8000_0003;
/// EV_EFI_ACTION.
pub const ACTION: u32 = 0x8000_0007;
/// EV_NO_ACTION.
pub const NO_ACTION: u32 = 3;
/// The kernel's command line of a good boot.
pub const COMMAND_LINE: &str = "root=/dev/vda ro quiet";

/// One measurement: what was hashed, and the data in the log, which need not be the same.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Where it is extended.
    pub pcr: u32,
    /// What the log calls it.
    pub kind: u32,
    /// What is extended.
    pub digest: [u8; 32],
    /// What the log has beside it.
    pub data: Vec<u8>,
}

/// A boot in which all is well until a test changes one thing.
#[derive(Clone, Debug)]
pub struct Boot {
    /// In order, whatever the PCR.
    pub events: Vec<Measured>,
    /// What is extended into PCR 10.
    pub files: Vec<(String, Vec<u8>)>,
    /// What is extended and stands in no log of the firmware.
    pub unlogged: Vec<(usize, [u8; 32])>,
    /// Of TPM2_Startup.
    pub locality: u8,
    /// What `[tpm.events]` has for it.
    pub policy: String,
}

impl Boot {
    /// A unified kernel image under Secure Boot.
    #[must_use]
    pub fn good() -> Self {
        let image = measured(4, APPLICATION, b"a unified kernel image");
        let image = Measured { data: b"where it lay in memory".to_vec(), ..image };
        let wide: Vec<u8> = COMMAND_LINE.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        let command_line = Measured { data: b"LOADED_IMAGE::LoadOptions".to_vec(), ..measured(9, 6, &wide) };
        let initrd = Measured { data: b"Linux initrd".to_vec(), ..measured(9, 6, b"an initrd") };
        let mut events = vec![
            measured(0, 8, b"firmware 1.0"),
            variable("SecureBoot", &[1]),
            variable("PK", b"a key"),
            database("db", b"certificates"),
            database("dbx", b"digests"),
            measured(7, SEPARATOR, &[0; 4]),
            measured(4, ACTION, b"Calling EFI Application from Boot Option"),
        ];
        events.extend((0..=6).map(|pcr| measured(pcr, SEPARATOR, &[0; 4])));
        events.extend([
            image,
            command_line,
            initrd,
            measured(5, ACTION, b"Exit Boot Services Invocation"),
            measured(5, ACTION, b"Exit Boot Services Returned with Success"),
        ]);
        let policy = format!(
            "secure_boot = \"on\"\nboot_applications = [\"{}\"]\ncommand_lines = [\"{COMMAND_LINE}\"]\nfiles = [\"{}\"]\n",
            sha256_hex(b"a unified kernel image"),
            sha256_hex(b"an initrd"),
        );
        Self { events, files: vec![], unlogged: vec![], locality: 0, policy }
    }

    /// The event that measured a variable of this name.
    pub fn variable(&mut self, name: &str) -> &mut Measured {
        let wide: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut all = self.events.iter_mut();
        all.find(|event| event.kind == VARIABLE && event.data.get(32..32 + wide.len()) == Some(&wide[..])).unwrap()
    }

    /// The same without the events of this kind in this PCR.
    #[must_use]
    pub fn without(mut self, pcr: u32, kind: u32) -> Self {
        self.events.retain(|event| (event.pcr, event.kind) != (pcr, kind));
        self
    }

    /// The event log, crypto-agile, of the SHA-256 bank.
    #[must_use]
    pub fn log(&self) -> Vec<u8> {
        let mut out = header(&[(0xb, 32)]);
        if self.locality != 0 {
            let data = [b"StartupLocality\0".as_slice(), &[self.locality]].concat();
            out.extend(event(&Measured { pcr: 0, kind: NO_ACTION, digest: [0; 32], data }));
        }
        out.extend(self.events.iter().flat_map(event));
        out
    }

    /// What the PCRs hold in the end.
    #[must_use]
    pub fn pcrs(&self) -> [[u8; 32]; 24] {
        let mut values = [[0; 32]; 24];
        values[0][31] = self.locality;
        let logged = self.events.iter().map(|event| (event.pcr as usize, event.digest));
        for (pcr, digest) in logged.filter(|(pcr, _)| *pcr < 24).chain(self.unlogged.iter().copied()) {
            values[pcr] = sha256(&[&values[pcr], &digest]);
        }
        for (_, template) in &self.files {
            values[10] = sha256(&[&values[10], &sha256(&[template])]);
        }
        values
    }

    /// `template name, template data` as the kernel lists them.
    #[must_use]
    pub fn ima_log(&self) -> Vec<u8> {
        self.files.iter().flat_map(|(name, template)| ima_entry(name, template)).collect()
    }
}

/// An event whose data is what was hashed.
#[must_use]
pub fn measured(pcr: u32, kind: u32, data: &[u8]) -> Measured {
    Measured { pcr, kind, digest: sha256(&[data]), data: data.to_vec() }
}

/// EFI_GLOBAL_VARIABLE.
#[must_use]
pub fn variable(name: &str, value: &[u8]) -> Measured {
    variable_of("61dfe48bca93d211aa0d00e098032b8c", name, value)
}

/// EFI_IMAGE_SECURITY_DATABASE.
#[must_use]
pub fn database(name: &str, value: &[u8]) -> Measured {
    variable_of("cbb219d73a3d9645a3bcdad00e67656f", name, value)
}

fn variable_of(vendor: &str, name: &str, value: &[u8]) -> Measured {
    let mut data = hex::decode(vendor).unwrap();
    data.extend((name.len() as u64).to_le_bytes());
    data.extend((value.len() as u64).to_le_bytes());
    data.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
    data.extend(value);
    measured(7, VARIABLE, &data)
}

/// The Spec ID event, with these algorithms.
#[must_use]
pub fn header(algorithms: &[(u16, u16)]) -> Vec<u8> {
    let mut data = b"Spec ID Event03\0".to_vec();
    data.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    data.extend(len32(algorithms.len()));
    for (id, len) in algorithms {
        data.extend(id.to_le_bytes());
        data.extend(len.to_le_bytes());
    }
    data.push(0);
    sha1_event(0, NO_ACTION, &[0; 20], &data)
}

/// An event of a log in the form of TPM 1.2.
#[must_use]
pub fn sha1_event(pcr: u32, kind: u32, digest: &[u8; 20], data: &[u8]) -> Vec<u8> {
    let mut out = pcr.to_le_bytes().to_vec();
    out.extend(kind.to_le_bytes());
    out.extend(digest);
    out.extend(len32(data.len()));
    out.extend(data);
    out
}

/// An event of a log whose one bank is SHA-256.
#[must_use]
pub fn event(measured: &Measured) -> Vec<u8> {
    let mut out = measured.pcr.to_le_bytes().to_vec();
    out.extend(measured.kind.to_le_bytes());
    out.extend([1, 0, 0, 0, 0x0b, 0]);
    out.extend(measured.digest);
    out.extend(len32(measured.data.len()));
    out.extend(&measured.data);
    out
}

/// The template data of `ima-ng`, or of `ima-sig` with a signature.
#[must_use]
pub fn template(digest: &[u8], path: &str, signature: Option<&[u8]>) -> Vec<u8> {
    let mut out = vec![];
    let mut field = |parts: &[&[u8]]| {
        let bytes = parts.concat();
        out.extend(len32(bytes.len()));
        out.extend(bytes);
    };
    field(&[b"sha256:\0", digest]);
    field(&[path.as_bytes(), &[0]]);
    if let Some(signature) = signature {
        field(&[signature]);
    }
    out
}

/// An entry of the kernel's binary list.
#[must_use]
pub fn ima_entry(name: &str, template: &[u8]) -> Vec<u8> {
    let mut out = 10u32.to_le_bytes().to_vec();
    out.extend(sha1(template));
    for bytes in [name.as_bytes(), template] {
        out.extend(len32(bytes.len()));
        out.extend(bytes);
    }
    out
}

fn len32(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap().to_le_bytes()
}

/// SHA-1.
#[must_use]
pub fn sha1(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec()
}

/// SHA-256 of the parts, one after the other.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    digest(&SHA256, &parts.concat()).as_ref().try_into().unwrap()
}

/// The same in hexadecimal.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(sha256(&[bytes]))
}
