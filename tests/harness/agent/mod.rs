//! The program under test, as an operator would run it: a process in a namespace, asked over HTTP.

mod attached;
mod metrics;
mod older;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::eventually::eventually;
use crate::netns::NetNs;
use crate::parity::captured::capture_agrees;
use crate::topology::OUTSIDE;
use crate::truth::Capture;

pub use attached::{Loaded, left_attached};
pub use metrics::Metrics;
pub use older::Without;

/// How long the agent may take to be ready, and to end: the kernel's verifier takes seconds for the programs, and many
/// times that on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// The binary: `FIVETUPLE_BIN`, or the one that was built beside this test.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("FIVETUPLE_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test knows where it is");
    // target/debug/deps/NAME-HASH -> target/debug/fivetuple
    let built = test.ancestors().skip(1).take(2).map(|directory| directory.join("fivetuple"));
    built.into_iter().find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("there is no fivetuple beside {}: build it first, or name it in FIVETUPLE_BIN", test.display())
    })
}

/// How the agent is started.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    program: Option<PathBuf>,
    copy: Option<PathBuf>,
    under: Vec<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    configuration: Option<String>,
    without_listen_address: bool,
    without: Option<Without>,
    alone: bool,
}

impl Launch {
    /// Watches these interfaces: `--interface NAME` for each.
    pub fn interfaces(names: &[&str]) -> Self {
        let mut launch = Self::default();
        for name in names {
            launch = launch.argument("--interface").argument(*name);
        }
        launch
    }

    /// Runs with this configuration, in a file of its own.
    pub fn configuration(text: impl Into<String>) -> Self {
        Self { configuration: Some(text.into()), ..Self::default() }
    }

    /// Runs this program instead, without the word `run`: one of the same family, to prove the guard itself.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Runs this copy of the agent, which others than root can reach.
    pub fn copy(mut self, path: impl Into<PathBuf>) -> Self {
        self.copy = Some(path.into());
        self
    }

    /// Has it started by another program, which becomes the agent: `setpriv`, say, and its arguments.
    pub fn under(mut self, words: &[&str]) -> Self {
        self.under = words.iter().map(ToString::to_string).collect();
        self
    }

    /// Adds an argument after `run`.
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs it as on a kernel that lacks something.
    pub fn without(mut self, what: Without) -> Self {
        self.without = Some(what);
        self
    }

    /// Nobody beside it judges the same packets by the library: more comes than its tables hold, and which of it they hold
    /// is decided by moments.
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Leaves `--web.listen-address` to the agent: the default of the contract is expected then.
    pub fn default_listen_address(mut self) -> Self {
        self.without_listen_address = true;
        self
    }

    /// Starts it in the namespace and returns at once.
    #[track_caller]
    pub fn spawn(self, namespace: &NetNs) -> Agent<'_> {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let program = self.program.clone().or(self.copy).unwrap_or_else(binary);
        let program = program.to_str().expect("the path is text").to_owned();
        let words = [&self.under[..], &[program]].concat();
        let mut command = namespace.cmd(&words[0]);
        command.args(&words[1..]);
        if self.program.is_none() {
            command.arg("run");
        }
        if let Some(text) = &self.configuration {
            let path = directory.path().join("fivetuple.yaml");
            fs::write(&path, text).expect("a temporary file can be written");
            command.arg("--config.file").arg(path);
        }
        let web = if self.without_listen_address {
            (Ipv4Addr::LOCALHOST, 10435).into()
        } else {
            free_address(namespace)
        };
        if !self.without_listen_address {
            command.arg("--web.listen-address").arg(web.to_string());
        }
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(what) = self.without {
            what.apply(&mut command);
        }
        let witness = self.program.is_none() && !self.alone && namespace.has_interface(OUTSIDE.interface);
        let witness = witness.then(|| Capture::start(namespace, OUTSIDE.interface, ""));
        Agent::over(command, namespace, web, directory, witness)
    }

    /// Starts it in the namespace and waits until it is ready.
    ///
    /// # Panics
    /// When it ends instead, or is not ready within [`DEADLINE`]; its log is shown.
    #[track_caller]
    pub fn start(self, namespace: &NetNs) -> Agent<'_> {
        let mut agent = self.spawn(namespace);
        agent.eventually_ready();
        agent
    }
}

/// A running agent. Dropping it kills it; a test that panics sees its log.
///
/// What passes the gateway's outer interface meanwhile is captured. At the end the kernel's programs and the library on
/// the host are both given the capture, and must agree on it: no end-to-end test can forget to ask.
pub struct Agent<'a> {
    namespace: &'a NetNs,
    child: Child,
    web: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    directory: tempfile::TempDir,
    witness: Option<Capture>,
}

/// What the agent answered to an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The Content-Type header, empty when there is none.
    pub content_type: String,
    /// The body.
    pub body: String,
}

