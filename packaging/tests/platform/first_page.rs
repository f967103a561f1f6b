//! A new user's way, by the steps of docs/install.md and nothing else: from the package to the first page received. How long
//! each takes is printed, and no figure decides anything.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{host::Host, package::build};

/// How long anything may take on a busy machine: the verifier needs seconds for the programs, and many times that there.
const DEADLINE: Duration = Duration::from_secs(120);
const CONFIGURATION: &str = "/etc/fivetuple/fivetuple.yaml";
const AGENT: &str = "127.0.0.1:10435";

#[test]
fn from_the_package_to_the_first_page() {
    let directory = tempfile::tempdir().unwrap();
    let mut stages = Stages::default();
    stages.begin();
    let package = build("deb", 1, directory.path());
    stages.over("the package is built");
    Host::copied(|host| {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may have a network namespace");
        host.sh("dpkg --purge fivetuple; rm -f /var/lib/man-db/auto-update");
        let package = host.bring(&package);
        // The agent asks there how many processors may come.
        host.sh("mount -t sysfs sysfs /sys");
        // A gateway with one interface, and a client behind it.
        host.sh("ip link set lo up && ip netns add client && ip link add outside type veth peer name eth0 netns client");
        host.sh("ip address add 192.0.2.1/24 dev outside && ip link set outside up");
        host.sh("ip -n client address add 192.0.2.2/24 dev eth0 && ip -n client link set eth0 up");
        let (hook, pages) = webhook();

        stages.begin();
        host.sh(&format!("dpkg --install {package}"));
        stages.over("it is installed");

        let configuration = format!(
            "interfaces: [{{name: outside}}]\nservices: [{{name: card, prefixes: [192.0.2.1], ports: [443]}}]\n\
             alerts: {{webhooks: [{{url: 'http://{hook}/'}}]}}\n"
        );
        std::fs::write(host.path(CONFIGURATION), configuration).unwrap();
        let said = host.sh(&format!("fivetuple check --config.file={CONFIGURATION}"));
        assert!(said.contains("is valid; points: 1, services: 1") && !said.contains("FAIL"), "{said}");
        stages.over("it is configured, and checked");

        let service = Service::start(host);
        until("the agent to be ready", || get("/-/ready").is_ok_and(|answer| answer.contains(" 200 ")));
        stages.over("it watches");

        // Nobody listens: as where the server of the card is down.
        host.sh("ip netns exec client bash -c 'for i in $(seq 30); do ! : </dev/tcp/192.0.2.1/443; done' 2>/dev/null");
        stages.over("30 payments were refused");
        let page = pages.recv_timeout(DEADLINE).expect("a page");
        stages.over("the page is here");
        for part in ["\"severity\":\"page\"", "\"svc\":\"card\"", "192.0.2.2:", ": refused; ", "runbook_url"]
        {
            assert!(page.contains(part), "{part} is not in {page}");
        }
        service.stop();
    });
    stages.tell();
}

/// What took how long.
#[derive(Default)]
struct Stages {
    began: Option<Instant>,
    over: Vec<(&'static str, Duration)>,
}

impl Stages {
    /// What came before is none of the user's time.
    fn begin(&mut self) {
        self.began = Some(Instant::now());
    }

    fn over(&mut self, what: &'static str) {
        let now = Instant::now();
        let took = self.began.replace(now).map_or(Duration::ZERO, |began| now - began);
        self.over.push((what, took));
    }

    fn tell(&self) {
        for (what, took) in &self.over {
            eprintln!("{:6.2} s  {what}", took.as_secs_f64());
        }
        let all: Duration = self.over.iter().map(|(_, took)| took).sum();
        eprintln!("{:6.2} s  in all", all.as_secs_f64());
    }
}

/// The service, started by the words of its unit and with its rights.
struct Service(Child);

impl Service {
    #[track_caller]
    fn start(host: &Host) -> Self {
        let unit = host.read("/usr/lib/systemd/system/fivetuple.service");
        let line = |key: &str| {
            unit.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key}"))
        };
        let caps = line("AmbientCapabilities=").to_lowercase().replace("cap_", "+").replace(' ', ",");
        let user = line("User=");
        let start = format!(
            ". /etc/default/fivetuple; exec setpriv --reuid {user} --regid {user} --init-groups \
             --inh-caps -all,{caps} --ambient-caps -all,{caps} --bounding-set -all,{caps} --no-new-privs {}",
            line("ExecStart=")
        );
        let mut command = Command::new("chroot");
        command.arg(host.path("/")).args(["sh", "-c", &start]).stdin(Stdio::null());
        Self(command.spawn().expect("chroot is part of every system"))
    }

    fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).expect("a process has a number"));
        kill(pid, Signal::SIGTERM).expect("it runs");
        assert!(self.0.wait().expect("it is ours").success(), "it ends well");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Where the test failed before the end; one that has ended already cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A receiver of pages: where it is, and what it gets.
fn webhook() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is up");
    let place = listener.local_addr().expect("it is bound").to_string();
    let (to, pages) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // Who gives up in between is asked again by its own means.
            let Ok(page) = stream.and_then(take) else { continue };
            if to.send(page).is_err() {
                return;
            }
        }
    });
    (place, pages)
}

/// The body of one request, which is answered.
fn take(stream: TcpStream) -> io::Result<String> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_lowercase();
        if let Some(number) = line.strip_prefix("content-length:") {
            length = number.trim().parse().map_err(io::Error::other)?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    String::from_utf8(body).map_err(io::Error::other)
}

/// What the agent answers.
fn get(page: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(AGENT)?;
    write!(stream, "GET {page} HTTP/1.1\r\nHost: {AGENT}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < DEADLINE, "waited in vain for {what}");
        thread::park_timeout(Duration::from_millis(20));
    }
}
