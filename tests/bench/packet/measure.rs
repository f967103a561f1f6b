//! Running a case, and looking whether what came of it is what it says.

use agent_ebpf::anomaly::Anomaly;
use agent_ebpf::counter::Series as _;
use agent_ebpf::drive::{ROW, ROWS};
use agent_ebpf::health::{Health, Kind};
use agent_ebpf::traffic::Traffic;
use anyhow::{Context as _, Result, bail, ensure};

use super::case::{Case, Flows, Place, Step};
use super::cases::{self, ZIPF};
use super::ours::Counts;
use super::segment::{From, Segment, grow};
use super::world::{Hook, PROGRAMS, Run, Which, World};

/// Most half-open flows at once while connections are made.
const BLOCK: u32 = 8_192;

/// How far a case has come with one program.
#[derive(Clone, Copy, Debug, Default)]
pub struct State {
    /// Packets of each step, or places of the list.
    pub done: u32,
    /// Runs.
    pub runs: u32,
}

/// What a test run costs that has next to nothing to run, by hook.
pub type Overhead = [u64; 2];

/// The nanoseconds of a call itself, at each hook.
pub fn overhead(world: &World) -> Result<Overhead> {
    let packet = Segment::new(From::Client).bytes(super::segment::Line::default(), 0, true);
    let mut of = [0; 2];
    for (of, hook) in of.iter_mut().zip([Hook::Xdp, Hook::Tc]) {
        let run = Run { hook, which: Which::Empty, packet: &packet, plan: None, repeat: 2 };
        let mut times = (0..9).map(|_| world.run(&run)).collect::<Result<Vec<_>>>()?;
        times.sort_unstable();
        *of = times[times.len() / 2];
    }
    Ok(of)
}

/// Runs `repeat` packets of one step and returns nanoseconds a packet.
pub fn step(
    (case, step): (&Case, &Step),
    which: Which,
    state: State,
    repeat: u32,
    world: &World,
    overhead: Overhead,
) -> Result<f64> {
    let as_client = !which.is_agent();
    // Connections of another run have other numbers, or they would be the same ones again.
    let epoch = if matches!(case.flows, Flows::Lockstep { .. }) { state.runs } else { 0 };
    let mut packet = step.segment.bytes(case.line, epoch, as_client);
    let first = match case.flows {
        Flows::One => 0,
        Flows::Listed(list) => list + state.done,
        Flows::Lockstep { new } => {
            if new {
                state.done
            } else {
                0
            }
        }
    };
    let plan = case.is_driven().then(|| case.plan(step, case.flows, first, as_client));
    if let Some(plan) = &plan
        && case.flows == Flows::One
    {
        grow(&mut packet, &plan.adds[..plan.count as usize], state.done);
    }
    let hook = case.hook(&step.segment);
    let nanos = world.run(&Run { hook, which, packet: &packet, plan, repeat })?;
    Ok(nanos.saturating_sub(overhead[hook as usize]) as f64 / f64::from(repeat))
}

/// Makes the case's connections, and what has to come before it. The floor counts as if it had seen the clients'.
pub fn prepare(case: &Case, world: &mut World) -> Result<()> {
    let lockstep = Flows::Lockstep { new: true };
    for first in (0..case.open).step_by(BLOCK as usize) {
        let block = BLOCK.min(case.open - first);
        for step in cases::short().iter().take(3) {
            let hook = case.hook(&step.segment);
            let packet = step.segment.bytes(case.line, 0, false);
            for which in world.agents() {
                let plan = Some(case.plan(step, lockstep, first, false));
                world.run(&Run { hook, which, packet: &packet, plan, repeat: block })?;
            }
        }
        let ack = Step { label: "", segment: Segment::new(From::Client), adds: Vec::new() };
        let packet = ack.segment.bytes(case.line, 0, true);
        let plan = Some(case.plan(&ack, lockstep, first, true));
        world.run(&Run { hook: Hook::Xdp, which: Which::Floor, packet: &packet, plan, repeat: block })?;
    }
    for which in world.agents() {
        for segment in &case.before {
            once(case, segment, which, world)?;
        }
        world.agent(which).drain();
    }
    Ok(())
}

/// One packet of flow 0 through the agent's program.
fn once(case: &Case, segment: &Segment, which: Which, world: &World) -> Result<()> {
    let packet = segment.bytes(case.line, 0, false);
    let hook = case.hook(segment);
    world.run(&Run { hook, which, packet: &packet, plan: None, repeat: 1 }).map(drop)
}

/// The other side acknowledges all that the case has sent so far.
pub fn acknowledge(case: &Case, state: State, which: Which, world: &World) -> Result<()> {
    if !case.acknowledged {
        return Ok(());
    }
    let sent = &case.steps[0].segment;
    let from = if sent.from == From::Client { From::Server } else { From::Client };
    let next = sent.seq.wrapping_add(sent.payload).wrapping_add(sent.payload.wrapping_mul(state.done));
    let ack = Segment { ack: next, clock: sent.clock, ..Segment::new(from) };
    once(case, &ack, which, world)
}

/// Runs of one flow are cut in so many parts, so that the programs take turns more often than a machine changes its mind.
const PARTS: u32 = 4;

