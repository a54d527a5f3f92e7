//! Several credentials, and tokens that are renewed, for programs of the starter.

use crate::fake_broker::{Answers, FakeBroker, Seen, parcelled_for};
use crate::fake_vault::{FakeVault, header};
use crate::{below, spawn, starter_with};
use blindferry_proto::identifier::WorkerKey;
use blindferry_proto::local::{WorkerReply, WorkerRequest};
use blindferry_proto::start::MAX_GRANTS;
use blindferry_tests::account::CALLER;
use blindferry_tests::attack::look;
use blindferry_tests::attack_launch::{ATTACKER, Tracer};
use blindferry_tests::missing;
use blindferry_tests::process::{children, eventually, lives, send};
use blindferry_tests::starter::Starter;
use rustix::process::Signal;
use std::collections::HashMap;
use std::io::{BufRead, BufReader};

#[test]
fn each_of_several_credentials_reaches_the_program_in_its_form() {
    let Some((starter, broker)) = starter_with("several", named_tokens(3600)) else { return };
    // More than one packet holds; `secret` is the first.
    let names = ["db:env:DB", "key:memfd", "third:credentials-directory", "fourth", "fifth:env:FIFTH"];
    let credentials = names.iter().flat_map(|name| ["--credential", name]);
    let script = "cat $SECRET_FILE; echo; echo $DB; cat $KEY_FILE; echo; cat $CREDENTIALS_DIRECTORY/third; echo; \
                  cat $FOURTH_FILE; echo; echo $FIFTH";
    let words: Vec<&str> = credentials.chain(["--", "sh", "-c", script]).collect();
    let output = starter.run(&words).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = "secret 1\ndb 1\nkey 1\nthird 1\nfourth 1\nfifth 1\n";
    assert_eq!(told, expected, "{}", String::from_utf8_lossy(&output.stderr));
    let spent = redeemed(&broker);
    let many: Vec<String> = (1..=MAX_GRANTS).map(|number| format!("credential-{number}")).collect();
    let words: Vec<&str> = many.iter().flat_map(|name| ["--credential", name]).chain(["--", "true"]).collect();
    assert!(starter.run(&words[2..]).status().unwrap().success(), "as many as there may be");
    let output = starter.run(&words).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(redeemed(&broker), spent + MAX_GRANTS, "no grant was spent on the one too many");
}

#[test]
fn tokens_are_renewed_beside_a_program_of_the_starter_out_of_reach_of_the_users_others() {
    let Some((mut starter, broker)) = starter_with("renewed", named_tokens(3)) else { return };
    if missing(&["python3"]) {
        return;
    }
    let mut via = spawn(starter.run(&words_of_a_reader()));
    let mut lines = BufReader::new(via.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "secret 1");
    // It is told of the other one too.
    assert_eq!(lines.find(|line| line != "secret 1").unwrap(), "secret 2");
    let (tree, renewer) = with_a_renewer(&starter);
    let [held] = &look(CALLER, &[renewer], &[])[..] else { panic!("one process") };
    assert!(held.surfaces.iter().any(|one| one.surface != "cmdline" && one.bytes > 0), "root reads it");
    let [held] = &look(ATTACKER, &[renewer], &[])[..] else { panic!("one process") };
    assert!(held.surfaces.iter().all(|one| one.surface == "cmdline" || one.bytes == 0), "{held:?}");
    assert!(Tracer::attach(renewer).is_none());
    // The other credential has its own connection and goes on as well.
    let renewals = || broker.seen().iter().filter(|seen| matches!(seen.request, WorkerRequest::Renew { .. })).count();
    eventually("renewals of both", || (renewals() >= 4).then_some(()));
    send(via.id(), Signal::TERM);
    assert_eq!(via.wait().unwrap().code(), Some(7), "it ends as its program does, and waits for nobody else");
    let id = starter.process().id();
    eventually("the end of all", || tree.iter().all(|process| !lives(*process)).then_some(()));
    eventually("the end of the starter's children", || children(id, "").is_empty().then_some(()));
}

#[test]
fn no_renewer_is_left_when_caller_starter_or_keeper_is_killed() {
    for whom in ["caller", "starter", "keeper"] {
        let name = format!("renewer-{whom}");
        let Some((mut starter, _broker)) = starter_with(&name, named_tokens(3600)) else { return };
        if missing(&["python3"]) {
            return;
        }
        let mut via = spawn(starter.run(&words_of_a_reader()));
        let (tree, _) = with_a_renewer(&starter);
        match whom {
            "caller" => via.kill().unwrap(),
            "starter" => starter.process().kill(),
            _ => send(starter.keepers()[0], Signal::KILL),
        }
        via.wait().unwrap();
        eventually("the end of all", || tree.iter().all(|process| !lives(*process)).then_some(()));
    }
}

/// A program that says what it reads, once now and once after each signal, and ends by another.
const READER: &str = "
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])
while True:
    print(open(os.environ['SECRET_FILE']).read(), flush=True)
    if signal.sigwait([signal.SIGUSR1, signal.SIGTERM]) == signal.SIGTERM: sys.exit(7)
";

/// It, with two credentials that are renewed, and told of both.
fn words_of_a_reader() -> Vec<&'static str> {
    let deliver = ["--credential", "db:memfd", "--deliver", "secret=memfd", "--renew", "--renew-signal", "USR1"];
    deliver.into_iter().chain(["--", "python3", "-c", READER]).collect()
}

/// The keeper's descendants, and which of them renews.
fn with_a_renewer(starter: &Starter) -> (Vec<u32>, u32) {
    eventually("a renewer beside the program", || {
        let keeper = *starter.keepers().first()?;
        let tree = below(keeper);
        // The program is a child of the keeper's, and so is the renewer, which is the launcher still.
        let [one] = children(keeper, "blindferry-launch")[..] else { return None };
        (children(keeper, "python3").len() == 1).then_some((tree, one))
    })
}

/// A vault whose tokens say which credential they are of, and how often it was asked for one.
fn named_tokens(life: u64) -> impl FnMut(&Seen) -> Answers + Send + 'static {
    let vault = FakeVault::new();
    let mut leased: HashMap<usize, (WorkerKey, String, usize)> = HashMap::new();
    move |seen| {
        let request = match seen.request {
            WorkerRequest::Redeem { request, key, .. } => {
                let name = String::from_utf8(seen.grant.clone().unwrap()).unwrap();
                leased.insert(seen.connection, (key, name, 0));
                request
            }
            WorkerRequest::Renew { request, .. } => request,
            _ => return vec![(WorkerReply::Done, None)],
        };
        let (key, name, count) = leased.get_mut(&seen.connection).unwrap();
        *count += 1;
        let token = format!("{name} {count}");
        parcelled_for(&vault, &vault.seal(header(request, *key, seen.uid), token.as_bytes()).to_bytes(), life)
    }
}

/// How many grants were spent.
fn redeemed(broker: &FakeBroker) -> usize {
    broker.seen().iter().filter(|seen| matches!(seen.request, WorkerRequest::Redeem { .. })).count()
}
