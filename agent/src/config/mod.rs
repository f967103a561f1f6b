//! Validated settings, and the one place where flags become meaning. Flags beat the file.

pub mod alerts;
mod checker;
pub mod choice;
pub mod content;
pub mod file;
pub mod nearest;
pub mod value;

use crate::{
    aggregate::shown::Shown, alert, cli, connection_log, http::listen::ListenAddress, link, probe::tables,
    why,
};
use choice::{MOST, Pattern, Twice, Wanted};
use file::{FileInterface, FileSettings, Problem};
use ipnet::IpNet;
use serde::Deserialize;
use std::{fmt, net::IpAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

/// The service of every server that the operator gave no name.
pub const OTHER_SERVICE: &str = "other";

/// The point of packets that come on an interface that is none.
pub const NO_POINT: &str = "none";

/// All that decides how the daemon works.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What a reload may change, and what it may not: read from the file.
    pub watch: Watch,
    /// Where and how is served.
    pub web: Web,
    /// Where `watch` came from, to read again on a reload.
    pub source: Source,
    /// The programs and their tables outlive the agent.
    pub pin: bool,
}

/// Where and how is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Web {
    /// Addresses to serve on; none where systemd passes the sockets.
    pub listen: Vec<ListenAddress>,
    /// Path of the metrics.
    pub telemetry_path: String,
    /// Scrapes that are answered at the same time; 0 for any number.
    pub max_requests: usize,
    /// The web configuration file, which is in force as it stands.
    pub config_file: Option<PathBuf>,
}

/// What is watched, and how.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watch {
    /// Which interfaces are asked for.
    pub wanted: Wanted,
    /// Those of them that there were when this was read: the first points.
    pub interfaces: Vec<Interface>,
    /// Room for points beyond these.
    pub spare: usize,
    /// Interfaces that see what others see.
    pub twice: Vec<Twice>,
    /// The services, in the order of their numbers.
    pub services: Vec<Service>,
    /// Limits in time.
    pub limits: Limits,
    /// Limits in space.
    pub tables: Tables,
    /// What is shown of addresses.
    pub addresses: Shown,
    /// The connection log, where one is wanted.
    pub connection_log: Option<connection_log::Settings>,
    /// The alerts.
    pub alerts: alert::Settings,
}

impl Watch {
    /// Points that there is room for.
    pub const fn places(&self) -> usize {
        self.interfaces.len() + self.spare
    }
}

/// One interface to watch.
pub type Interface = FileInterface;

/// Which hook sees what comes in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ingress {
    /// XDP on hardware drivers, tc on virtual devices and wherever XDP cannot be had.
    #[default]
    Auto,
    /// XDP or nothing.
    Xdp,
    /// tc.
    Tc,
}

/// A name for servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name, the label `svc`.
    pub name: String,
    /// The servers' networks. A listed port comes before every port; then the longest network decides.
    pub prefixes: Vec<IpNet>,
    /// The servers' ports, both ends included; empty for every port.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Networks whose clients it is for; empty for all.
    pub allowed_clients: Vec<IpNet>,
    /// They speak HTTP in the clear, and it is to be looked at.
    pub http: bool,
}

impl Service {
    /// Whether it is for clients of that address.
    pub fn allows(&self, client: IpAddr) -> bool {
        self.allowed_clients.is_empty()
            || self.allowed_clients.iter().any(|network| network.contains(&client))
    }
}

/// Limits in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long a closed five-tuple is remembered, to know its reuse.
    pub time_wait: Duration,
    /// Silence after which a RST has the cause `idle`.
    pub idle: Duration,
    /// Age at which a request without an answer is `stalled`.
    pub stall: Duration,
    /// Silence after which a connection that is being opened, or closed, is given up.
    pub handshake_timeout: Duration,
    /// Silence after which an open connection is forgotten.
    pub flow_idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time_wait: Duration::from_secs(60),
            idle: Duration::from_secs(30),
            stall: Duration::from_secs(5),
            // Above 64 s, the longest pause between two SYNs of a Linux client.
            handshake_timeout: Duration::from_secs(75),
            flow_idle_timeout: Duration::from_secs(3600),
        }
    }
}

