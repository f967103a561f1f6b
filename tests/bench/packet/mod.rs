//! `packet`: what a packet costs in the programs that the agent carries, by `BPF_PROG_TEST_RUN`.
//!
//! Beside each: a program that does nothing, one that reads the headers, and the floor, which also looks the flow up
//! in a kernel LRU hash and counts atomically (`agent-ebpf/src/bench/`). A test run repeats one packet, so a driver goes
//! before the program under test and changes the packet; it does the same before each of them, and what it costs before
//! the empty program is taken off: the net figures are those of programs that ran by themselves.
//!
//! After every run of ours the counters are compared with what the case claims ([`measure::check`]), and the tables at
//! the end: a figure cannot come of a program that gave up early.

mod case;
mod cases;
mod measure;
mod ours;
mod pair;
mod report;
mod segment;
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, ensure};
use harness::NetNs;

use self::case::{Case, Flows, Pair, Place};
use self::cases::{SIZES, TOGETHER, ZIPF};
use self::measure::{Overhead, State};
use self::ours::Room;
pub use self::ours::{for_this_kernel, load};
use self::report::Row;
use self::segment::{From, Line, Segment};
use self::world::{Hook, INTERFACES, PROGRAMS, Run, Which, World};
use crate::Found;
use crate::clock;
use crate::options::Options;
use crate::sample::Sample;

/// Packets of a run of an empty program.
const EMPTY: u32 = 200_000;

/// Measures everything.
pub fn run(options: &Options) -> Result<Found> {
    let namespace = NetNs::new("bench");
    for n in 0..INTERFACES {
        namespace.ip(&format!("link add b{n} type veth peer name p{n}"));
    }
    let rows = namespace.run(|| measure(options))?;
    let files = vec![("packet.svg", report::plot(&rows))];
    Ok(Found { text: report::text(&rows), figures: report::figures(&rows), files })
}

/// How far both of a pair have come, with each program.
type States = [[State; 2]; PROGRAMS];

/// How far everything has come.
struct Bench {
    worlds: BTreeMap<Place, World>,
    cases: Vec<(Case, [State; PROGRAMS], Vec<Row>)>,
    /// Without states from where one could not be measured any more.
    pairs: Vec<(Pair, Option<States>, Row)>,
    interfaces: [u32; INTERFACES],
    cpus: Option<[usize; 2]>,
}

fn measure(options: &Options) -> Result<Vec<Row>> {
    let cpus = clock::processors()?;
    let last = *cpus.last().context("there is no processor")?;
    let mut interfaces = [0; INTERFACES];
    for (n, interface) in interfaces.iter_mut().enumerate() {
        *interface = nix::net::if_::if_nametoindex(format!("b{n}").as_str())?;
    }
    let mut bench = Bench {
        worlds: BTreeMap::new(),
        cases: cases::all()
            .into_iter()
            .map(|case| (rows_of(&case), case))
            .map(|(r, c)| (c, <[_; PROGRAMS]>::default(), r))
            .collect(),
        pairs: cases::pairs()
            .into_iter()
            .map(|pair| {
                let row = Row { name: pair.name.to_owned(), hook: "both", ..Row::default() };
                (pair, Some(Default::default()), row)
            })
            .collect(),
        interfaces,
        cpus: (cpus.len() > 1).then(|| [cpus[cpus.len() - 2], last]),
    };
    clock::pin(last)?;
    bench.prepare(options)?;
    // The first round only warms up.
    for round in 0..=options.rounds() {
        eprint!("\rround {round} of {}", options.rounds());
        bench.round(round > 0)?;
    }
    eprintln!();
    bench.finish()?;
    let cases = bench.cases.into_iter().flat_map(|(_, _, rows)| rows);
    Ok(cases
        .chain(bench.pairs.into_iter().map(|(_, _, row)| row))
        .filter(|row| !row.net[0].0.is_empty())
        .collect())
}

/// A row for the whole, and one for each step where there are several.
fn rows_of(case: &Case) -> Vec<Row> {
    let driven = case.is_driven().then(<[Sample; PROGRAMS]>::default);
    let row = |name: String, hook| Row { name, hook, driven: driven.clone(), ..Row::default() };
    if let [step] = case.steps.as_slice() {
        return vec![row(case.name.to_owned(), case.hook(&step.segment).name())];
    }
    let step =
        |step: &case::Step| row(format!("{}: {}", case.name, step.label), case.hook(&step.segment).name());
    std::iter::once(row(case.name.to_owned(), "both")).chain(case.steps.iter().map(step)).collect()
}

