//! Reads PCRs, all of one moment.

use blindferry_attest::tpm::{PcrSelection, PcrValues};
use blindferry_device::protocol::DeviceRefusal;
use tss_esapi::Result;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{PcrSelectionList, PcrSlot};

use crate::failure::{During, Failure};
use crate::transaction::{Protect, Transaction};

/// The values of these PCRs in the SHA-256 bank. The response carries the session's HMAC, so what is read here is what
/// the TPM holds, whoever sits on the bus.
pub(crate) fn read(transaction: &mut Transaction, selection: PcrSelection) -> std::result::Result<PcrValues, Failure> {
    for _ in 0..ATTEMPTS {
        if let Some(values) = read_once(transaction, selection)? {
            return Ok(values);
        }
    }
    Err(Failure::Refused(DeviceRefusal::PcrsChanging))
}

/// The selection as tss-esapi takes it.
pub(crate) fn selection_list(selection: PcrSelection) -> Result<PcrSelectionList> {
    let slots: Vec<PcrSlot> =
        selection.indices().map(|index| PcrSlot::try_from(1_u32 << index)).collect::<Result<_>>()?;
    PcrSelectionList::builder().with_selection(HashingAlgorithm::Sha256, &slots).build()
}

/// A TPM gives eight values at a time, with a counter that rises whenever any PCR is extended. `None` when it rose.
fn read_once(
    transaction: &mut Transaction,
    selection: PcrSelection,
) -> std::result::Result<Option<PcrValues>, Failure> {
    let mut values: Vec<(u8, [u8; 32])> = Vec::new();
    let mut counter = None;
    let indices: Vec<u8> = selection.indices().collect();
    for indices in indices.chunks(AT_ONCE) {
        let part = PcrSelection::new(indices.iter().copied()).map_err(|_| DeviceRefusal::BadSelection)?;
        let list = selection_list(part).during("select PCRs")?;
        let (now, _, digests) =
            transaction.protected(Protect::Integrity, "read PCRs", |context| context.pcr_read(list))?;
        if *counter.get_or_insert(now) != now {
            return Ok(None);
        }
        for (index, digest) in indices.iter().zip(digests.value()) {
            let value = digest.value().try_into().map_err(|_| no_bank())?;
            values.push((*index, value));
        }
    }
    // Fewer values than asked for: the bank is not active, and the TPM answers for what it has.
    PcrValues::new(selection, &values).map(Some).map_err(|_| Failure::Refused(no_bank()))
}

fn no_bank() -> DeviceRefusal {
    DeviceRefusal::Tpm { operation: "read PCRs".to_owned(), reason: "its SHA-256 bank is not active".to_owned() }
}

const AT_ONCE: usize = 8;

/// A boot extends PCRs in bursts; reading takes milliseconds.
const ATTEMPTS: u32 = 5;
