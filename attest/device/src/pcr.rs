//! What the values of platform configuration registers (PCRs) say before anybody seals to them.

use blindferry_attest::tpm::PcrValues;
use serde::{Deserialize, Serialize};

/// One PCR that does not hold what an approval wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferingPcr {
    /// Which PCR of the SHA-256 bank.
    pub index: u8,
    /// What the approval wants.
    pub wanted: [u8; 32],
    /// What the TPM holds.
    pub found: [u8; 32],
}

/// The PCRs that nothing ever extended since the platform started: they still hold their initial value, all zeros or,
/// for those of the dynamic root of trust, all ones. Sealing to them alone binds to nothing.
#[must_use]
pub fn never_extended(values: &PcrValues) -> Vec<u8> {
    values.iter().filter(|(_, value)| **value == [0; 32] || **value == [0xff; 32]).map(|(index, _)| index).collect()
}

/// The PCRs of `wanted` that `found` holds otherwise. One that `found` lacks counts as all zeros there.
#[must_use]
pub fn differing(wanted: &PcrValues, found: &PcrValues) -> Vec<DifferingPcr> {
    wanted
        .iter()
        .filter_map(|(index, wanted)| {
            let found = found.iter().find(|(other, _)| *other == index).map_or([0; 32], |(_, value)| *value);
            (found != *wanted).then_some(DifferingPcr { index, wanted: *wanted, found })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use blindferry_attest::tpm::PcrSelection;

    use super::*;

    fn values(bytes: &[(u8, u8)]) -> PcrValues {
        let selection = PcrSelection::new(bytes.iter().map(|(index, _)| *index)).unwrap();
        let values: Vec<(u8, [u8; 32])> = bytes.iter().map(|(index, byte)| (*index, [*byte; 32])).collect();
        PcrValues::new(selection, &values).unwrap()
    }

    #[test]
    fn initial_values_are_never_extended_and_others_are() {
        assert_eq!(never_extended(&values(&[(0, 0), (1, 7), (4, 0), (17, 0xff)])), [0, 4, 17]);
    }

    #[test]
    fn only_the_pcrs_that_differ_are_named_with_both_values() {
        let differing = differing(&values(&[(0, 1), (4, 2), (7, 3)]), &values(&[(0, 1), (4, 9), (7, 3)]));
        assert_eq!(differing, [DifferingPcr { index: 4, wanted: [2; 32], found: [9; 32] }]);
    }

    #[test]
    fn a_pcr_that_was_not_read_differs() {
        assert_eq!(differing(&values(&[(0, 1), (4, 2)]), &values(&[(0, 1)])).len(), 1);
    }
}
