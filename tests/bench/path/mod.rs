//! `path`: what the agent adds to a packet that a gateway forwards, beside what a user would run instead.
//!
//! Client, gateway and server are namespaces on veth wires. One processor sends ACKs of a thousand established connections
//! as fast as it can and carries each all the way itself; the server throws them away and has to have counted every one.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::programs::{SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use harness::agent::left_attached;
use harness::impair::flags::{ACK, SYN};
use harness::raw::{Frame, RawPort};
use harness::topology::{CLIENT, INSIDE, OUTSIDE, SERVER};
use harness::truth::Nft;
use harness::{Gateway, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock::pin;
use crate::figure::Figure;
use crate::options::Options;
use crate::sample::Sample;
use crate::{Found, table};

const FLOWS: u16 = 1_000;
/// Packets of a run.
const PACKETS: usize = 100_000;
const DEADLINE: Duration = Duration::from_secs(60);
const WIRES: [&str; 2] = [OUTSIDE.interface, INSIDE.interface];

/// What runs on the gateway.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guest {
    Nothing,
    Empty,
    Tcpdump,
    Agent(&'static str),
}

const GUESTS: [(&str, Guest); 5] = [
    ("nothing", Guest::Nothing),
    ("empty programs, XDP and tc", Guest::Empty),
    ("tcpdump -s 96, one interface", Guest::Tcpdump),
    ("fivetuple, XDP and tc", Guest::Agent("xdp")),
    ("fivetuple, tc alone", Guest::Agent("tc")),
];

/// It runs as long as this is held.
enum Running {
    Nothing,
    Programs(#[expect(dead_code, reason = "held only to be dropped, which detaches")] Ebpf),
    Process(Child),
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Self::Process(child) = self {
            // It ends by itself then; one that does not is no guest.
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
            let _ = child.wait();
        }
    }
}

/// Measures every guest.
pub fn run(options: &Options) -> Result<Found> {
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
    for round in 0..=options.rounds {
        for ((name, guest), sample) in GUESTS.iter().zip(&mut samples) {
            let _running = start(&world, *guest, options).context(*name)?;
            shake_hands(&ports);
            let acks: Vec<Vec<u8>> =
                (0..FLOWS).map(|n| from_client(n).flags(ACK).seq(2).ack(2).build()).collect();
            let before = witness.counter("came").0;
            let began = Instant::now();
            for n in 0..PACKETS {
                ports[0].send(&acks[n % acks.len()]);
            }
            let all = before + PACKETS as u64;
            eventually(DEADLINE, "every packet at the server", || witness.counter("came").0 >= all);
            let nanos = began.elapsed().as_nanos() as f64 / PACKETS as f64;
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

fn start(world: &Gateway, guest: Guest, options: &Options) -> Result<Running> {
    Ok(match guest {
        Guest::Nothing => Running::Nothing,
        Guest::Empty => Running::Programs(world.gateway.run(|| attach_empty(options))?),
        Guest::Tcpdump => {
            let mut command = world.gateway.cmd("tcpdump");
            command.args(["-i", OUTSIDE.interface, "-s", "96", "-w", "/dev/null"]);
            let running = Running::Process(spawn(&mut command)?);
            eventually(DEADLINE, "tcpdump to listen", || {
                world.gateway.exec("ss -0 -H -a -p").contains("tcpdump")
            });
            running
        }
        Guest::Agent(ingress) => {
            let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
            let points = WIRES.map(|name| format!("  - name: {name}\n    ingress: {ingress}\n"));
            fs::write(&file, format!("interfaces:\n{}", points.concat()))?;
            let mut command = world.gateway.cmd(options.agent.to_str().context("the path is not UTF-8")?);
            command.arg("run").arg("--config.file").arg(file.path());
            let running = Running::Process(spawn(&mut command)?);
            eventually(DEADLINE, "the agent to attach", || left_attached(&world.gateway).len() == 4);
            running
        }
    })
}

fn spawn(command: &mut Command) -> Result<Child> {
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

/// The yardstick's empty programs where the agent's would be.
fn attach_empty(options: &Options) -> Result<Ebpf> {
    let mut object = EbpfLoader::new().load_file(&options.object)?;
    let program: &mut Xdp = object.program_mut("empty_xdp").context("no empty_xdp")?.try_into()?;
    program.load()?;
    for wire in WIRES {
        program.attach(wire, XdpMode::Driver)?;
    }
    let program: &mut SchedClassifier = object.program_mut("empty_tc").context("no empty_tc")?.try_into()?;
    program.load()?;
    for wire in WIRES {
        program.attach(wire, TcAttachType::Egress)?;
    }
    Ok(object)
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