impl<'a> Agent<'a> {
    fn over(
        mut command: Command,
        namespace: &'a NetNs,
        web: SocketAddr,
        directory: tempfile::TempDir,
        witness: Option<Capture>,
    ) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap_or_else(
                |error| panic!("cannot start {}: {error}", crate::command::describe(&command)),
            );
        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = BufReader::new(child.stderr.take().expect("the pipe was asked for"));
        let lines = log.clone();
        let reader = thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self { namespace, child, web, log, reader: Some(reader), directory, witness }
    }

    /// Waits until `/-/ready` says yes.
    ///
    /// # Panics
    /// When the agent ends instead, or the deadline passes; its log is shown.
    #[track_caller]
    pub fn eventually_ready(&mut self) {
        eventually(DEADLINE, "the agent to be ready", || {
            if let Some(status) = self.child.try_wait().expect("the agent is our child") {
                self.finish_log();
                panic!("the agent ended before it was ready: {status}\n{}", self.log().join("\n"));
            }
            match self.try_request("GET", "/-/ready") {
                Ok(response) if response.status == 200 => Ok(()),
                other => Err(format!("{other:?}\n{}", self.log().join("\n"))),
            }
        });
    }

    /// Where it listens, inside the namespace.
    pub fn web(&self) -> SocketAddr {
        self.web
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Its log so far, line by line.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces its configuration file; it is told by [`Agent::reload`] or SIGHUP.
    ///
    /// # Panics
    /// When it was started without one.
    #[track_caller]
    pub fn rewrite_configuration(&self, text: &str) {
        let path = self.directory.path().join("fivetuple.yaml");
        assert!(path.exists(), "the agent was started without a configuration file");
        fs::write(path, text).expect("a temporary file can be written");
    }

    /// Asks it to read its configuration again.
    #[track_caller]
    pub fn reload(&self) -> Response {
        self.request("POST", "/-/reload")
    }

    /// One request from inside the namespace; an error when there was no answer.
    pub fn try_request(&self, method: &str, path: &str) -> Result<Response, String> {
        let url = format!("http://{}{path}", self.web);
        self.namespace.run(|| request(method, &url))
    }

    /// One request from inside the namespace.
    ///
    /// # Panics
    /// When there was no answer; an answer that says no is an answer.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str) -> Response {
        self.try_request(method, path)
            .unwrap_or_else(|error| panic!("{method} {path} got no answer: {error}"))
    }

    /// The body of a page that must be there.
    #[track_caller]
    pub fn get(&self, path: &str) -> String {
        let response = self.request("GET", path);
        assert_eq!(response.status, 200, "GET {path} answered: {}", response.body);
        response.body
    }

    /// A page that must be JSON.
    #[track_caller]
    pub fn get_json(&self, path: &str) -> Value {
        let body = self.get(path);
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("GET {path} is no JSON ({error}): {body}"))
    }

    /// All samples of `/metrics`.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let body = self.get("/metrics");
        Metrics::parse(&body).unwrap_or_else(|why| panic!("/metrics cannot be read: {why}"))
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap_or_else(|error| panic!("cannot send {signal} to the agent: {error}"));
    }

    /// Waits for its end, and returns the status and the whole log.
    #[track_caller]
    pub fn wait(mut self) -> (ExitStatus, Vec<String>) {
        let status = eventually(DEADLINE, "the agent to end", || {
            self.child.try_wait().expect("the agent is our child")
        });
        self.finish_log();
        (status, self.log())
    }

    /// Stops it with SIGTERM, and checks that it ended with 0 and left nothing attached, and nothing in the kernel.
    ///
    /// # Panics
    /// When it did not, with its log.
    #[track_caller]
    pub fn stop(self) {
        let loaded = Loaded::by(self.pid());
        self.signal(Signal::SIGTERM);
        let namespace = self.namespace;
        let (status, log) = self.wait();
        assert!(status.success(), "the agent ended with {status}:\n{}", log.join("\n"));
        assert_eq!(left_attached(namespace), Vec::<String>::new(), "the agent left programs behind");
        // The kernel lets go of what a link held when it finds the time.
        eventually(DEADLINE, "the agent's programs and maps to go", || {
            let left = loaded.left();
            if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
        });
    }

    fn finish_log(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("reading lines does not panic");
        }
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        self.finish_log();
        if thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log().join("\n"));
        } else if let Some(witness) = self.witness.take() {
            capture_agrees(witness.stop(), OUTSIDE.mac);
        }
    }
}

/// Runs the binary in the namespace with these arguments to its end: for `check`, `replay` and wrong usage.
#[track_caller]
pub fn run_to_end(namespace: &NetNs, arguments: &[&str]) -> std::process::Output {
    let mut command = namespace.cmd(binary().to_str().expect("the path is text"));
    command.args(arguments).stdin(Stdio::null());
    command
        .output()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", crate::command::describe(&command)))
}

fn free_address(namespace: &NetNs) -> SocketAddr {
    let listener = namespace.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    listener.and_then(|listener| listener.local_addr()).expect("a namespace of our own has free ports")
}

fn request(method: &str, url: &str) -> Result<Response, String> {
    let configuration = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .http_status_as_error(false)
        .proxy(None)
        .build();
    let agent = ureq::Agent::new_with_config(configuration);
    let sent = match method {
        "GET" => agent.get(url).call(),
        "POST" => agent.post(url).send_empty(),
        other => panic!("the agent has no use for {other}"),
    };
    let mut response = sent.map_err(|error| error.to_string())?;
    let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let body = response.body_mut().with_config().limit(256 << 20).read_to_string();
    Ok(Response {
        status: response.status().as_u16(),
        content_type,
        body: body.map_err(|error| error.to_string())?,
    })
}
