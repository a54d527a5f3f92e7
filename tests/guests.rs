//! Does a fleet of SEV-SNP guests keep what a fleet with TPMs keeps? Over chips that are none, whose root only a
//! `dangerously_` word makes believed.
#![expect(clippy::panic, reason = "a test fails by panicking")]

use blindferry_amd::{Amd, Crl};
use blindferry_attest::evidence::Evidence;
use blindferry_device::client::DeviceError;
use blindferry_device::protocol::DeviceRefusal;
use blindferry_proto::audit::{Alarm, Event};
use blindferry_proto::credential::Kind;
use blindferry_proto::key_mix::KeyMix;
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::role::Role;
use blindferry_proto::setup::{InitOrder, SetupReply};
use blindferry_session::client::ConnectError;
use blindferry_tests::fleet::{HOST, OPERATOR, http_get};
use blindferry_tests::guest_fleet::{ENCLAVE_IMAGE, GuestFleet, HOST_IMAGE, device_over, init_order};
use blindferry_tests::operator::settings;
use blindferry_tests::process::eventually;
use blindferry_tests::program::ours;
use blindferry_tests::silicon::{Silicon, amd_reference};
use blindferry_tests::tsm_tree::TsmTree;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const MASTER: &str = "the master that a guest keeps";

#[test]
fn a_token_crosses_between_guests_before_and_after_a_restart_of_the_vault() {
    let mut fleet = GuestFleet::start();
    fleet.operator().put("api", settings(Kind::Release), MASTER.as_bytes());
    assert_eq!(fleet.released("api"), MASTER);
    let sessions = fleet.sessions();
    fleet.enclave.stop();
    fleet.enclave.serve();
    fleet.wait_for_session_after(sessions);
    assert_eq!(fleet.released("api"), MASTER);

    // Fresh reports in the same session, from the same guest.
    eventually("two re-attestations", || {
        let again = |event: &&Event| matches!(event, Event::Reattested { host, .. } if host.as_str() == HOST);
        (fleet.operator().events().iter().filter(again).count() >= 2).then_some(())
    });
    let status = fleet.operator().status();
    assert_eq!(status.platform.as_str(), "SEV-SNP firmware");
    assert!(!status.software_tpm);
}

#[test]
fn a_dangerous_root_is_named_in_status_metrics_and_every_record() {
    let fleet = GuestFleet::start();
    let operator = fleet.operator();
    let status = operator.status();
    assert!(status.dangers.iter().any(|danger| danger.as_str().starts_with("dangerously_trusted_root")), "{status:?}");
    assert!(status.warnings.iter().any(|warning| warning.as_str().starts_with("dangerously_trusted_root")));
    let named = |body: &blindferry_proto::audit::Body| {
        body.dangers.iter().any(|danger| danger.as_str().starts_with("dangerously_trusted_root"))
    };
    assert!(operator.audit().iter().all(named));
    eventually("the metrics to name it", || {
        let (_, metrics) = http_get(fleet.enclave.public, "/metrics")?;
        metrics
            .lines()
            .any(|line| line.contains("dangers") && !line.ends_with(" 0") && !line.starts_with('#'))
            .then_some(())
    });
}

#[test]
fn another_measurement_policy_chip_or_older_firmware_does_not_unseal() {
    let mut fleet = GuestFleet::start();
    fleet.enclave.stop();
    let path = fleet.enclave.silicon();
    let good = Silicon::read(&path);
    let cases = [
        ("the measurement is", Silicon { image: "another image".to_owned(), ..good.clone() }),
        ("the guest policy is", Silicon { policy: 0xb_0000, ..good.clone() }),
        ("the chip is", Silicon { chip: 9, ..good.clone() }),
        ("the committed TCB is", Silicon { tcb: [9, 23, 84], ..good.clone() }),
    ];
    for (said, silicon) in cases {
        silicon.write(&path);
        let (status, log) = fleet.enclave.fail_to_serve();
        assert!(!status.success() && log.contains("stays sealed") && log.contains(said), "{said}: {log}");
    }
    good.write(&path);
    fleet.enclave.serve();
}

#[test]
fn newer_firmware_unseals_and_from_then_on_older_does_not() {
    let mut fleet = GuestFleet::start();
    let path = fleet.enclave.silicon();
    let old = Silicon::read(&path);
    fleet.enclave.stop();
    Silicon { tcb: [10, 24, 90], ..old.clone() }.write(&path);
    fleet.enclave.serve();
    assert!(fleet.operator().events().iter().any(|event| matches!(event, Event::SealedAnew { .. })));
    fleet.enclave.stop();
    old.write(&path);
    let (status, log) = fleet.enclave.fail_to_serve();
    assert!(!status.success() && log.contains("the committed TCB is"), "{log}");
}

