//! Resident memory of each process: when it has done nothing, and after very many crossings.

use crate::Extent;
use crate::bao::Bao;
use crate::figure::Figure;
use crate::ground::{Ground, Storage};
use crate::load::Load;
use crate::process::resident;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub(crate) fn section(extent: Extent) -> Vec<Figure> {
    let Some(mut ground) = Ground::start() else { return Vec::new() };
    let processes: Vec<_> = ground.processes().into_iter().chain(ground.devices()).collect();
    let now = || processes.iter().map(|(_, id)| resident(*id)).collect::<Vec<f64>>();
    let idle = now();
    let crossings = extent.of(100_000, 4_000);
    cross(&ground, crossings / 2);
    let half = now();
    cross(&ground, crossings / 2);
    let after = now();
    let mut figures = Vec::new();
    for ((((name, _), idle), half), after) in processes.iter().zip(idle).zip(half).zip(after) {
        figures.push(Figure::new(format!("memory, {name}: idle"), idle, "MB"));
        figures.push(Figure::new(format!("memory, {name}: after {} crossings", crossings / 2), half, "MB"));
        figures.push(Figure::new(format!("memory, {name}: after {crossings} crossings"), after, "MB"));
    }
    let ours: f64 = now().iter().sum();
    if let Some(bao) = Bao::start(Storage::Disk) {
        let figure = Figure::new("memory, all processes of enclave and host together", ours, "MB");
        figures.push(figure.beside("OpenBao, idle", resident(bao.id())));
    }
    figures
}

fn cross(ground: &Ground, crossings: u32) {
    let left = AtomicU32::new(crossings);
    Load::run(WORKERS, Duration::ZERO, |_| {
        let (mut parent, left) = (ground.parent(), &left);
        move || {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                ground.cross_and_end(&mut parent);
            }
            Duration::ZERO
        }
    });
}

const WORKERS: usize = 8;
