//! What systemd relies on: the agent works as an ordinary user with the unit's capabilities and no more, and tells its
//! service manager when it is ready, reloads, ends, and that the ring is being read.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use harness::agent::{Agent, Launch, binary, left_attached};
use harness::tcp::{self, Serve, Server};
use harness::topology::SERVER;
use harness::{Gateway, NetNs, Pair, eventually};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::foreign::take_off;
use crate::watch::{DEADLINE, eventually_exactly};

const UNIT: &str = include_str!("../../packaging/fivetuple.service");
/// The user `nobody`: as ordinary as it gets.
const NOBODY: u32 = 65_534;
/// What WATCHDOG_USEC says to the agent here: it speaks four times in that time.
const WATCHDOG: Duration = Duration::from_millis(800);

#[test]
fn the_unit_s_capabilities_are_enough() {
    let world = Gateway::new();
    let manager = Manager::listen(&world.gateway);
    let program = readable_by_anyone();
    let agent = Launch::interfaces(&["outside", "inside"]).copy(program.path().join("fivetuple"));
    let mut agent = as_the_unit_says(agent, &manager).spawn(&world.gateway);

    manager.until("STATUS=loading the programs");
    manager.until("READY=1\nSTATUS=watching; points: 2");
    assert!(!left_attached(&world.gateway).is_empty(), "ready means attached");
    agent.eventually_ready();
    has_put_its_rights_aside(&agent);
    // They are enough to put back what others take off.
    let attached = left_attached(&world.gateway);
    assert_eq!(take_off(&world.gateway, "outside"), 2);
    eventually(DEADLINE, "our programs to be put back", || left_attached(&world.gateway) == attached);
    has_put_its_rights_aside(&agent);

    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    tcp::echo(&mut tcp::connect(&world.client, server.address()), 2_000);
    let client = [("svc", "other"), ("from", "client")];
    eventually_exactly(&agent, "payload_bytes_total", &client, &[(&client, 2_000)]);

    agent.signal(Signal::SIGHUP);
    let word = manager.until("RELOADING=1\nMONOTONIC_USEC=");
    assert!(word.rsplit('=').next().is_some_and(|time| time.parse::<u64>().is_ok()), "{word}");
    manager.until("READY=1\n");

    stops_beating_without_its_reader(&agent, &manager);

    agent.signal(Signal::SIGTERM);
    manager.until("STOPPING=1\n");
    let (status, log) = agent.wait();
    assert_eq!(status.code(), Some(0), "{log:?}");
    assert_eq!(left_attached(&world.gateway), Vec::<String>::new());
}

/// The programs are part of it: nobody can put others in their place on a disk. What it was built from is out of sight.
#[test]
fn the_binary_alone_is_enough() {
    let pair = Pair::new();
    let copy = readable_by_anyone();
    let built = binary();
    let hide =
        format!("mount -t tmpfs none {} && exec \"$0\" \"$@\"", built.parent().expect("a folder").display());
    let mut command = pair.left.cmd("unshare");
    command.args(["--mount", "sh", "-c", &hide]).arg(copy.path().join("fivetuple"));
    let output = command.args(["check", "--interface=eth0"]).output().expect("unshare is there");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("the kernel takes the programs"), "{said}");
}

/// The service manager's end of NOTIFY_SOCKET.
struct Manager {
    name: String,
    socket: UnixDatagram,
}

impl Manager {
    /// By an abstract name, which lives in a network namespace and asks nobody for permissions.
    fn listen(namespace: &NetNs) -> Self {
        let name = format!("{}-notify", namespace.name());
        let address = SocketAddr::from_abstract_name(&name).expect("the name is short");
        let socket = namespace.run(|| UnixDatagram::bind_addr(&address)).expect("the name is ours");
        socket.set_read_timeout(Some(WATCHDOG)).expect("a datagram socket can wait");
        Self { name, socket }
    }

    /// The next word, if there is one within the watchdog's time.
    fn word(&self) -> Option<String> {
        let mut buffer = [0; 1024];
        match self.socket.recv(&mut buffer) {
            Ok(length) => Some(String::from_utf8_lossy(&buffer[..length]).into_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("cannot hear the agent: {error}"),
        }
    }

    /// Waits for a word that begins like this. Besides it only the watchdog may be spoken to.
    #[track_caller]
    fn until(&self, beginning: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < deadline, "no word {beginning:?} within {DEADLINE:?}");
            match self.word() {
                Some(word) if word.starts_with(beginning) => return word,
                Some(word) => assert_eq!(word, "WATCHDOG=1", "before {beginning:?}"),
                None => {}
            }
        }
    }
}

