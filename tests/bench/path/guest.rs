//! What runs on the gateway while it forwards: nothing, what a user would run instead, and the agent.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::programs::{SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use harness::agent::left_attached;
use harness::topology::{INSIDE, OUTSIDE};
use harness::{Gateway, eventually, process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::options::Options;
use crate::packet::for_this_kernel;

const WIRES: [&str; 2] = [OUTSIDE.interface, INSIDE.interface];
/// How long one may take to be there.
const DEADLINE: Duration = Duration::from_secs(60);

/// What runs on the gateway.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// Nothing.
    Nothing,
    /// Programs that only pass the packet, where the agent's would be.
    Empty,
    /// A capture of headers, thrown away.
    Tcpdump,
    /// The agent, with this hook for what comes in.
    Agent(&'static str),
}

/// All of them, the first of which is what the others are compared with.
pub const GUESTS: [(&str, Guest); 5] = [
    ("nothing", Guest::Nothing),
    ("empty programs, XDP and tc", Guest::Empty),
    ("tcpdump -s 96, one interface", Guest::Tcpdump),
    ("fivetuple, XDP and tc", Guest::Agent("xdp")),
    ("fivetuple, tc alone", Guest::Agent("tc")),
];

/// It runs as long as this is held.
pub enum Running {
    /// Nothing.
    Nothing,
    /// Programs in the kernel.
    Programs(#[expect(dead_code, reason = "held only to be dropped, which detaches")] Ebpf),
    /// A process.
    Process(Child),
}

impl Running {
    /// Nanoseconds that its own process was at work so far; of programs in the kernel nothing, as who sends has that time.
    pub fn processor_time(&self) -> Result<u64> {
        let Self::Process(child) = self else { return Ok(0) };
        Ok(process::processor_time(Pid::from_raw(child.id().cast_signed()))?.as_nanos() as u64)
    }
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

/// Starts one, and waits until it is at work.
pub fn start(world: &Gateway, guest: Guest, options: &Options) -> Result<Running> {
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
    let mut object = EbpfLoader::new().load(&for_this_kernel(&fs::read(&options.object)?))?;
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
