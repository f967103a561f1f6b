//! `path`: what the agent adds to a packet that a gateway forwards, beside what a user would run instead, and what it
//! leaves of the throughput of real connections ([`throughput`]).
//!
//! Client, gateway and server are namespaces on veth wires. One processor sends ACKs of a thousand established connections
//! as fast as it can and carries each all the way itself, so that its own time, and that of the guest's process, is what
//! all of it takes; the server throws them away and has to have counted every one.

mod guest;
mod throughput;

use std::time::Duration;

use anyhow::{Context as _, Result};
use harness::impair::flags::{ACK, SYN};
use harness::raw::{Frame, RawPort};
use harness::topology::{CLIENT, INSIDE, OUTSIDE, SERVER};
use harness::truth::Nft;
use harness::{Gateway, eventually};

use crate::clock::{pin, processor_time};
use crate::figure::Figure;
use crate::options::Options;
use crate::sample::Sample;
use crate::{Found, table};

use guest::{GUESTS, start};

const FLOWS: u16 = 1_000;
/// Packets of a run.
const PACKETS: usize = 100_000;
const DEADLINE: Duration = Duration::from_secs(60);

/// Measures every guest.
pub fn run(options: &Options) -> Result<Found> {
    let mut found = packets(options)?;
    let more = throughput::measure(options)?;
    found.text += &format!("\n{}", more.text);
    found.figures.extend(more.figures);
    Ok(found)
}

fn packets(options: &Options) -> Result<Found> {
    pin(0)?;
    let world = Gateway::plan().many_cpus().build();
    let witness = Nft::load(
        &world.server,
        "sink",
        "counter came {\n}\nchain input {\n type filter hook input priority 0;\n tcp dport 443 counter name came drop\n}",
    );
    let _deaf = Nft::load(
        &world.client,
        "sink",
        "chain input {\n type filter hook input priority 0;\n tcp sport 443 drop\n}",
    );
    let ports =
        [RawPort::open(&world.client, CLIENT.interface), RawPort::open(&world.server, SERVER.interface)];
    let mut samples = vec![Sample::default(); GUESTS.len()];
    for round in 0..=options.rounds() {
        for ((name, guest), sample) in GUESTS.iter().zip(&mut samples) {
            let running = start(&world, *guest, options).context(*name)?;
            shake_hands(&ports);
            let acks: Vec<Vec<u8>> =
                (0..FLOWS).map(|n| from_client(n).flags(ACK).seq(2).ack(2).build()).collect();
            let before = witness.counter("came").0;
            let began = processor_time() + running.processor_time()?;
            for n in 0..PACKETS {
                ports[0].send(&acks[n % acks.len()]);
            }
            let sent = processor_time();
            let all = before + PACKETS as u64;
            eventually(DEADLINE, "every packet at the server", || witness.counter("came").0 >= all);
            let nanos = (sent + running.processor_time()? - began) as f64 / PACKETS as f64;
            // The first round warms up.
            if round > 0 {
                sample.0.push(nanos);
            }
        }
    }
    Ok(found(&samples))
}

fn found(samples: &[Sample]) -> Found {
    let added = |sample: &Sample| sample.with(&samples[0], |a, b| a - b);
    let tcpdump = added(&samples[2]);
    let (mut rows, mut figures) = (Vec::new(), Vec::new());
    for ((name, _), sample) in GUESTS.iter().zip(samples) {
        let cell = |sample: &Sample| format!("{:.0}", sample.median().unwrap_or_default());
        let (least, most) = sample.spread().unwrap_or_default();
        let share = added(sample).ratio(&tcpdump);
        rows.push(vec![
            (*name).to_owned(),
            String::new(),
            cell(sample),
            format!("{least:.0}..{most:.0}"),
            cell(&added(sample)),
            format!("{:.2}", share.median().unwrap_or_default()),
        ]);
        figures.push(Figure::new(format!("path/{name}"), "ns/packet", sample, Some(&samples[0])));
        figures.push(Figure::new(format!("path/{name}, added"), "ns/packet", &added(sample), Some(&tcpdump)));
    }
    let head = ["on the gateway", "", "ns/packet", "(spread)", "added", "by tcpdump's"];
    Found { text: table::lines(&head, &rows), figures, files: Vec::new() }
}

fn from_client(flow: u16) -> Frame {
    Frame::new((CLIENT.v4, 10_000 + flow), (SERVER.v4, 443)).macs(CLIENT.mac, OUTSIDE.mac).window(500)
}

/// Lets whoever watches see every connection begin; who does not must do the same work.
fn shake_hands([client, server]: &[RawPort; 2]) {
    for flow in 0..FLOWS {
        client.send(&from_client(flow).flags(SYN).seq(1).build());
        let answer = Frame::new((SERVER.v4, 443), (CLIENT.v4, 10_000 + flow)).macs(SERVER.mac, INSIDE.mac);
        server.send(&answer.flags(SYN | ACK).seq(1).ack(2).window(500).build());
        client.send(&from_client(flow).flags(ACK).seq(2).ack(2).build());
    }
}
