//! Our figures against those of independent tools, where they are installed; a test says why it is skipped where not.

use std::{
    fs,
    num::NonZeroU16,
    path::{Path, PathBuf},
    process::Command,
};

use blindferry_attest::measure::{
    pe::Image,
    snp::{CpuSignature, Firmware, KernelHashes, Launch, Monitor},
    uki::{Boot, Phases, Uki},
};

use crate::{
    firmware::amd_sev,
    image::{image, kernel},
    launch::launch,
};

/// sev-snp-measure of virtee, from PyPI.
#[test]
fn sev_snp_measure_computes_the_same_launches() {
    let Some(tool) = sev_snp_measure() else {
        println!("skipped: sev-snp-measure cannot be installed (python3 -m venv, pip)");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let (kernel, initrd, cmdline) = (vec![7; 70_000], vec![9; 5], "root=/dev/vda quiet \u{e4}");
    let loaded = [file("kernel", &kernel), file("initrd", &initrd)];
    let mut images = vec![(amd_sev(), true)];
    // Debian's OVMF supports SNP, but no hashes of a kernel.
    match fs::read("/usr/share/ovmf/OVMF.fd") {
        Ok(image) => images.push((image, false)),
        Err(error) => println!("without Debian's OVMF: {error}"),
    }
    let mut compared = 0;
    for (image, hashes) in &images {
        let firmware = Firmware::parse(image).unwrap();
        let firmware_path = file("firmware", image);
        for (monitor, word) in [(Monitor::Qemu, "QEMU"), (Monitor::Ec2, "ec2"), (Monitor::Gce, "gce")] {
            for (vcpus, cpu, features) in [(1, "EPYC-v4", 0x1), (3, "EPYC-Milan-v2", 0x21), (2, "EPYC-Genoa", 0x2_0001)]
            {
                for with_kernel in [true, false].into_iter().filter(|with_kernel| *hashes || !with_kernel) {
                    let ours = Launch {
                        kernel: with_kernel.then(|| KernelHashes::new(&kernel, &initrd, cmdline)),
                        vcpus: NonZeroU16::new(vcpus).unwrap(),
                        cpu: cpu.parse::<CpuSignature>().unwrap(),
                        guest_features: features,
                        monitor,
                        ..launch(&firmware, 1)
                    };
                    let mut theirs = Command::new(&tool);
                    theirs.args(["--mode", "snp", "--vmm-type", word, "--vcpu-type", cpu, "--ovmf", &firmware_path]);
                    theirs.args(["--vcpus", &vcpus.to_string(), "--guest-features", &format!("{features:#x}")]);
                    if with_kernel {
                        theirs.args(["--kernel", &loaded[0], "--initrd", &loaded[1], "--append", cmdline]);
                    }
                    let theirs = theirs.output().unwrap();
                    assert!(theirs.status.success(), "{}", String::from_utf8_lossy(&theirs.stderr));
                    let measurement = hex::encode(ours.measurement().unwrap());
                    assert_eq!(
                        String::from_utf8_lossy(&theirs.stdout).trim(),
                        measurement,
                        "{word} {cpu} {with_kernel}"
                    );
                    compared += 1;
                }
            }
        }
    }
    println!("{compared} launches compared");
}

/// Installs it into a directory of the build, once.
fn sev_snp_measure() -> Option<PathBuf> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sev-snp-measure-0.0.13");
    let tool = place.join("bin/sev-snp-measure");
    let done = |command: &mut Command| command.output().is_ok_and(|ended| ended.status.success());
    if !done(Command::new(&tool).arg("--version")) {
        let made = done(Command::new("python3").args(["-m", "venv"]).arg(&place));
        let pip = ["install", "--quiet", "sev-snp-measure==0.0.13"];
        if !made || !done(Command::new(place.join("bin/pip")).args(pip)) {
            return None;
        }
    }
    Some(tool)
}