/// Limits in space, as far as the operator gives any; [`crate::probe::tables`] makes sizes of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// Bytes of kernel memory that all tables together may take.
    pub memory: Option<u64>,
    /// Open IPv4 connections; IPv6 has a table of its own, a quarter as large, and so have the two below.
    pub flows: Option<u32>,
    /// IPv4 connections that were asked for and not accepted yet.
    pub half_open: Option<u32>,
    /// Closed IPv4 five-tuples within their TIME-WAIT window.
    pub closed: Option<u32>,
    /// Bytes of the ring that carries records to the daemon.
    pub ring_bytes: Option<u32>,
}

/// Where the settings come from: the flags that decide what is watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// Interfaces named by flags.
    pub interfaces: Vec<String>,
}

/// Why there are no settings.
#[derive(Debug)]
pub enum ConfigError {
    /// The file that a flag names cannot be read.
    Unreadable(&'static str, PathBuf, std::io::Error),
    /// The file can be read and is wrong.
    Invalid(PathBuf, Vec<Problem>),
    /// A flag is wrong.
    Flag(&'static str, String),
    /// The interfaces that are up cannot be found.
    Links(anyhow::Error),
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(flag, path, e) => write!(
                f,
                "cannot read {}: {e}; name the right file with --{flag} and let this user read it",
                path.display()
            ),
            Self::Invalid(path, problems) => {
                for (i, problem) in problems.iter().enumerate() {
                    let end = if i + 1 < problems.len() { "\n" } else { "" };
                    write!(f, "{}: {problem}{end}", path.display())?;
                }
                Ok(())
            }
            Self::Flag(flag, text) => write!(f, "--{flag}: {text}"),
            Self::Links(e) => f.write_str(&why::text(e)),
        }
    }
}

impl Settings {
    /// Settings of `fivetuple run`.
    pub fn resolve(args: &cli::RunArgs) -> Result<Self, ConfigError> {
        let flags = &args.web;
        let path = &flags.telemetry_path;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/_.-".contains(&b);
        let taken = path == "/" || path.starts_with("/-/") || path.starts_with("/api/");
        if !path.starts_with('/') || taken || !path.bytes().all(plain) {
            let text = format!(
                "{path:?} cannot be the metrics' path; write one like /metrics, of A-Z a-z 0-9 / _ . - and not / or below /-/ or /api/"
            );
            return Err(ConfigError::Flag("web.telemetry-path", text));
        }
        let source = Source::new(&args.config);
        let web = Web {
            listen: if flags.systemd_socket { Vec::new() } else { flags.listen.clone() },
            telemetry_path: path.clone(),
            max_requests: flags.max_requests,
            config_file: args.web_config.file.clone(),
        };
        Ok(Self { watch: source.load()?, web, source, pin: args.pin })
    }
}

impl Source {
    /// What the flags say.
    pub fn new(args: &cli::ConfigArgs) -> Self {
        Self { file: args.config_file.clone(), interfaces: args.interfaces.clone() }
    }

    /// Read the file, if there is one, and put the flags over it.
    pub fn load(&self) -> Result<Watch, ConfigError> {
        let FileSettings {
            interfaces,
            patterns,
            services,
            limits,
            tables,
            memory_line,
            addresses,
            connection_log,
            alerts,
        } = self.settings()?;
        let (named, patterns) = if self.interfaces.is_empty() {
            (interfaces, patterns)
        } else {
            chosen(&self.interfaces, &interfaces)?
        };
        let links = link::links().map_err(ConfigError::Links)?;
        let wanted = Wanted { named, patterns };
        let (mut interfaces, twice) = wanted.choose(&links, |_| false);
        interfaces.truncate(MOST.max(wanted.named.len()));
        let watch = Watch {
            spare: wanted.spare(interfaces.len()),
            wanted,
            interfaces,
            twice,
            services,
            limits,
            tables,
            addresses,
            connection_log,
            alerts,
        };
        match (tables::sizes(&watch), &self.file) {
            (Err(text), Some(path)) => {
                let problem = Problem { line: memory_line, key: "tables.memory".to_owned(), text };
                Err(ConfigError::Invalid(path.clone(), vec![problem]))
            }
            _ => Ok(watch),
        }
    }

