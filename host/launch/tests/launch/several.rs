//! Several credentials at once: each in its own form; and if one is refused, none is left leased.

use crate::fake_broker::{Answers, FakeBroker, Seen, parcelled};
use crate::fake_vault::{FakeVault, header};
use crate::launched::Launch;
use blindferry_proto::local::{WorkerReply, WorkerRequest};
use blindferry_proto::refusal::{Refusal, RefusalCode};

/// A token for each grant, that says whose it is; but not for `refused`.
pub(crate) fn by_name(refused: &'static str) -> impl FnMut(&Seen) -> Answers + Send + 'static {
    let vault = FakeVault::new();
    move |seen| {
        let WorkerRequest::Redeem { request, key, .. } = seen.request else { return vec![(WorkerReply::Done, None)] };
        let grant = seen.grant.as_deref().unwrap();
        if grant == refused.as_bytes() {
            let no = Refusal::new(RefusalCode::Denied, "not this one");
            return vec![(WorkerReply::Refused(no), None)];
        }
        let token = [b"token of ", grant].concat();
        parcelled(&vault, &vault.seal(header(request, key, seen.uid), &token).to_bytes())
    }
}

#[test]
fn each_credential_comes_in_its_own_forms() {
    let broker = FakeBroker::start("several-names", by_name(""));
    let launch = Launch::several(&broker, &["deploy-key", "db", "rest"]);
    let script = "cat $DEPLOY_KEY_FILE; echo; echo $DB; cat $CREDENTIALS_DIRECTORY/db; echo; cat $REST_FILE";
    let forms = ["--deliver", "db=env:DB", "--deliver", "db=credentials-directory", "--deliver", "deploy-key=memfd"];
    let printed = launch.args(&forms).args(&["--", "sh", "-c", script]).printed();
    assert_eq!(printed, "token of deploy-key\ntoken of db\ntoken of db\ntoken of rest");
}

#[test]
fn when_a_later_one_is_refused_the_leases_of_the_earlier_ones_end_and_nothing_is_started() {
    let broker = FakeBroker::start("several-refused", by_name("second"));
    let output = Launch::several(&broker, &["first", "second", "third"]).args(&["--", "echo", "ran"]).output();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(124), &b""[..]), "{said}");
    assert!(said.contains("no token of second: refused: denied"), "{said}");
    let seen: Vec<_> = broker.seen().into_iter().map(|seen| (seen.request, seen.connection)).collect();
    let redeemed = seen.iter().filter(|(request, _)| matches!(request, WorkerRequest::Redeem { .. })).count();
    assert_eq!(redeemed, 2, "the third was not tried");
    assert!(matches!(seen.last(), Some((WorkerRequest::End { .. }, 0))), "{seen:?}");
}

#[test]
fn when_a_token_cannot_be_delivered_every_lease_ends() {
    let broker = FakeBroker::start("several-undelivered", crate::fake_broker::honest(b"a\0b"));
    let output = Launch::several(&broker, &["a", "b"]).args(&["--deliver", "b=env:B", "--", "true"]).output();
    assert_eq!(output.status.code(), Some(125));
    let ended = broker.seen().iter().filter(|seen| matches!(seen.request, WorkerRequest::End { .. })).count();
    assert_eq!(ended, 2);
}

#[test]
fn what_can_be_refused_before_is_refused_before_the_first_grant_is_spent() {
    let broker = FakeBroker::start("several-before", by_name(""));
    for bad in [
        &["--deliver", "memfd"][..],
        &["--deliver", "c=memfd"],
        &["--deliver", "a=env:X", "--deliver", "b=env:X"],
        &["--deliver", "a=stdin", "--deliver", "b=stdin"],
        &["--deliver", "b=file:/proc/none"],
        &["--template", "/etc/passwd:memfd"],
        &["--credential-name", "c"],
    ] {
        let output = Launch::several(&broker, &["a", "b"]).args(bad).args(&["--", "true"]).output();
        assert_eq!(output.status.code(), Some(125), "{bad:?}");
    }
    assert!(broker.seen().is_empty());
}

#[test]
fn an_explanation_ranks_every_form_and_asks_for_nothing() {
    let explain = |words: &[&str]| {
        let forms =
            ["--credential-name", "a", "--credential-name", "b", "--deliver", "a=env:A", "--deliver", "b=memfd"];
        let mut command = crate::launched::as_nobody(env!("CARGO_BIN_EXE_blindferry-launch"));
        let output =
            command.args(["--explain", "--renew"]).args(forms).args(words).args(["--", "true"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = explain(&[]);
    for line in ["as env, by $A\n", "all that the program starts", "as memfd, by $B_FILE\n", "renewed   in place"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let document: serde_json::Value = serde_json::from_str(&explain(&["--json"])).unwrap();
    let deliveries = document["deliveries"].as_array().unwrap();
    let told = |index: usize, what: &str| deliveries[index][what].clone();
    assert_eq!((told(0, "name"), told(0, "form"), told(0, "renewed")), ("a".into(), "env".into(), false.into()));
    assert_eq!((told(1, "variable"), told(1, "renewed")), ("B_FILE".into(), true.into()));
    assert!(deliveries.iter().all(|one| ["readers", "until", "note"].iter().all(|word| one[word].is_string())));
}
