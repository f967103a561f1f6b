//! `packet`: what one packet costs, beside the yardsticks, in rounds that take all of them in turn.

use std::sync::Barrier;

use agent_ebpf::health::Health;
use agent_ebpf::layout::bench::{Drive, ORDER};
use anyhow::{Result, bail};
use fastrand::Rng;
use harness::impair::flags;
use harness::raw::{Frame, TcpOption};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::kernel::{Hook, Kernel, Target};
use crate::stats::{Figure, Samples};

const ROUNDS: usize = 11;
/// Packets of one run: long enough that the clock does not matter.
const REPEAT: u32 = 200_000;
const HOOKS: [Hook; 2] = [Hook::Xdp, Hook::Tc];

/// Flows of which the packets come, and how they are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flows {
    One,
    Uniform(u32),
    /// The n-th most frequent one with a weight of 1/n.
    Zipf(u32),
}

impl Flows {
    fn count(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Uniform(n) | Self::Zipf(n) => n,
        }
    }

    fn order(self) -> Box<dyn Iterator<Item = u32>> {
        let mut rng = Rng::with_seed(1);
        match self {
            Self::One => Box::new(std::iter::repeat(0)),
            Self::Uniform(n) => Box::new(std::iter::repeat_with(move || rng.u32(..n))),
            Self::Zipf(n) => {
                // By the inverse of the harmonic numbers' logarithm, and shuffled so that neighbours are no neighbours.
                let most = f64::from(n).ln();
                let rank = move || (most * rng.f64()).exp() as u32;
                Box::new(
                    std::iter::repeat_with(rank).map(move |r| r.min(n - 1).wrapping_mul(0x9e37_79b1) % n),
                )
            }
        }
    }
}

/// What is measured.
struct Case {
    name: &'static str,
    packet: Frame,
    v6: bool,
    /// What the sequence number grows by with each packet.
    step: u32,
    flows: Flows,
    /// Nothing about it is an anomaly.
    healthy: bool,
}

fn ends(v6: bool) -> [std::net::SocketAddr; 2] {
    let [a, b] = if v6 { ["[fd00::1]:1024", "[fd00::2]:443"] } else { ["10.128.0.0:1024", "10.9.9.9:443"] };
    [a.parse().expect("an end point"), b.parse().expect("an end point")]
}

fn client(v6: bool) -> Frame {
    let [from, to] = ends(v6);
    Frame::new(from, to).flags(flags::ACK).seq(1_000).ack(2_000).window(500)
}

fn server(v6: bool) -> Frame {
    let [to, from] = ends(v6);
    Frame::new(from, to).flags(flags::ACK).seq(2_000).ack(1_000).window(500)
}

fn timed(frame: Frame) -> Frame {
    frame.option(TcpOption::Nop).option(TcpOption::Nop).option(TcpOption::Timestamps(7, 8))
}

fn cases() -> Vec<Case> {
    let case =
        |name, packet: Frame, step, flows| Case { name, packet, v6: false, step, flows, healthy: true };
    let ack = || timed(client(false));
    let many = |name, flows| case(name, ack(), 0, flows);
    let repeated = timed(client(false)).payload(vec![1; 100]);
    vec![
        case("ack", client(false), 0, Flows::One),
        case("ack-timestamps", ack(), 0, Flows::One),
        case("data", client(false).payload(vec![1; 100]), 100, Flows::One),
        case("data-timestamps", timed(client(false)).payload(vec![1; 100]), 100, Flows::One),
        Case { v6: true, ..case("ack-ipv6", timed(client(true)), 0, Flows::One) },
        many("ack/1k-flows", Flows::Uniform(1_000)),
        many("ack/64k-flows", Flows::Uniform(64_000)),
        many("ack/1m-flows", Flows::Uniform(1_000_000)),
        many("ack/1m-flows-zipf", Flows::Zipf(1_000_000)),
        Case { healthy: false, ..case("retransmission", repeated, 0, Flows::One) },
    ]
}

/// Measures every case at every hook.
pub fn measure(mut show: impl FnMut(Figure)) -> Result<()> {
    stay_on(0)?;
    for hook in HOOKS {
        show(yardstick("empty-yardstick", Target::Empty, hook)?);
        show(yardstick("parse-yardstick", Target::Parse, hook)?);
    }
    for case in cases() {
        for hook in HOOKS {
            show(one(&case, hook)?);
        }
    }
    for (name, same) in [("two-processors/one-flow", true), ("two-processors/two-flows", false)] {
        show(together(name, same)?);
    }
    Ok(())
}

fn one(case: &Case, hook: Hook) -> Result<Figure> {
    let mut kernel = Kernel::load(case.flows.count())?;
    acquaint(&mut kernel, case, hook)?;
    kernel.set_order(case.flows.order())?;
    let mask = if case.flows == Flows::One { 0 } else { ORDER as u32 - 1 };
    let version = if case.v6 { 6 } else { 4 };
    kernel.set_drive(Drive { step: case.step, version, mask, ..Drive::default() })?;
    let mut packet = case.packet.build();
    if case.step > 0 {
        // The driver steps first.
        advance(&mut packet, case, case.step.wrapping_neg());
    }
    let [seen, counted, records] =
        [Health::Seen, Health::Counted, Health::RingSubmitted].map(|what| kernel.health(what));
    let before = (seen?, counted?, records?);
    let mut figure = Figure {
        name: format!("packet/{}/{}", case.name, hook.name()),
        ours: Samples::default(),
        floor: Samples::default(),
    };
    for round in 0..=ROUNDS {
        let empty = kernel.run(hook, Target::Empty, &packet, REPEAT)?;
        let driver = kernel.drive(hook, Target::Empty, &packet, REPEAT)?;
        let floor = kernel.drive(hook, Target::Floor, &packet, REPEAT)?;
        let ours = kernel.drive(hook, Target::Ours, &packet, REPEAT)?;
        if case.step > 0 {
            // The next run goes on where this one ended.
            advance(&mut packet, case, case.step * REPEAT);
        }
        // The first round warms up.
        if round > 0 {
            figure.floor.0.push(floor - driver + empty);
            figure.ours.0.push(ours - driver + empty);
        }
    }
    let packets = u64::from(REPEAT) * (ROUNDS as u64 + 1);
    let [seen, counted, records] =
        [Health::Seen, Health::Counted, Health::RingSubmitted].map(|what| kernel.health(what));
    if (seen? - before.0, counted? - before.1) != (packets, packets) {
        bail!("{}: not every packet was judged", figure.name);
    }
    if (records? == before.2) != case.healthy {
        bail!("{}: anomalies were found where none are, or none where some are", figure.name);
    }
    Ok(figure)
}

