//! Measures functions beside one another in one run: processor time, allocations, instructions.
//!
//! Absolute times are those of a machine and a day; what can be compared is how often one function fits into another. So
//! each round runs all functions, one after the other, and the ratio of two is taken within a round. Time is that of this
//! thread on the processor, which others on the machine disturb less than they disturb the clock.

use std::{alloc::System, env, fmt, hint::black_box, process::Command, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A function to measure.
pub struct Case<'a> {
    name: &'static str,
    base: Option<&'static str>,
    run: Box<dyn Fn() + 'a>,
}

/// What was measured of one function.
#[derive(Clone, Debug)]
struct Row {
    name: &'static str,
    /// Processor time of one call: the median of all rounds.
    time: Duration,
    /// How often the base fits into it, and the base's name: the median of the ratios within each round.
    ratio: Option<(f64, &'static str)>,
    allocations: usize,
    bytes: usize,
    instructions: Option<u64>,
}

impl<'a> Case<'a> {
    /// A function by a name that no other has.
    pub fn new<T>(name: &'static str, run: impl Fn() -> T + 'a) -> Self {
        Self { name, base: None, run: Box::new(move || drop(black_box(run()))) }
    }

    /// The case, before this one in the list, that it is compared with.
    #[must_use]
    pub fn beside(self, base: &'static str) -> Self {
        Self { base: Some(base), ..self }
    }
}

impl fmt::Debug for Case<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// Measures all cases and prints a table in Markdown. With the arguments `--once NAME`, runs one case once, for a profiler.
pub fn main(cases: &[Case<'_>]) {
    let arguments: Vec<String> = env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--once") {
        let wanted = arguments.get(at.saturating_add(1)).map(String::as_str);
        for case in cases.iter().filter(|case| Some(case.name) == wanted) {
            // What is made at the first use is not what a verification costs.
            (case.run)();
            once(case);
        }
        return;
    }
    println!("| verification | µs | a second | ratio | allocations | bytes | thousand instructions |");
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for row in measure(cases) {
        println!("{row}");
    }
}

/// How often a function allocates, growing included. Everything that the process does meanwhile counts.
pub fn allocations<T>(run: impl FnOnce() -> T) -> usize {
    let (change, result) = counted(run);
    drop(result);
    total(change)
}

/// How many bytes more are allocated after a function than before it, in the whole process.
pub fn kept(run: impl FnOnce()) -> usize {
    let (change, ()) = counted(run);
    change.bytes_allocated.saturating_sub(change.bytes_deallocated)
}

fn counted<T>(run: impl FnOnce() -> T) -> (Stats, T) {
    let region = Region::new(ALLOCATOR);
    let result = run();
    (region.change(), result)
}

fn total(change: Stats) -> usize {
    change.allocations.saturating_add(change.reallocations)
}

fn measure(cases: &[Case<'_>]) -> Vec<Row> {
    let batches: Vec<u32> = cases.iter().map(batch).collect();
    let mut times = vec![Vec::new(); cases.len()];
    for _ in 0..ROUNDS {
        for ((case, batch), times) in cases.iter().zip(&batches).zip(&mut times) {
            times.push(timed(case, *batch));
        }
    }
    let row = |(case, own): (&Case<'_>, &Vec<Duration>)| {
        let (change, ()) = counted(|| once(case));
        let base = cases.iter().zip(&times).find(|(one, _)| Some(one.name) == case.base);
        let ratio = base.map(|(base, others)| {
            let ratios = own.iter().zip(others).map(|(own, other)| own.as_secs_f64() / other.as_secs_f64());
            (median(ratios.collect()), base.name)
        });
        Row {
            name: case.name,
            time: Duration::from_secs_f64(median(own.iter().map(Duration::as_secs_f64).collect())),
            ratio,
            allocations: total(change),
            bytes: change.bytes_allocated,
            instructions: instructions(case),
        }
    };
    cases.iter().zip(&times).map(row).collect()
}

/// How many calls take about a round's time.
fn batch(case: &Case<'_>) -> u32 {
    (case.run)();
    let one = timed(case, 3).max(Duration::from_nanos(100));
    let fitting = ROUND.as_nanos().checked_div(one.as_nanos()).unwrap_or(1);
    u32::try_from(fitting).unwrap_or(u32::MAX).max(1)
}

/// The processor time of one call, as the mean of so many.
fn timed(case: &Case<'_>, calls: u32) -> Duration {
    let before = thread_time();
    for _ in 0..calls {
        (case.run)();
    }
    thread_time().saturating_sub(before) / calls
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The one function that a profiler has to look at: see [`instructions`].
#[inline(never)]
fn once(case: &Case<'_>) {
    (case.run)();
}

/// The instructions of one call as callgrind counts them, where it is installed. It emulates a processor that may lack what
/// this one has, so that libraries may choose other code.
fn instructions(case: &Case<'_>) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*blindferry_bench*once*"])
        .arg(env::current_exe().ok()?)
        .args(["--once", case.name])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let (_, collected) = text.split_once("Collected : ")?;
    collected.split_whitespace().next()?.parse().ok()
}

/// The value in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, time, ratio, allocations, bytes, instructions } = self;
        let seconds = time.as_secs_f64();
        let ratio = ratio.map_or_else(|| "-".to_owned(), |(ratio, base)| format!("{ratio:.2} × {base}"));
        let instructions = instructions.map_or_else(|| "-".to_owned(), |count| (count / 1000).to_string());
        let (micros, rate) = (seconds * 1e6, 1.0 / seconds);
        write!(formatter, "| {name} | {micros:.0} | {rate:.0} | {ratio} | {allocations} | {bytes} | {instructions} |")
    }
}

/// How often all cases are run.
const ROUNDS: usize = 31;

/// How long each is run in a round.
const ROUND: Duration = Duration::from_millis(25);