/// A copy of the agent that another user can start: the build may be in a folder of root's.
fn readable_by_anyone() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("it is ours");
    fs::copy(binary(), directory.path().join("fivetuple")).expect("the agent can be copied");
    directory
}

fn as_the_unit_says(launch: Launch, manager: &Manager) -> Launch {
    let rights: String = capabilities().iter().map(|name| format!(",+{name}")).collect();
    let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
    let sets = ["bounding-set", "inh-caps", "ambient-caps"].map(|set| format!("--{set}=-all{rights}"));
    let mut words = vec!["setpriv", "--clear-groups", "--no-new-privs"];
    words.extend(user.iter().chain(&sets).map(String::as_str));
    launch
        .under(&words)
        .environment("NOTIFY_SOCKET", &format!("@{}", manager.name))
        .environment("WATCHDOG_USEC", &WATCHDOG.as_micros().to_string())
}

/// Names of the capabilities that the unit gives, as `setpriv` has them. It gives no others by another line.
fn capabilities() -> Vec<String> {
    let of = |key: &str| {
        let line = UNIT.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("the unit has no {key}"))
    };
    assert_eq!(of("AmbientCapabilities"), of("CapabilityBoundingSet"));
    assert_eq!(of("NoNewPrivileges"), "yes");
    let names = of("AmbientCapabilities").split_whitespace();
    names.map(|name| name.to_lowercase().replace("cap_", "")).collect()
}

/// Permitted is what attaching anew takes. None of it is in force in any thread, nor handed to anybody: the kernel of the
/// tests lets tables be read without.
#[track_caller]
fn has_put_its_rights_aside(agent: &Agent) {
    // CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF: capability(7) has their numbers.
    let rights = format!("{:016x}", 1_u64 << 12 | 1 << 38 | 1 << 39);
    let none = "0".repeat(16);
    let user = format!("{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}");
    let wanted = [
        ("CapInh", none.as_str()),
        ("CapPrm", &rights),
        ("CapEff", &none),
        ("CapBnd", &rights),
        ("CapAmb", &none),
        ("Uid", &user),
        ("Gid", &user),
        ("NoNewPrivs", "1"),
    ];
    // For the moment of a look at the interfaces they are in force in one thread.
    eventually(DEADLINE, "every thread to be without rights", || {
        let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).expect("the agent runs");
        for task in tasks {
            let path = task.expect("it can be listed").path().join("status");
            let Ok(status) = fs::read_to_string(path) else { continue };
            for (key, value) in wanted {
                if !status.contains(&format!("\n{key}:\t{value}\n")) {
                    return Err(format!("{key} is not {value} in\n{status}"));
                }
            }
        }
        Ok(())
    });
}

/// A process that answers is not enough: the watchdog is for the thread that reads the ring.
#[track_caller]
fn stops_beating_without_its_reader(agent: &Agent, manager: &Manager) {
    manager.until("WATCHDOG=1");
    let reader = thread_named(agent, "keeper");
    ptrace::seize(reader, ptrace::Options::empty()).expect("root may trace any thread");
    ptrace::interrupt(reader).expect("it was seized");
    waitpid(reader, Some(WaitPidFlag::__WALL)).expect("it stops");
    eventually(DEADLINE, "the words on their way to be heard", || manager.word().is_none());
    assert_eq!(agent.request("GET", "/-/healthy").status, 200);
    assert_eq!(manager.word(), None, "nobody reads the ring");
    ptrace::detach(reader, None).expect("it was seized");
    manager.until("WATCHDOG=1");
}

#[track_caller]
fn thread_named(agent: &Agent, name: &str) -> Pid {
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).expect("the agent runs");
    let named = tasks
        .map(|task| task.expect("it can be listed"))
        .find(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name));
    let task = named.unwrap_or_else(|| panic!("the agent has no thread {name}"));
    Pid::from_raw(task.file_name().to_string_lossy().parse().expect("a thread has a number"))
}
