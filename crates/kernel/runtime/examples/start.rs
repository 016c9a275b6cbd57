//! Where the time of a container's start goes: launches `true` in a container like Docker's, with a
//! network namespace that was made before, and prints the least, the median and the
//! 90th percentile of each step in microseconds.
//!
//! `cargo run -p dhow-runtime --example start -- [TIMES] [new]`; with `new` each makes its own network.

#[path = "../tests/stage/mod.rs"]
mod stage;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;

use dhow_sys::namespace::{Namespaces, unshare};
use serde_json::json;
use stage::Stage;

#[allow(clippy::unwrap_used)]
fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let times: usize = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(50);
    let mut pool: Vec<OwnedFd> = Vec::new();
    if !arguments.iter().any(|argument| argument == "new") {
        pool.extend((0..times).map(|_| network()));
    }
    let mut steps: BTreeMap<usize, (String, Vec<u64>)> = BTreeMap::new();
    let mut totals = Vec::new();
    for _ in 0..times {
        let mut stage = Stage::new("").set("/process/args", json!(["/bin/true"]));
        stage.netns = pool.pop();
        let running = stage.start();
        stage::wait(&running);
        let mut before = running.trace[0].1;
        for (place, (step, at)) in running.trace.iter().enumerate() {
            let (_, samples) = steps.entry(place).or_insert_with(|| (step.clone(), Vec::new()));
            samples.push(at.saturating_sub(before));
            before = *at;
        }
        totals.push(before - running.trace[0].1);
    }
    for (step, samples) in steps.values_mut() {
        print(step, samples);
    }
    print("total", &mut totals);
}

/// The least, the median and the 90th percentile, in microseconds.
fn print(step: &str, samples: &mut [u64]) {
    samples.sort_unstable();
    let at =
        |percent: usize| samples.get(samples.len() * percent / 100).copied().unwrap_or(0) / 1000;
    println!("{step:>12} {:>7} {:>7} {:>7}", at(0), at(50), at(90));
}

/// A network namespace, made by a thread that ends.
#[allow(clippy::unwrap_used)]
fn network() -> OwnedFd {
    let make = || {
        unshare(Namespaces::NETWORK).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    };
    std::thread::spawn(make).join().unwrap().into()
}