/// pesign's digest of the same images, and of those that this machine has.
#[test]
fn pesign_computes_the_same_authenticode_digests() {
    if !Command::new("pesign").arg("--help").output().is_ok_and(|ended| ended.status.success()) {
        println!("skipped: pesign does not run (Debian: pesign)");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let made = directory.path().join("image.efi");
    fs::write(&made, image(&[(".text", &[0xcc; 1024]), (".linux", &kernel("6.1.0")), (".osrel", b"ID=debian\n")]))
        .unwrap();
    let installed =
        ["/usr/lib/systemd/boot/efi", "/boot"].iter().filter_map(|place| fs::read_dir(place).ok()).flatten();
    let installed = installed.filter_map(|entry| Some(entry.ok()?.path()));
    let mut compared = 0;
    for path in installed.chain([made]) {
        let bytes = fs::read(&path).unwrap_or_default();
        let Ok(image) = Image::parse(&bytes) else { continue };
        let theirs = Command::new("pesign").args(["-h", "-d", "sha256", "-i"]).arg(&path).output().unwrap();
        assert!(theirs.status.success(), "{}", String::from_utf8_lossy(&theirs.stderr));
        let theirs = String::from_utf8(theirs.stdout).unwrap();
        assert_eq!(theirs.trim(), format!("hash: {}", hex::encode(image.authenticode())), "{}", path.display());
        compared += 1;
    }
    println!("{compared} images compared");
}

/// systemd's own prediction of PCR 11, for the version of the stub that it belongs to.
#[test]
fn systemd_measure_computes_the_same_pcr_11() {
    let tool = Path::new("/usr/lib/systemd/systemd-measure");
    let version = Command::new(tool).arg("--version").output();
    let Some(version) = version.ok().filter(|ended| ended.status.success()) else {
        println!("skipped: {} does not run (systemd 252 or newer)", tool.display());
        return;
    };
    // "systemd 252 (252.39-1~deb12u2)"
    let version = String::from_utf8(version.stdout).unwrap();
    let version = version.split_whitespace().nth(1).unwrap().to_owned();
    let Ok(stub) = version.parse() else {
        println!("skipped: systemd-measure of systemd {version}, of whose stub nothing is known");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let linux = kernel("6.12.1");
    let sections: [(&str, &[u8]); 6] = [
        (".linux", &linux),
        (".osrel", b"ID=debian\nVERSION_ID=12\n"),
        (".cmdline", b"console=ttyS0 \n"),
        (".initrd", &[3; 12_345]),
        (".splash", b"BM"),
        (".dtb", &[0; 64]),
    ];
    for phases in [":", "enter-initrd", "enter-initrd:leave-initrd:sysinit:ready"] {
        for count in 1..=sections.len() {
            let mut theirs = Command::new(tool);
            theirs.args(["calculate", "--bank=sha256", &format!("--phase={phases}")]);
            for (name, content) in &sections[..count] {
                let path = directory.path().join(&name[1..]);
                fs::write(&path, content).unwrap();
                theirs.arg(format!("--{}={}", &name[1..], path.display()));
            }
            let theirs = theirs.output().unwrap();
            assert!(theirs.status.success(), "{}", String::from_utf8_lossy(&theirs.stderr));
            // "11:sha256=…", after comments.
            let theirs = String::from_utf8(theirs.stdout).unwrap();
            let theirs = theirs.lines().find_map(|line| line.strip_prefix("11:sha256=")).unwrap().to_owned();
            // In another order in the file, which makes no difference.
            let reversed: Vec<_> = sections[..count].iter().rev().copied().collect();
            let bytes = image(&reversed);
            let phases: Vec<Phases> = vec![phases.parse().unwrap()];
            let prediction = Uki::parse_with_stub(&bytes, stub).unwrap().predict(&Boot { phases, ..Boot::default() });
            let ours: Vec<_> = prediction.unwrap().pcrs[&11].iter().map(hex::encode).collect();
            assert_eq!(ours, [theirs], "{count} sections");
        }
    }
}
