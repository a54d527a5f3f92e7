//! The counter against old approvals: an NV index of type counter, owned by nobody but the owner hierarchy.

use blindferry_device::protocol::{CounterRequest, DeviceRefusal};
use tss_esapi::attributes::NvIndexAttributesBuilder;
use tss_esapi::constants::{CapabilityType, NvIndexType};
use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::{NvAuth, Provision};
use tss_esapi::structures::{CapabilityData, NvPublic, NvPublicBuilder};

use crate::failure::{During, Failure};
use crate::transaction::{Protect, Transaction};

/// Does what is asked, and gives the counter's value after it.
pub(crate) fn serve(transaction: &mut Transaction, request: CounterRequest) -> Result<u64, Failure> {
    match (request, find(transaction)?) {
        (CounterRequest::Create, None) => {
            let public = public(false)?;
            let index = transaction.protected(Protect::Command, "define the counter", |context| {
                context.nv_define_space(Provision::Owner, None, public)
            })?;
            increment(transaction, index)
        }
        // A counter that was never counted cannot be read: whoever made it ended in between.
        (CounterRequest::Create, Some(counter)) if !counter.written => increment(transaction, counter.index),
        (CounterRequest::Create | CounterRequest::Read, Some(counter)) if counter.written => {
            read(transaction, counter.index)
        }
        (CounterRequest::Increment, Some(counter)) => increment(transaction, counter.index),
        _ => Err(Failure::Refused(DeviceRefusal::NoCounter)),
    }
}

/// The counter's value, if there is a counter.
pub(crate) fn value(transaction: &mut Transaction) -> Result<Option<u64>, Failure> {
    match find(transaction)? {
        Some(counter) if counter.written => read(transaction, counter.index).map(Some),
        _ => Ok(None),
    }
}

struct Counter {
    index: NvIndexHandle,
    written: bool,
}

/// The counter, when its index is defined. An index of another kind is not silently used.
fn find(transaction: &mut Transaction) -> Result<Option<Counter>, Failure> {
    let handle = TpmHandle::NvIndex(NvIndexTpmHandle::new(INDEX).during("name the counter")?);
    let (listed, _) = transaction
        .plain("look for the counter", |context| context.get_capability(CapabilityType::Handles, INDEX, 1))?;
    if !matches!(listed, CapabilityData::Handles(handles) if handles.first() == Some(&handle)) {
        return Ok(None);
    }
    let index: NvIndexHandle =
        transaction.plain("find the counter", |context| context.tr_from_tpm_public(handle))?.into();
    let (found, _) =
        transaction.protected(Protect::Response, "look at the counter", |context| context.nv_read_public(index))?;
    let written = found.attributes().written();
    let wanted = public(written)?;
    if found.attributes() != wanted.attributes() || found.data_size() != wanted.data_size() {
        let found = format!("{:?}, {} bytes", found.attributes(), found.data_size());
        return Err(Failure::Refused(DeviceRefusal::CounterTaken { index: INDEX, found }));
    }
    Ok(Some(Counter { index, written }))
}

fn increment(transaction: &mut Transaction, index: NvIndexHandle) -> Result<u64, Failure> {
    transaction.protected(Protect::Authorisation, "count", |context| context.nv_increment(NvAuth::Owner, index))?;
    read(transaction, index)
}

fn read(transaction: &mut Transaction, index: NvIndexHandle) -> Result<u64, Failure> {
    let bytes = transaction
        .protected(Protect::Response, "read the counter", |context| context.nv_read(NvAuth::Owner, index, SIZE, 0))?;
    let value = bytes.value().try_into().map_err(|_| DeviceRefusal::NoCounter)?;
    Ok(u64::from_be_bytes(value))
}

/// Counted with the owner's authorisation, read with the owner's or none: its value is no secret.
fn public(written: bool) -> Result<NvPublic, Failure> {
    let public = || {
        let attributes = NvIndexAttributesBuilder::new()
            .with_nv_index_type(NvIndexType::Counter)
            .with_owner_write(true)
            .with_owner_read(true)
            .with_auth_read(true)
            .with_no_da(true)
            .with_written(written)
            .build()?;
        NvPublicBuilder::new()
            .with_nv_index(NvIndexTpmHandle::new(INDEX)?)
            .with_index_name_algorithm(HashingAlgorithm::Sha256)
            .with_index_attributes(attributes)
            .with_data_area_size(usize::from(SIZE))
            .build()
    };
    public().during("build the counter's template")
}

/// An index of the owner's (TCG Registry of Reserved TPM 2.0 Handles: 0x01800000 to 0x01bfffff): "BF".
const INDEX: u32 = 0x0180_4246;

/// A counter has 64 bits.
const SIZE: u16 = 8;