fn room(place: Place) -> Room {
    let [_, many, million] = SIZES;
    let flows = match place {
        Place::Small | Place::Fresh | Place::Full => 65_536,
        Place::Many => many.next_power_of_two(),
        Place::Million => million.next_power_of_two(),
    };
    Room { flows, half_open: 16_384 }
}

/// The agent's kernel object of another build.
fn other_build(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Numbers of flows, uniform and Zipf-like (the flow of rank r as often as 1/r), both without any order.
fn list(flows: u32) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut list: Vec<u32> = (0..ZIPF).map(|_| random.u32(0..flows)).collect();
    let mut ranked: Vec<u32> = (0..flows).collect();
    random.shuffle(&mut ranked);
    let sums: Vec<f64> = (1..=flows)
        .scan(0.0, |sum, rank| {
            *sum += 1.0 / f64::from(rank);
            Some(*sum)
        })
        .collect();
    let all = sums.last().copied().unwrap_or(0.0);
    list.extend((0..ZIPF).map(|_| {
        let drawn = random.f64() * all;
        let at = sums.partition_point(|sum| *sum < drawn);
        ranked[at.min(ranked.len() - 1)]
    }));
    list
}

impl Bench {
    fn prepare(&mut self, options: &Options) -> Result<()> {
        let against = options.against.as_deref().map(other_build).transpose()?;
        for place in [Place::Small, Place::Many, Place::Million, Place::Fresh, Place::Full] {
            let mut world = World::load(&options.object, against.as_deref(), room(place))?;
            match place {
                Place::Small => world.list(&list(SIZES[0]))?,
                Place::Many => world.list(&list(SIZES[1]))?,
                Place::Million => world.list(&list(SIZES[2]))?,
                Place::Fresh => {}
                Place::Full => fill(&mut world)?,
            }
            let pairs = self.pairs.iter().flat_map(|(pair, ..)| &pair.cases);
            for case in
                self.cases.iter().map(|(case, ..)| case).chain(pairs).filter(|case| case.place == place)
            {
                measure::prepare(case, &mut world).context(case.name)?;
            }
            self.worlds.insert(place, world);
        }
        self.entries()
    }

    /// Whether the flows are all there, in tables that are not emptied.
    fn entries(&self) -> Result<()> {
        for (place, world) in &self.worlds {
            let pairs = self.pairs.iter().flat_map(|(pair, ..)| &pair.cases);
            let here =
                self.cases.iter().map(|(case, ..)| case).chain(pairs).filter(|case| case.place == *place);
            let mut want: usize = here.map(|case| case.open as usize).sum();
            let again = |case: &Case| case.place == *place && case.flows == Flows::Lockstep { new: false };
            if self.cases.iter().any(|(case, states, _)| again(case) && states[Which::Ours as usize].runs > 0)
            {
                want += TOGETHER as usize;
            }
            if *place == Place::Full {
                want = room(*place).flows as usize;
            }
            for which in world.agents() {
                let (flows, half_open) = world.entries(which)?;
                ensure!(flows == want, "{place:?}: {flows} flows in the table, of {want}");
                ensure!(*place == Place::Full || half_open == 0, "{place:?}: {half_open} half-open flows");
            }
        }
        Ok(())
    }

    fn round(&mut self, counts: bool) -> Result<()> {
        for (place, world) in &mut self.worlds {
            world.attach(&self.interfaces)?;
            let overhead = measure::overhead(world)?;
            let empty = empties(world, overhead)?;
            for (case, states, rows) in self.cases.iter_mut().filter(|(case, ..)| case.place == *place) {
                let nanos = measure::case(case, states, world, overhead)?;
                if counts {
                    let of_step = |step: &case::Step| empty[case.hook(&step.segment) as usize];
                    record(rows, &nanos, &case.steps.iter().map(of_step).collect::<Vec<_>>());
                }
            }
            for (pair, states, row) in
                self.pairs.iter_mut().filter(|(pair, ..)| pair.cases[0].place == *place)
            {
                let (Some(cpus), Some(of)) = (self.cpus, states.as_mut()) else { continue };
                let mut nanos = Vec::new();
                for which in world.programs() {
                    let of = &mut of[which as usize];
                    nanos.extend(pair::pair(pair, which, of, world, overhead, cpus)?.map(|n| vec![n]));
                }
                if nanos.len() < world.programs().count() {
                    *states = None;
                } else if counts {
                    let both = pair.cases.iter().map(|c| empty[c.hook(&c.steps[0].segment) as usize]);
                    if pair.cases[0].is_driven() {
                        row.driven.get_or_insert_default();
                    }
                    record(std::slice::from_mut(row), &nanos, &[both.sum::<f64>() / 2.0]);
                }
            }
            world.detach()?;
        }
        Ok(())
    }