    /// What the file says alone; its defaults, if there is none.
    pub fn settings(&self) -> Result<FileSettings, ConfigError> {
        let Some(path) = &self.file else { return Ok(FileSettings::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|e| ConfigError::Unreadable("config.file", path.clone(), e))?;
        let directory = path.parent().unwrap_or(std::path::Path::new(""));
        file::parse(&text, directory).map_err(|problems| ConfigError::Invalid(path.clone(), problems))
    }
}

/// The interfaces that flags name, as the file describes them where it does, and the patterns among the flags.
fn chosen(flags: &[String], file: &[Interface]) -> Result<(Vec<Interface>, Vec<Pattern>), ConfigError> {
    let (mut named, mut patterns): (Vec<Interface>, Vec<Pattern>) = Default::default();
    for name in flags {
        if let Some(pattern) = Pattern::of(name, Ingress::Auto) {
            patterns.push(pattern);
            continue;
        }
        if named.iter().any(|i| i.name == *name) {
            return Err(ConfigError::Flag("interface", format!("{name} is named twice; name it once")));
        }
        let known = file.iter().find(|i| i.name == *name).cloned();
        let entry = known.map_or_else(|| value::name(name).map(plain), Ok);
        named.push(entry.map_err(|text| ConfigError::Flag("interface", text))?);
    }
    Ok((named, patterns))
}

fn plain(name: String) -> Interface {
    Interface { point: name.clone(), name, ingress: Ingress::Auto }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn source(text: &str, flags: &[&str]) -> (tempfile::NamedTempFile, Source) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let interfaces = flags.iter().map(ToString::to_string).collect();
        let source = Source { file: Some(file.path().into()), interfaces };
        (file, source)
    }

    #[test]
    fn flags_beat_the_file_and_keep_what_it_says_of_an_interface() {
        let (_file, source) = source(
            "interfaces: [{name: eth0, point: outside, ingress: tc}, {name: eth1}]",
            &["eth0", "eth7"],
        );
        let watch = source.load().unwrap();
        assert_eq!(
            watch.interfaces[0],
            Interface { name: "eth0".into(), point: "outside".into(), ingress: Ingress::Tc }
        );
        assert_eq!(watch.interfaces[1], plain("eth7".into()));
        assert_eq!(watch.interfaces.len(), 2);
    }

    #[test]
    fn an_interface_named_twice_is_refused() {
        let (_file, source) = source("", &["eth0", "eth0"]);
        assert_eq!(source.load().unwrap_err().to_string(), "--interface: eth0 is named twice; name it once");
    }

    #[test]
    fn the_metrics_path_is_its_own() {
        let settings = |path: &str| {
            let args = ["fivetuple", "run", "--interface=lo", &format!("--web.telemetry-path={path}")];
            let cli::Command::Run(args) = cli::Cli::try_parse_from(args).unwrap().command else {
                panic!("not run")
            };
            Settings::resolve(&args)
        };
        assert_eq!(settings("/fivetuple/metrics").unwrap().web.telemetry_path, "/fivetuple/metrics");
        for path in ["metrics", "/", "/-/healthy", "/api/v1/flows", "/{x}", "/<b>"] {
            let text = settings(path).unwrap_err().to_string();
            assert!(text.starts_with("--web.telemetry-path: "), "{text}");
        }
    }

    #[test]
    fn memory_that_is_too_little_is_told_with_what_is_needed() {
        let (file, source) = source("interfaces: [{name: eth0}]\ntables:\n  memory: 1MiB\n", &[]);
        let text = source.load().unwrap_err().to_string();
        let begin = format!("{}: line 3: tables.memory: is too little: ", file.path().display());
        assert!(text.starts_with(&begin) && text.contains("; write at least "), "{text}");
    }

    #[test]
    fn errors_name_the_file() {
        let (file, source) = source("tables: {flows: 1}\nlimits: {idle: 3}", &[]);
        let text = source.load().unwrap_err().to_string();
        let path = file.path().display();
        assert!(text.starts_with(&format!("{path}: line 1: tables.flows: ")), "{text}");
        assert!(text.contains(&format!("\n{path}: line 2: limits.idle: ")), "{text}");
        let missing = Source { file: Some("/nonexistent.yaml".into()), ..Source::default() };
        assert!(missing.load().unwrap_err().to_string().contains("--config.file"));
    }
}
