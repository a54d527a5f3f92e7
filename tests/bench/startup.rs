//! How much longer does a program take to start and end when the launcher starts it, beside fork and exec, and beside what
//! people use otherwise?
//!
//! ```text
//! cargo build --release -p blindferry-launch
//! cargo run -p blindferry-bench --example startup [-- --json] [--rounds N]
//! ```

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement of what fails measures nothing")]

use crate::case::{Case, Programs};
use crate::fake_broker::{FakeBroker, honest};
use blindferry_handle::memfd::Handle;
use blindferry_worker::Worker;
use std::env;
use std::time::{Duration, Instant};

#[path = "startup/case.rs"]
mod case;
#[path = "../../host/worker/tests/worker/fake_broker.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod fake_broker;
#[path = "../../host/worker/tests/worker/fake_vault.rs"]
mod fake_vault;

/// What is compared: one figure beside another, both in milliseconds, medians over all rounds. Beside them the least of all
/// rounds, which others on the machine disturb least; and the median of the ratios within each round.
struct Figure {
    name: String,
    value: f64,
    least: f64,
    peer: String,
    peer_value: f64,
    peer_least: f64,
    ratio: f64,
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let rounds = arguments.iter().position(|word| word == "--rounds").and_then(|at| arguments.get(at + 1));
    let rounds = rounds.map_or(ROUNDS, |number| number.parse().unwrap());
    let broker = FakeBroker::start("startup", honest(b"a token that nobody uses"));
    let programs = Programs::make(&broker.path());
    let figures = measure(&programs, &broker, rounds);
    if arguments.iter().any(|word| word == "--json") {
        let objects = figures.iter().map(|figure| {
            let Figure { name, value, least, peer, peer_value, peer_least, ratio } = figure;
            serde_json::json!({
                "name": name, "value": value, "unit": "ms", "peer": peer, "peer_value": peer_value, "ratio": ratio,
                "least": least, "peer_least": peer_least,
            })
        });
        println!("{}", serde_json::to_string_pretty(&objects.collect::<Vec<_>>()).unwrap());
        return;
    }
    println!("| start-up | ms | beside | ms | ratio | more by ms | at least |");
    println!("|---|--:|---|--:|--:|--:|--:|");
    for Figure { name, value, least, peer, peer_value, peer_least, ratio } in figures {
        let (more, at_least) = (value - peer_value, least - peer_least);
        println!("| {name} | {value:.1} | {peer} | {peer_value:.1} | {ratio:.2} | {more:.1} | {at_least:.1} |");
    }
}

/// Runs every case once in each round, so that whatever else the machine does falls on all of them.
fn measure(programs: &Programs, broker: &FakeBroker, rounds: usize) -> Vec<Figure> {
    let cases = programs.cases();
    let mut times = vec![Vec::with_capacity(rounds); cases.len()];
    let mut redemptions = Vec::with_capacity(rounds);
    for round in 0..=rounds {
        let redemption = redeem(broker);
        let taken: Vec<Duration> = cases.iter().map(Case::run).collect();
        // The first round fills caches.
        if round > 0 {
            redemptions.push(redemption);
            times.iter_mut().zip(taken).for_each(|(times, taken)| times.push(taken));
        }
    }
    let of = |name: &str| cases.iter().zip(&times).find(|(case, _)| case.name == name).map(|(_, times)| times).unwrap();
    let figure = |name: &str, own: &[Duration], peer: &str, others: &[Duration]| Figure {
        name: name.to_owned(),
        value: median(milliseconds(own)),
        least: least(milliseconds(own)),
        peer: peer.to_owned(),
        peer_value: median(milliseconds(others)),
        peer_least: least(milliseconds(others)),
        ratio: median(own.iter().zip(others).map(|(own, other)| own.as_secs_f64() / other.as_secs_f64()).collect()),
    };
    let compared = cases
        .iter()
        .zip(&times)
        .flat_map(|(case, own)| case.beside.iter().map(|peer| figure(&case.name, own, peer, of(peer))));
    let mut figures: Vec<Figure> = compared.collect();
    let first = &cases.first().unwrap().name;
    figures.push(figure(REDEMPTION, &redemptions, first, of(first)));
    figures
}

/// A redemption alone, by a process that runs already: what every launch has in it.
fn redeem(broker: &FakeBroker) -> Duration {
    let grant = Handle::seal("grant", b"opaque grant").unwrap();
    let start = Instant::now();
    let leased = Worker::connect(&broker.path()).unwrap().redeem(grant).unwrap();
    let taken = start.elapsed();
    drop(leased.into_token());
    taken
}

fn milliseconds(times: &[Duration]) -> Vec<f64> {
    times.iter().map(|time| time.as_secs_f64() * 1000.0).collect()
}

fn least(values: Vec<f64>) -> f64 {
    values.into_iter().min_by(f64::total_cmp).unwrap_or(f64::NAN)
}

/// The value in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How often every case is run.
const ROUNDS: usize = 101;
const REDEMPTION: &str = "a redemption alone";
