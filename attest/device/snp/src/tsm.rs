//! Reports through configfs-tsm (Linux, Documentation/ABI/testing/configfs-tsm-report).
//!
//! A report is a directory whose attributes are the request and the answer. An entry can be shared with whoever else has
//! the right to: so its `generation`, which rises with every write, must have risen by exactly ours when we are done, and
//! the report must be over our data, or it is not ours.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use blindferry_device::protocol::DeviceRefusal;
use blindferry_handle::sev_guest::{ExtendedReport, REPORT_LEN, TABLE_LIMIT};

/// Where the kernel has it.
pub const TSM: &str = "/sys/kernel/config/tsm/report";
/// Our entry there. Making one takes root; an entry of this name that is there is used, so that root can make it once
/// and give its attributes to the user of the device process.
pub const ENTRY: &str = "blindferry";

/// The directory of report entries.
#[derive(Clone, Debug)]
pub struct Tsm {
    root: PathBuf,
}

impl Tsm {
    /// The reports under `root`, usually [`TSM`].
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// A report over `data` at this VMPL, with the host's certificates.
    ///
    /// # Errors
    /// [`DeviceRefusal::NoGuest`] when reports are those of another platform, [`DeviceRefusal::ForeignReport`] when
    /// somebody else asked meanwhile, [`DeviceRefusal::Guest`] for what the kernel refuses.
    pub fn report(&self, data: &[u8; 64], vmpl: u32) -> Result<ExtendedReport, DeviceRefusal> {
        let entry = Entry::open(self.root.join(ENTRY))?;
        let provider = entry.text("provider")?;
        if provider != PROVIDER {
            let reason = format!("configfs-tsm gives reports of {provider:?}, want {PROVIDER:?}");
            return Err(DeviceRefusal::NoGuest { reason });
        }
        let before = entry.generation()?;
        entry.write("privlevel", vmpl.to_string().as_bytes())?;
        entry.write("inblob", data)?;
        let report = entry.read("outblob", REPORT_LEN + 1)?;
        let table = entry.read("auxblob", TABLE_LIMIT)?;
        let after = entry.generation()?;
        if after != before.wrapping_add(WRITES) {
            let reason = format!(
                "the entry's generation went from {before} to {after}, by more or less than our {WRITES} writes"
            );
            return Err(DeviceRefusal::ForeignReport { reason });
        }
        if report.len() != REPORT_LEN {
            let reason = format!("a report of {} bytes, want {REPORT_LEN}", report.len());
            return Err(DeviceRefusal::Guest { operation: "make a report".to_owned(), reason });
        }
        Ok(ExtendedReport { report, table })
    }
}

/// An entry, removed again if we made it.
struct Entry {
    path: PathBuf,
    ours: bool,
}

impl Entry {
    fn open(path: PathBuf) -> Result<Self, DeviceRefusal> {
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self { path, ours: true }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Self { path, ours: false }),
            Err(error) => {
                let reason =
                    format!("{}: {error}; root can make it once, and give its attributes away", path.display());
                Err(DeviceRefusal::Guest { operation: "make a report entry".to_owned(), reason })
            }
        }
    }

    fn generation(&self) -> Result<u64, DeviceRefusal> {
        let text = self.text("generation")?;
        text.parse().map_err(|_| DeviceRefusal::ForeignReport { reason: format!("a generation of {text:?}") })
    }

    fn text(&self, attribute: &'static str) -> Result<String, DeviceRefusal> {
        let bytes = self.read(attribute, MAX_TEXT)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    fn read(&self, attribute: &'static str, limit: usize) -> Result<Vec<u8>, DeviceRefusal> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let file = OpenOptions::new().read(true).open(self.path.join(attribute));
        match file.and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
            Ok(_) => Ok(bytes),
            // A provider without certificates has no such attribute, or refuses to read it.
            Err(error) if attribute == "auxblob" && is_absent(&error) => Ok(Vec::new()),
            Err(error) => Err(failed("read", &self.path, attribute, &error)),
        }
    }

    /// In one call, as an attribute takes it.
    fn write(&self, attribute: &'static str, bytes: &[u8]) -> Result<(), DeviceRefusal> {
        let file = OpenOptions::new().write(true).open(self.path.join(attribute));
        file.and_then(|mut file| file.write_all(bytes)).map_err(|error| failed("write", &self.path, attribute, &error))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.ours {
            // One that stays is used the next time.
            let _stays = fs::remove_dir(&self.path);
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::Unsupported)
}

fn failed(doing: &str, entry: &Path, attribute: &str, error: &io::Error) -> DeviceRefusal {
    let reason = format!("{}: {error}", entry.join(attribute).display());
    DeviceRefusal::Guest { operation: format!("{doing} a report's attribute"), reason }
}

/// What the provider of SEV-SNP reports calls itself.
const PROVIDER: &str = "sev_guest";
/// How often we write: the VMPL, then the data.
const WRITES: u64 = 2;
/// Bytes of a line.
const MAX_TEXT: usize = 64;