    /// Whether all was as it should be until the end.
    fn finish(&self) -> Result<()> {
        self.entries()?;
        for (place, world) in &self.worlds {
            let (entries, packets) = world.floor()?;
            let given = world.floored.load(Ordering::Relaxed);
            match place {
                Place::Small => {
                    ensure!(packets == given, "the floor counted {packets} of {given} packets");
                }
                Place::Many | Place::Million => {
                    let want = SIZES[if *place == Place::Many { 1 } else { 2 }] as usize;
                    ensure!(
                        entries <= want && entries >= want / 100 * 99,
                        "the floor has {entries} of {want} flows"
                    );
                }
                Place::Full | Place::Fresh => {}
            }
        }
        Ok(())
    }
}

/// What an empty program costs by itself, at each hook.
fn empties(world: &World, overhead: Overhead) -> Result<[f64; 2]> {
    let packet = Segment::new(From::Client).bytes(Line::default(), 0, true);
    let mut of = [0.0; 2];
    for (of, hook) in of.iter_mut().zip([Hook::Xdp, Hook::Tc]) {
        let run = Run { hook, which: Which::Empty, packet: &packet, plan: None, repeat: EMPTY };
        *of = world.run(&run)?.saturating_sub(overhead[hook as usize]) as f64 / f64::from(EMPTY);
    }
    Ok(of)
}

/// Takes one round into the rows: `nanos` by program and step, and what an empty program costs where each step is.
fn record(rows: &mut [Row], nanos: &[Vec<f64>], empty: &[f64]) {
    let mean = |each: &dyn Fn(usize) -> f64| (0..empty.len()).map(each).sum::<f64>() / empty.len() as f64;
    for (at, row) in rows.iter_mut().enumerate() {
        let of = |each: &dyn Fn(usize) -> f64| if at == 0 { mean(each) } else { each(at - 1) };
        for which in (0..nanos.len()).filter(|which| !nanos[*which].is_empty()) {
            let raw = of(&|step| nanos[which][step]);
            if let Some(driven) = &mut row.driven {
                driven[which].0.push(raw);
                row.net[which].0.push(raw - of(&|step| nanos[0][step] - empty[step]));
            } else {
                row.net[which].0.push(raw);
            }
        }
    }
}

/// Connections until no more fit in, and as many for the floor.
fn fill(world: &mut World) -> Result<()> {
    let template = cases::all().into_iter().find(|case| case.place == Place::Full && case.steps.len() > 1);
    let mut case = template.context("there is a case with full tables")?;
    case.line.number = 230;
    let mut states = <[State; PROGRAMS]>::default();
    let mut before = None;
    loop {
        for which in world.agents().chain([Which::Floor]) {
            measure::lockstep(&case, which, &mut states[which as usize], world, [0; 2])?;
        }
        let now = world.entries(Which::Ours)?;
        if before == Some(now) {
            return world.agents().try_for_each(|which| world.agent(which).say_full());
        }
        before = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_part_is_taken_off() {
        let mut rows = vec![Row { driven: Some(Default::default()), ..Row::default() }];
        record(&mut rows, &[vec![15.0], vec![16.0], vec![40.0], vec![65.0]], &[8.0]);
        let of = |samples: &[Sample; PROGRAMS]| samples[..4].iter().map(|s| s.0[0]).collect::<Vec<_>>();
        assert_eq!(of(&rows[0].net), [8.0, 9.0, 33.0, 58.0]);
        assert_eq!(of(rows[0].driven.as_ref().unwrap()), [15.0, 16.0, 40.0, 65.0]);
    }

    #[test]
    fn a_whole_is_the_mean_of_its_steps() {
        let mut rows = vec![Row::default(), Row::default(), Row::default()];
        record(&mut rows, &[vec![1.0, 3.0], vec![2.0, 4.0], vec![3.0, 5.0], vec![10.0, 20.0]], &[0.0, 0.0]);
        let ours: Vec<_> = rows.iter().map(|row| row.net[3].0[0]).collect();
        assert_eq!(ours, [15.0, 10.0, 20.0]);
    }

    #[test]
    fn flows_of_low_rank_are_often_met() {
        let list = list(1_000);
        let most = |part: &[u32]| {
            let mut counts = [0u32; 1_000];
            part.iter().for_each(|flow| counts[*flow as usize] += 1);
            counts.into_iter().max().unwrap_or(0)
        };
        let (uniform, zipf) = list.split_at(ZIPF as usize);
        assert_eq!(uniform.len(), zipf.len());
        // 1 of 1,000, and 1 of their harmonic sum, 7.49.
        assert!(most(uniform) < ZIPF / 800 && most(zipf) > ZIPF / 9, "{} {}", most(uniform), most(zipf));
    }
}
