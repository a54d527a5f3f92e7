//! Probes of the hardware that a process of ours proves itself by.

use crate::machine::{Look, Machine};
use crate::{Answer, State, good, lacking, unknown};
use std::io::ErrorKind;

/// One of the two is needed.
pub(crate) fn platform(machine: &Machine) -> Answer {
    let answers = [("a TPM", tpm(machine).state), ("an SEV-SNP guest", snp(machine).state)];
    if let Some((name, _)) = answers.iter().find(|(_, state)| *state == State::Good) {
        return good(*name, "this machine can prove what it runs, and a key can be sealed to it");
    }
    let means = "this machine can prove nothing and seal nothing, unless by a software TPM";
    if answers.iter().any(|(_, state)| *state == State::Unknown) {
        return unknown("neither was found, and not all could be looked at", means, "mount /dev and /sys");
    }
    lacking(
        "neither a TPM nor an SEV-SNP guest that this user can use",
        means,
        "give the machine a TPM 2.0, or run it as an SEV-SNP guest; see tpm and snp",
    )
}

pub(crate) fn tpm(machine: &Machine) -> Answer {
    let none = "no key of a TPM; an SEV-SNP guest does without";
    match machine.open("dev/tpmrm0") {
        Ok(()) => match machine.look("sys/class/tpm/tpm0", "tpm_version_major") {
            Look::Text(version) if version != "2" => {
                lacking(format!("a TPM of version {version}"), none, "a TPM 2.0, or its setting in the firmware")
            }
            _ => good(
                "/dev/tpmrm0 can be opened",
                "quotes and sealed keys are this TPM's; that it is no software, it cannot say",
            ),
        },
        Err(error) if error.kind() != ErrorKind::NotFound => lacking(
            format!("/dev/tpmrm0 is there and cannot be opened: {error}"),
            "the device process of this user cannot reach the TPM",
            "usermod --append --groups tss USER; in a unit: SupplementaryGroups=tss",
        ),
        Err(_) if machine.names("dev").is_empty() => unknown("/dev is empty or not there", none, "mount /dev"),
        Err(_) if machine.names("dev").iter().any(|name| name == "tpm0") => lacking(
            "/dev/tpm0 without /dev/tpmrm0",
            "a TPM that one process at a time can use, which is not enough",
            "run a kernel with its resource manager; a TPM 1.2 has none, and is too old",
        ),
        Err(_) => lacking(
            "no /dev/tpmrm0",
            none,
            "enable the TPM in the firmware's settings, or give the virtual machine one",
        ),
    }
}

pub(crate) fn snp(machine: &Machine) -> Answer {
    let none = "no reports of AMD's firmware; a machine with a TPM does without";
    let tsm = machine.list("sys/kernel/config/tsm/report").is_ok();
    match machine.open("dev/sev-guest") {
        Ok(()) => good(
            if tsm { "/dev/sev-guest and configfs-tsm" } else { "/dev/sev-guest" },
            "reports are had from the firmware, and a key is sealed by one that it derives",
        ),
        Err(error) if error.kind() != ErrorKind::NotFound => lacking(
            format!("/dev/sev-guest is there and cannot be opened: {error}"),
            "the device process of this user cannot reach the firmware",
            "give the service's user the device: a rule of udev with GROUP=, and SupplementaryGroups= in its unit",
        ),
        Err(_) if machine.names("dev").is_empty() => unknown("/dev is empty or not there", none, "mount /dev"),
        Err(_) => lacking(
            if tsm { "configfs-tsm without /dev/sev-guest" } else { "no /dev/sev-guest" },
            none,
            "run as an SEV-SNP guest, with a kernel that has CONFIG_SEV_GUEST",
        ),
    }
}

/// A global variable of UEFI 2.10, section 3.3: four bytes of attributes, then one that is 1 when it is on.
const SECURE_BOOT: &str = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

pub(crate) fn secure_boot(machine: &Machine) -> Answer {
    let off = "whoever owns the disk chooses what boots; reference values find it out, if their PCRs are chosen so";
    let remedy = "turn Secure Boot on in the firmware's settings, with keys of your own if you can";
    match machine.bytes(SECURE_BOOT).as_deref() {
        Ok([_, _, _, _, 1]) => good("on", "the firmware starts only what is signed; PCR 7 says with which keys"),
        Ok([_, _, _, _, 0]) => lacking("off", off, remedy),
        Ok(bytes) => unknown(format!("{} bytes that are not understood", bytes.len()), off, remedy),
        Err(error) if error.kind() == ErrorKind::NotFound => match machine.look("sys/firmware", "efi/systab") {
            // Whatever is there of it: a machine that was started by UEFI has the directory.
            Look::Unreadable(why) => unknown(why, off, "mount -t sysfs sysfs /sys"),
            _ if machine.list("sys/firmware/efi").is_ok() => {
                unknown("no such variable", off, "mount -t efivarfs efivarfs /sys/firmware/efi/efivars")
            }
            _ => lacking("not started by UEFI", off, remedy),
        },
        Err(error) => unknown(error.to_string(), off, "mount -t efivarfs efivarfs /sys/firmware/efi/efivars"),
    }
}
