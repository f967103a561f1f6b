//! Two processors at the same time.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use agent_ebpf::health::Health;
use anyhow::{Context as _, Result};

use super::case::Pair;
use super::measure::{Overhead, State, check, step};
use super::world::{Which, World};
use crate::clock::pin;

/// Packets of the runs by which the one that is through first keeps the other one company.
const COMPANY: u32 = 2_000;

/// One round of both with one program: nanoseconds a packet, the mean of both. None where one of them waited in vain for the
/// other, from whom its processor was taken away: the flow lacks a segment then, and what comes is not what was to be measured.
pub fn pair(
    pair: &Pair,
    which: Which,
    states: &mut [State; 2],
    world: &mut World,
    overhead: Overhead,
    cpus: [usize; 2],
) -> Result<Option<f64>> {
    let name = || format!("{}, {}", pair.name, which.name());
    let before = world.counts(which)?;
    let start = states.map(|state| state.done);
    let (barrier, through) = (Barrier::new(2), AtomicUsize::new(0));
    let shared = &*world;
    let one = |place: usize, state: &mut State| -> Result<f64> {
        let case = &pair.cases[place];
        let ready = pin(cpus[place]);
        barrier.wait();
        ready?;
        let mut run = |repeat| {
            let nanos = step((case, &case.steps[0]), which, *state, repeat, shared, overhead);
            state.done += repeat;
            nanos
        };
        let nanos = run(case.repeat);
        through.fetch_add(1, Ordering::SeqCst);
        while nanos.is_ok() && through.load(Ordering::SeqCst) < 2 {
            run(COMPANY)?;
        }
        nanos
    };
    let [first, second] = states;
    let (a, b) = thread::scope(|scope| {
        let other = scope.spawn(|| one(1, second));
        let own = scope.spawn(|| one(0, first));
        (own.join(), other.join())
    });
    let (a, b) = (a.expect("it does not panic"), b.expect("it does not panic"));
    let nanos = (a.with_context(name)? + b.with_context(name)?) / 2.0;
    if which.is_agent() {
        let lost = world.counts(which)?.since(&before).health(Health::LostRace);
        if lost > 0 {
            eprintln!("\n{}: {lost} lost races; left out from here on", name());
            world.agent(which).drain();
            return Ok(None);
        }
        let packets: u32 = states.iter().zip(start).map(|(state, start)| state.done - start).sum();
        check(&pair.cases[0], which, world, &before, packets, packets.into()).with_context(name)?;
    }
    Ok(Some(nanos))
}