/// One round of a case: nanoseconds a packet, by program and step.
pub fn case(
    case: &Case,
    states: &mut [State; PROGRAMS],
    world: &mut World,
    overhead: Overhead,
) -> Result<[Vec<f64>; PROGRAMS]> {
    let mut nanos = <[Vec<f64>; PROGRAMS]>::default();
    let parts = if case.flows == Flows::One { PARTS } else { 1 };
    for _ in 0..parts {
        for which in world.programs() {
            let state = &mut states[which as usize];
            let sums = &mut nanos[which as usize];
            let part = if matches!(case.flows, Flows::Lockstep { .. }) {
                lockstep(case, which, state, world, overhead)
            } else {
                steady(case, which, state, world, overhead, case.repeat / parts).map(|n| vec![n])
            };
            let part = part.with_context(|| format!("{}, {}", case.name, which.name()))?;
            sums.resize(part.len(), 0.0);
            sums.iter_mut().zip(part).for_each(|(sum, n)| *sum += n / f64::from(parts));
        }
    }
    Ok(nanos)
}

/// One kind of packet, over and over.
fn steady(
    case: &Case,
    which: Which,
    state: &mut State,
    world: &mut World,
    overhead: Overhead,
    repeat: u32,
) -> Result<f64> {
    let mut nanos = 0.0;
    // Caches first: the program before this one left its own things there.
    for repeat in [if case.flows == Flows::One { repeat / 8 } else { repeat / 2 }, repeat] {
        if let Flows::Listed(list) = case.flows {
            let end = if list < ZIPF { ZIPF } else { ROW * ROWS };
            state.done = if list + state.done + repeat > end { 0 } else { state.done };
        }
        if which.is_agent() {
            acknowledge(case, *state, which, world)?;
        }
        let before = world.counts(which)?;
        nanos = step((case, &case.steps[0]), which, *state, repeat, world, overhead)?;
        state.done += repeat;
        if which.is_agent() {
            check(case, which, world, &before, repeat, u64::from(repeat))?;
        }
    }
    state.runs += 1;
    Ok(nanos)
}

/// Connections side by side, a step of all after the other.
pub fn lockstep(
    case: &Case,
    which: Which,
    state: &mut State,
    world: &mut World,
    overhead: Overhead,
) -> Result<Vec<f64>> {
    let before = world.counts(which)?;
    let each = |one| step((case, one), which, *state, case.repeat, world, overhead);
    let nanos = case.steps.iter().map(each).collect::<Result<Vec<_>>>()?;
    let packets = u64::from(case.repeat) * case.steps.len() as u64;
    // The first of those that come again are new ones.
    let first = state.runs == 0 && case.flows == Flows::Lockstep { new: false };
    match which {
        Which::Ours | Which::Against if first => drop(world.agent(which).drain()),
        Which::Ours | Which::Against => check(case, which, world, &before, case.repeat, packets)?,
        _ => {}
    }
    match (case.place, which) {
        (Place::Fresh, Which::Ours | Which::Against) => {
            let (flows, half_open) = world.entries(which)?;
            let of = |part: f64| (part * f64::from(case.repeat)) as usize;
            let claim = (of(case.claim.entries.0), of(case.claim.entries.1));
            ensure!((flows, half_open) == claim, "{flows} flows and {half_open} half-open ones are there");
            world.agent(which).clear()?;
        }
        (Place::Fresh, Which::Floor) => {
            let (entries, counted) = world.floor()?;
            ensure!(entries == case.repeat as usize, "{entries} flows are there");
            ensure!(counted == packets, "{counted} of {packets} packets were counted");
            world.clear_floor()?;
        }
        _ => {}
    }
    state.done += case.repeat;
    state.runs += 1;
    Ok(nanos)
}

/// Whether the agent's program did what the case says, and nothing else, with `packets`, of which `base` are one step's.
pub fn check(
    case: &Case,
    which: Which,
    world: &mut World,
    before: &Counts,
    base: u32,
    packets: u64,
) -> Result<()> {
    let records = world.agent(which).drain() as u64;
    let now = world.counts(which)?.since(before);
    let share = |part: f64| (part * f64::from(base)).round() as u64;
    for health in Health::ALL.iter().copied() {
        let want = match health.kind() {
            Kind::Seen | Kind::Counted => packets,
            Kind::Ring if health == Health::RingSubmitted => records,
            Kind::Short if case.place == Place::Full => continue,
            _ => 0,
        };
        let got = now.health(health);
        ensure!(got == want, "{} is {got}, and {want} was to be expected", health.name());
    }
    for anomaly in Anomaly::ALL.iter().copied() {
        let claim = case.claim.anomalies.iter().find(|(claimed, _)| *claimed == anomaly);
        let (want, got) = (claim.map_or(0, |(_, part)| share(*part)), now.anomaly(anomaly));
        if got != want {
            bail!("{} are {got}, and {want} were to be expected", anomaly.series());
        }
    }
    if case.place == Place::Full {
        return Ok(());
    }
    for row in [Traffic::Opened, Traffic::Established, Traffic::Closed] {
        let claim = case.claim.traffic.iter().find(|(claimed, _)| *claimed == row);
        let (want, got) = (claim.map_or(0, |(_, part)| share(*part)), now.traffic(row));
        ensure!(got == want, "{} are {got}, and {want} were to be expected", row.series());
    }
    Ok(())
}