/// Moves a packet's sequence number on.
fn advance(packet: &mut [u8], case: &Case, by: u32) {
    let at = if case.v6 { 58 } else { 38 };
    let seq = u32::from_be_bytes(packet[at..at + 4].try_into().expect("four bytes"));
    packet[at..at + 4].copy_from_slice(&seq.wrapping_add(by).to_be_bytes());
}

/// What programs cost that do less: nothing at all, and parsing.
fn yardstick(name: &str, target: Target, hook: Hook) -> Result<Figure> {
    let kernel = Kernel::load(1)?;
    let packet = timed(client(false)).build();
    let mut figure = Figure {
        name: format!("packet/{name}/{}", hook.name()),
        ours: Samples::default(),
        floor: Samples::default(),
    };
    for round in 0..=ROUNDS {
        let (less, floor) =
            (kernel.run(hook, target, &packet, REPEAT)?, kernel.run(hook, Target::Floor, &packet, REPEAT)?);
        if round > 0 {
            figure.ours.0.push(less);
            figure.floor.0.push(floor);
        }
    }
    Ok(figure)
}

/// Lets the programs meet every flow, both sides of it, so that it is established.
fn acquaint(kernel: &mut Kernel, case: &Case, hook: Hook) -> Result<()> {
    let flows = case.flows.count();
    let mask = if flows == 1 { 0 } else { flows.next_power_of_two() - 1 };
    kernel.set_order((0..=mask).map(|place| place % flows))?;
    let (there, back) = (client(case.v6).build(), server(case.v6).build());
    // Few at a time: those that are not confirmed yet have less room.
    let count = (mask + 1).min(8_192);
    for start in (0..=mask).step_by(count as usize) {
        for (target, server, packet) in [(Target::Ours, 0, &there), (Target::Back, 1, &back)] {
            kernel.set_drive(Drive { version: 4, mask, start, server, step: 0 })?;
            kernel.drive(hook, target, packet, count)?;
        }
    }
    kernel.set_drive(Drive { version: 4, mask, ..Drive::default() })?;
    kernel.drive(hook, Target::Floor, &there, mask + 1)?;
    kernel.drive(hook, Target::Ours, &there, mask + 1)?;
    if kernel.health(Health::HalfOpenFull)? + kernel.health(Health::FlowTableFull)? > 0 {
        bail!("the tables have no room for {flows} flows");
    }
    Ok(())
}

/// Keeps this thread on a processor.
fn stay_on(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Two processors at once, with packets of one flow or of one each: the same yardstick in the same way. At tc: each test
/// run of an XDP program changes the kernel's dispatcher first, and two of them do not run at the same time.
fn together(name: &str, same: bool) -> Result<Figure> {
    let mut kernel = Kernel::load(2)?;
    let packets = [0u16, 1].map(|n| {
        let from = std::net::SocketAddr::from(([10, 128, 0, 0], 1_024 + if same { 0 } else { n }));
        timed(Frame::new(from, ends(false)[1]).flags(flags::ACK).seq(1_000).ack(2_000).window(500))
    });
    for n in 0..2u16 {
        let port = 1_024 + if same { 0 } else { n };
        let to = std::net::SocketAddr::from(([10, 128, 0, 0], port));
        let back = Frame::new(ends(false)[1], to).flags(flags::ACK).seq(2_000).ack(1_000).window(500).build();
        kernel.set_drive(Drive::default())?;
        kernel.drive(Hook::Tc, Target::Ours, &packets[usize::from(n)].build(), 1)?;
        kernel.drive(Hook::Tc, Target::Back, &back, 1)?;
    }
    let frames = packets.map(|packet| packet.build());
    let both = |target| -> Result<f64> {
        let start = Barrier::new(2);
        let times = std::thread::scope(|scope| {
            let threads = [0, 1].map(|cpu| {
                let (start, kernel, frame) = (&start, &kernel, &frames[cpu]);
                scope.spawn(move || -> Result<f64> {
                    stay_on(cpu)?;
                    start.wait();
                    kernel.run(Hook::Tc, target, frame, REPEAT)
                })
            });
            threads.map(|thread| thread.join().expect("a thread that measures"))
        });
        let [a, b] = times;
        Ok(f64::midpoint(a?, b?))
    };
    let mut figure =
        Figure { name: format!("packet/{name}/tc"), ours: Samples::default(), floor: Samples::default() };
    for round in 0..=ROUNDS {
        let (floor, ours) = (both(Target::Floor)?, both(Target::Ours)?);
        if round > 0 {
            figure.floor.0.push(floor);
            figure.ours.0.push(ours);
        }
    }
    Ok(figure)
}
