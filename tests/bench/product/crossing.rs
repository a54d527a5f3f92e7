//! Crossings over an established session, by 1, 8 and 64 workers at once, beside wrapping and unwrapping by OpenBao.

use crate::Extent;
use crate::bao::Bao;
use crate::figure::Figure;
use crate::ground::{Ground, Storage};
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

/// Each beside the peer that keeps what it has in the same place.
pub(crate) fn section(extent: Extent) -> Vec<Figure> {
    [Storage::Memory, Storage::Disk].into_iter().flat_map(|storage| kept_in(storage, extent)).collect()
}

fn kept_in(storage: Storage, extent: Extent) -> Vec<Figure> {
    let Some(mut ground) = Ground::start_with(storage, "") else { return Vec::new() };
    let peer = Bao::start(storage);
    let processes = ground.processes();
    let place = match storage {
        Storage::Memory => "store in memory",
        Storage::Disk => "store on disk",
    };
    let time = extent.of(Duration::from_secs(8), Duration::from_secs(2));
    let mut figures = Vec::new();
    for workers in [1, 8, 64] {
        let ours = served(&ground, &processes, workers, time);
        let theirs = peer.as_ref().map(|bao| {
            let served = Served::during(&[("server", bao.id())], || {
                Load::run(workers, time, |_| {
                    let mut client = bao.client();
                    move || client.wrap_and_unwrap()
                })
            });
            (bao.name(), served)
        });
        let plural = if workers == 1 { "" } else { "s" };
        let named = format!("crossing, {place}, {workers} worker{plural}");
        let mut beside = |what: &str, unit, value: &dyn Fn(&Served) -> f64| {
            let figure = Figure::new(format!("{named}: {what}"), value(&ours), unit);
            figures.push(match &theirs {
                Some((name, served)) => figure.beside(name, value(served)),
                None => figure,
            });
        };
        beside("p50", "ms", &|served| served.load.of_thousand(500));
        beside("p99", "ms", &|served| served.load.of_thousand(990));
        beside("throughput", "a second", &|served| served.load.rate());
        beside("processor, vault + front + broker", "ms", &Served::whole);
        for (process, each) in &ours.processor {
            figures.push(Figure::new(format!("{named}: processor, {process}"), *each, "ms"));
        }
    }
    figures
}