#[test]
fn the_recovery_key_opens_the_store_on_another_chip() {
    let mut fleet = GuestFleet::start();
    fleet.operator().put("api", settings(Kind::Release), MASTER.as_bytes());
    fleet.enclave.stop();
    let path = fleet.enclave.silicon();
    let replaced = Silicon { chip: 0x77, ..Silicon::read(&path) };
    replaced.write(&path);
    let recovered = fleet.enclave.recover();
    let Some(SetupReply::Done { vault_reference }) = recovered.reply else { panic!("{recovered:?}") };
    assert!(recovered.status.success() && vault_reference.as_str().contains(&"77".repeat(64)));
    fleet.enclave.serve();
    // The old reference names the old chip.
    assert!(matches!(
        fleet.peer(Role::Operator, OPERATOR, &fleet.enclave.reference),
        Err(ConnectError::VaultRefused { .. })
    ));
    fleet.enclave.reference = vault_reference.as_str().to_owned();
    let sessions = fleet.sessions();
    fleet.stop_broker();
    fleet.trust(&fleet.enclave.reference);
    fleet.start_broker();
    fleet.wait_for_session_after(sessions);
    assert_eq!(fleet.released("api"), MASTER);
}

#[test]
fn a_root_that_nobody_named_is_refused_everywhere() {
    let mut fleet = GuestFleet::start();
    // By an operator of the vault, and by a host of it.
    let text = &fleet.enclave.reference;
    let head: Vec<&str> =
        text.lines().filter(|line| line.starts_with("chip_id") || line.starts_with("audit_key")).collect();
    let amd = format!("{}\n{}", head.join("\n"), amd_reference("vault", ENCLAVE_IMAGE));
    match fleet.peer(Role::Operator, OPERATOR, &amd) {
        Err(ConnectError::VaultRefused { source }) => assert_eq!(source.code(), "snp-root", "{source}"),
        other => panic!("{other:?}"),
    }
    fleet.stop_broker();
    fleet.trust(&amd);
    fleet.start_broker();
    eventually("the broker to refuse", || fleet.broker_log().contains("reference of the configuration").then_some(()));
    fleet.trust(&fleet.enclave.reference);

    // By the vault of its hosts.
    fleet.operator().apply_reference(&amd_reference("broker", HOST_IMAGE));
    fleet.stop_broker();
    fleet.start_broker();
    eventually("the vault to refuse", || {
        let refused = |event: &Event| matches!(event, Event::NotAttested { code, .. } if code.as_str() == "snp-root");
        fleet.operator().events().iter().any(refused).then_some(())
    });

    // By a vault of itself, before there is one.
    let second = fleet.second_enclave();
    for own in [None, Some(amd_reference("vault", ENCLAVE_IMAGE))] {
        let order = blindferry_proto::setup::InitOrder {
            vault_reference: own.map(|text| blindferry_proto::bounded::Text::new(text).unwrap()),
            ..init_order()
        };
        let made = second.try_init(&order);
        let Some(SetupReply::Refused(refusal)) = made.reply else { panic!("{made:?}") };
        assert!(!made.status.success() && refusal.code == RefusalCode::NotReady, "{refusal}");
    }
}

#[test]
fn the_same_image_on_the_same_chip_over_another_store_is_not_the_vault() {
    let mut fleet = GuestFleet::start();
    let mut second = fleet.second_enclave();
    second.init();
    second.serve();
    let genuine = fleet.enclave.reference.clone();
    let address = std::mem::replace(&mut fleet.enclave.listen, second.listen);
    let refused = fleet.peer(Role::Operator, OPERATOR, &genuine);
    assert!(matches!(refused, Err(ConnectError::AnotherVault)), "{refused:?}");
    // A broker says which of the two it is: nothing is wrong with the evidence.
    fleet.stop_broker();
    fleet.start_broker();
    eventually("the broker to tell", || fleet.broker_log().contains("another vault answers").then_some(()));
    assert!(!fleet.broker_log().contains("does not meet the reference"));
    fleet.enclave.listen = address;
    assert!(fleet.peer(Role::Operator, OPERATOR, &genuine).is_ok());
}

#[test]
fn another_chip_under_an_enrolled_name_is_an_alarm() {
    let mut fleet = GuestFleet::start();
    let path = fleet.host_silicon();
    fleet.stop_broker();
    Silicon { chip: 0x55, ..Silicon::read(&path) }.write(&path);
    fleet.start_broker();
    eventually("the alarm", || {
        let alarm = |event: &Event| {
            matches!(event, Event::Alarm(Alarm::IdentityChanged { host, claimed: Some(claimed) })
                if host.as_str() == HOST && claimed.to_string() == "55".repeat(64))
        };
        fleet.operator().events().iter().any(alarm).then_some(())
    });
}

#[test]
fn a_guest_that_was_launched_again_does_not_go_on_with_the_session_of_the_first() {
    let fleet = GuestFleet::start();
    let (path, sessions) = (fleet.host_silicon(), fleet.sessions());
    let first = Silicon::read(&path);
    Silicon { launches: 2, ..first }.write(&path);
    eventually("the refusal", || {
        let refused =
            |event: &Event| matches!(event, Event::NotAttested { code, .. } if code.as_str() == "snp-report-id");
        fleet.operator().events().iter().any(refused).then_some(())
    });
    // As another guest, with a session of its own, it is welcome.
    fleet.wait_for_session_after(sessions);
}

