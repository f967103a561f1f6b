//! Sockets from a parent, as systemd passes them.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::process::{Child, Command, Stdio};

use harness::agent::{DEADLINE, binary};
use harness::{Pair, eventually};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Passes the descriptor as number 3 to the agent: bash keeps its process when it becomes the agent, so that LISTEN_PID
/// is right.
const PASS: &str = r#"exec 3<&"$0"; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@""#;

/// The agent, ended when a test fails.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(world: &Pair, descriptor: i32) -> Command {
    let mut command = world.left.cmd("bash");
    command.args(["-c", PASS, &descriptor.to_string()]).arg(binary());
    command.args(["run", "--interface=eth0", "--web.systemd-socket"]);
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

#[test]
fn a_socket_that_is_passed_is_served() {
    let world = Pair::new();
    let socket = world.left.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a port is free");
    let address = socket.local_addr().expect("it is bound");
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::empty())).expect("the descriptor is ours");
    let agent = command(&world, socket.as_raw_fd()).spawn().expect("bash is there");
    let mut agent = Agent(agent);
    drop(socket);
    // The socket listens from before the agent started: it waits, and is refused never.
    let ready =
        world.left.exec(&format!("curl -sS --max-time 90 -w %{{http_code}} http://{address}/-/healthy"));
    assert!(ready.ends_with("200"), "{ready}");
    kill(Pid::from_raw(agent.0.id().cast_signed()), Signal::SIGTERM).expect("it runs");
    let status = eventually(DEADLINE, "the agent to end", || agent.0.try_wait().expect("it is our child"));
    assert_eq!(status.code(), Some(0));
}

#[test]
fn without_a_socket_it_says_so() {
    let world = Pair::new();
    let stranger = std::fs::File::open("/dev/null").expect("it is there");
    fcntl(&stranger, FcntlArg::F_SETFD(FdFlag::empty())).expect("the descriptor is ours");
    let mut none = world.left.cmd(binary().to_str().expect("the path is text"));
    none.args(["run", "--interface=eth0", "--web.systemd-socket"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    for (mut command, words) in [
        (none, ["no socket was passed (LISTEN_FDS is not set)", "leave out --web.systemd-socket"]),
        (
            command(&world, stranger.as_raw_fd()),
            ["descriptor 3 is no TCP socket that listens", "ListenStream="],
        ),
    ] {
        let mut child = command.spawn().expect("it starts");
        let log: Vec<String> =
            BufReader::new(child.stderr.take().expect("asked for")).lines().map_while(Result::ok).collect();
        assert_eq!(child.wait().expect("it is our child").code(), Some(1), "{log:?}");
        for word in words {
            assert!(log.iter().any(|line| line.contains(word)), "{word} is not in {log:?}");
        }
    }
}
