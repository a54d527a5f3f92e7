//! Crossings over an established session, by 1, 8 and 64 workers at once, beside wrapping and unwrapping by OpenBao.

use crate::Extent;
use crate::bao::{Bao, Storage};
use crate::figure::Figure;
use crate::ground::Ground;
use crate::load::Load;
use crate::process::time_of;
use std::time::Duration;

/// A load and the processor time of whoever served it, in milliseconds a crossing.
pub(crate) struct Served {
    load: Load,
    processor: Vec<(&'static str, f64)>,
}

impl Served {
    fn during(processes: &[(&'static str, u32)], load: impl FnOnce() -> Load) -> Self {
        let times = || processes.iter().map(|(_, id)| time_of(&[*id])).collect::<Vec<Duration>>();
        let before = times();
        let load = load();
        // Those that warmed up are not in the count, one for each worker: a part in a thousand.
        let used = times().into_iter().zip(before).map(|(after, before)| (after - before).as_secs_f64());
        let each = used.map(|used| used * 1000.0 / load.count());
        let processor = processes.iter().map(|(name, _)| *name).zip(each).collect();
        Self { load, processor }
    }

    pub(crate) fn whole(&self) -> f64 {
        self.processor.iter().map(|(_, each)| each).sum()
    }

    /// Of one process.
    pub(crate) fn of(&self, process: &str) -> f64 {
        self.processor.iter().filter(|(name, _)| *name == process).map(|(_, each)| each).sum()
    }
}

/// Crossings by so many workers.
pub(crate) fn served(ground: &Ground, processes: &[(&'static str, u32)], workers: usize, time: Duration) -> Served {
    Served::during(processes, || {
        Load::run(workers, time, |_| {
            let mut parent = ground.parent();
            move || ground.cross_and_end(&mut parent)
        })
    })
}

pub(crate) fn section(extent: Extent) -> Vec<Figure> {
    let Some(mut ground) = Ground::start() else { return Vec::new() };
    let peers: Vec<Bao> = [Storage::Memory, Storage::Disk].into_iter().filter_map(Bao::start).collect();
    let processes = ground.processes();
    let time = extent.of(Duration::from_secs(8), Duration::from_secs(2));
    let mut figures = Vec::new();
    for workers in [1, 8, 64] {
        let ours = served(&ground, &processes, workers, time);
        let theirs: Vec<Served> = peers
            .iter()
            .map(|bao| {
                Served::during(&[("server", bao.id())], || {
                    Load::run(workers, time, |_| {
                        let mut client = bao.client();
                        move || client.wrap_and_unwrap()
                    })
                })
            })
            .collect();
        let named = if workers == 1 { "1 worker".to_owned() } else { format!("{workers} workers") };
        let mut beside = |what: &str, unit, value: &dyn Fn(&Served) -> f64| {
            let name = format!("crossing, {named}: {what}");
            let figure = Figure::new(name, value(&ours), unit);
            if theirs.is_empty() {
                figures.push(figure.clone());
            }
            for (bao, served) in peers.iter().zip(&theirs) {
                figures.push(figure.clone().beside(bao.name(), value(served)));
            }
        };
        beside("p50", "ms", &|served| served.load.of_thousand(500));
        beside("p99", "ms", &|served| served.load.of_thousand(990));
        beside("throughput", "a second", &|served| served.load.rate());
        beside("processor, vault + front + broker", "ms", &Served::whole);
        for (process, each) in &ours.processor {
            figures.push(Figure::new(format!("crossing, {named}: processor, {process}"), *each, "ms"));
        }
    }
    figures
}