#[test]
fn reports_of_the_tree_are_refused_when_another_platform_makes_them_or_somebody_meddles() {
    let directory = tempfile::tempdir().unwrap();
    let silicon = directory.path().join("silicon.json");
    Silicon::launch(HOST_IMAGE, 3).write(&silicon);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let tree = TsmTree::serve(directory.path().join("tdx"), silicon.clone(), "tdx_guest");
        let (device, mut child) = device_over(&tree, None);
        assert_eq!(code(device.quote([1; 32], None).await.unwrap_err()), "no-guest");
        drop(device);
        child.wait().unwrap();

        let tree = TsmTree::serve(directory.path().join("sev"), silicon.clone(), "sev_guest");
        let (device, mut child) = device_over(&tree, None);
        device.quote([1; 32], None).await.unwrap();
        tree.meddle();
        assert_eq!(code(device.quote([1; 32], None).await.unwrap_err()), "foreign-report");
        device.quote([1; 32], None).await.unwrap();
        // It has no counter and no PCRs, and a file is no guest device.
        assert_eq!(code(device.counter_read().await.unwrap_err()), "other-platform");
        drop(device);
        child.wait().unwrap();
    });
}

#[test]
fn where_the_host_gives_no_certificate_the_one_that_an_operator_brought_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (silicon, cache) = (at("silicon.json"), at("certificates"));
    let bare = Silicon { certificates: false, ..Silicon::launch(HOST_IMAGE, 3) };
    bare.write(&silicon);
    let tree = TsmTree::serve(at("tsm"), silicon.clone(), "sev_guest");
    let provision = |arguments: &[&Path]| {
        let mut command = Command::new(ours("blindferry-device-snp"));
        command.arg("provision").arg("--tsm").arg(tree.root()).args(["--device", "/dev/null", "--certificates"]);
        let output = command.arg(&cache).args(arguments).stdin(Stdio::null()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let quote = || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (answer, mut child) = runtime.block_on(async {
            let (device, child) = device_over(&tree, Some(&cache));
            (device.quote([1; 32], None).await, child)
        });
        child.wait().unwrap();
        answer
    };
    let address =
        format!("https://kdsintf.amd.com/vcek/v1/Genoa/{}?blSPL=10&teeSPL=00&snpSPL=23&ucodeSPL=84", "03".repeat(64));
    let missing = quote().unwrap_err();
    assert!(missing.to_string().contains(&address) || format!("{missing:?}").contains(&address), "{missing:?}");
    assert_eq!(code(missing), "no-certificate");
    let (done, said) = provision(&[]);
    assert!(done && said.contains(&address) && said.contains("https://kdsintf.amd.com/vcek/v1/Genoa/crl"), "{said}");

    let (der, crl) = (bare.vek().der, Amd::of("Genoa").crl(&Crl::empty()));
    fs::write(at("vcek"), &der).unwrap();
    fs::write(at("crl"), &crl).unwrap();
    fs::write(at("text"), "-----BEGIN CERTIFICATE-----").unwrap();
    assert!(!provision(&[Path::new("--import"), &at("text")]).0);
    let (done, said) = provision(&[Path::new("--import"), &at("vcek"), Path::new("--import-crl"), &at("crl")]);
    assert!(done, "{said}");
    let Ok(Evidence::Snp(evidence)) = Evidence::decode(&quote().unwrap()) else { panic!("not a guest's evidence") };
    assert_eq!((evidence.certificates(), evidence.crls()), (&[der][..], &[crl][..]));

    // Newer firmware signs by another key: its certificate is asked for by its own address.
    Silicon { tcb: [10, 24, 90], ..bare }.write(&silicon);
    assert!(format!("{:?}", quote().unwrap_err()).contains("snpSPL=24&ucodeSPL=90"));
}

#[test]
fn what_is_left_out_of_the_mix_may_fall_and_what_is_in_it_may_only_rise() {
    let fleet = GuestFleet::start();
    let mut enclave = fleet.second_enclave();
    let mix = KeyMix { tcb: false, guest_svn: true, ..KeyMix::default() };
    let launched = Silicon { guest_svn: 4, ..Silicon::read(&enclave.silicon()) };
    launched.write(&enclave.silicon());
    assert!(enclave.try_init(&InitOrder { mix, ..init_order() }).status.success());
    let older_firmware = Silicon { tcb: [9, 22, 80], ..launched.clone() };
    let newer_guest = Silicon { guest_svn: 5, ..launched.clone() };
    for opens in [&older_firmware, &newer_guest] {
        opens.write(&enclave.silicon());
        enclave.serve();
        enclave.stop();
    }
    // It was sealed anew for SVN 5 when that served.
    launched.write(&enclave.silicon());
    let (status, log) = enclave.fail_to_serve();
    assert!(!status.success() && log.contains("the guest SVN is"), "{log}");
}

fn code(error: DeviceError) -> &'static str {
    match error {
        DeviceError::Refused(refusal) => DeviceRefusal::code(&refusal),
        other => panic!("{other}"),
    }
}
