//! The command line: clap types only. What a flag means is decided in [`crate::config`].

use crate::{config::value, connection::source::Source, http::listen::ListenAddress, locate::Wanted};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, str::FromStr, time::Duration};

/// Where a daemon listens, and where `flows` looks for one, unless told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:10435";

/// TCP observability for gateway hosts: every connection followed inside the kernel.
#[derive(Debug, Parser)]
#[command(name = "fivetuple", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch the interfaces and serve what was seen
    Run(RunArgs),
    /// Take off what agents with --pin left attached in this network namespace, and let go of their tables
    Detach,
    /// Say what this kernel and these interfaces allow, and whether the configuration is valid
    Check(CheckArgs),
    /// Show the flow list of a running agent
    Flows(FlowsArgs),
    /// Judge captures as the daemon judges live traffic
    Replay(ReplayArgs),
    /// Tell which connections failed because their five-tuple came back, and what would change that
    Reuse(ReuseArgs),
    /// Say where on their way something happens to connections, from several points' view
    Locate(LocateArgs),
    /// Tell what sets failed connections apart from good ones
    Explain(ExplainArgs),
}

/// Which configuration, and which interfaces.
#[derive(Debug, Default, Args)]
pub struct ConfigArgs {
    /// Configuration file (YAML); every key is explained in fivetuple.example.yaml
    #[arg(long = "config.file", value_name = "PATH")]
    pub config_file: Option<PathBuf>,
    /// Interface to watch (repeatable), or a pattern: 'eth*', or '!veth*' to leave those out; beats the file's list.
    /// With neither, every interface that is up except loopback, and except those whose packets all pass another one.
    /// What patterns take is also taken when it comes later
    #[arg(long = "interface", value_name = "NAME")]
    pub interfaces: Vec<String>,
}

/// Flags of `fivetuple run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Check the configuration, say what is wrong with it, and exit
    #[arg(long = "config.check")]
    pub config_check: bool,
    /// Leave the programs attached at the end, and go on with those of the agent before: what passes meanwhile is
    /// counted. They are pinned under /sys/fs/bpf/fivetuple; `fivetuple detach` takes them off
    #[arg(long)]
    pub pin: bool,
    /// Where to serve.
    #[command(flatten)]
    pub web: WebArgs,
    /// How to serve.
    #[command(flatten)]
    pub web_config: WebConfigArgs,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Where a daemon serves.
#[derive(Debug, Args)]
pub struct WebArgs {
    /// Address to serve on (repeatable): 127.0.0.1:10435, [::1]:10435, or :10435 for every address
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = DEFAULT_LISTEN)]
    pub listen: Vec<ListenAddress>,
    /// Serve on the sockets that systemd passes (LISTEN_FDS) instead of any address
    #[arg(long = "web.systemd-socket")]
    pub systemd_socket: bool,
    /// Path of the metrics
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics")]
    pub telemetry_path: String,
    /// Scrapes that are answered at the same time; more get 503. 0 for any number
    #[arg(long = "web.max-requests", value_name = "N", default_value_t = 40)]
    pub max_requests: usize,
}

/// The web configuration.
#[derive(Debug, Default, Args)]
pub struct WebConfigArgs {
    /// File (YAML) with TLS, basic authentication, headers and a rate limit, in the format of Prometheus's exporter
    /// toolkit; in force as it stands, without a reload
    #[arg(long = "web.config.file", value_name = "PATH")]
    pub file: Option<PathBuf>,
}

/// Flags of `fivetuple check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The web configuration.
    #[command(flatten)]
    pub web_config: WebConfigArgs,
}

/// Flags of the log, which goes to standard error.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Least severe level to log
    #[arg(long = "log.level", value_enum, default_value_t = LogLevel::Info)]
    pub level: LogLevel,
    /// Form of a log line
    #[arg(long = "log.format", value_enum, default_value_t = LogFormat::Logfmt)]
    pub format: LogFormat,
}

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Everything, for the developers
    Debug,
    /// What the agent does
    Info,
    /// What it does less well than asked
    Warn,
    /// What it could not do
    Error,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// key=value pairs
    Logfmt,
    /// One JSON object a line
    Json,
}

/// How an agent is asked.
#[derive(Debug, Default, Args)]
pub struct ClientArgs {
    /// File (YAML) with tls_config and basic_auth, in the format of Prometheus's http_config, for agents with a web
    /// configuration
    #[arg(long = "http.config.file", alias = "http.config", value_name = "PATH")]
    pub file: Option<PathBuf>,
}

/// Flags of `fivetuple flows`.
#[derive(Debug, Args)]
pub struct FlowsArgs {
    /// Where the agent serves
    #[arg(long, value_name = "URL", default_value_t = format!("http://{DEFAULT_LISTEN}"))]
    pub url: String,
    /// How the agent is asked.
    #[command(flatten)]
    pub client: ClientArgs,
    /// Form of the list
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// What to list.
    #[command(flatten)]
    pub filter: FlowFilterArgs,
}

/// Filters of the flow list; the agent applies them.
#[derive(Debug, Default, Args)]
pub struct FlowFilterArgs {
    /// Only flows of this service
    #[arg(long, value_name = "NAME")]
    pub svc: Option<String>,
    /// Only flows with an end in this network
    #[arg(long, value_name = "CIDR")]
    pub address: Option<String>,
    /// Only flows with this port at an end
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Only flows that show this anomaly
    #[arg(long, value_name = "NAME")]
    pub anomaly: Option<String>,
    /// At most this many flows
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// Flags of `fivetuple replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Captures, pcap or pcapng, also compressed; each is a point of its own, named like the file. - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Configuration file (YAML), for its services and limits
    #[arg(long = "config.file", value_name = "PATH")]
    pub config_file: Option<PathBuf>,
    /// Form of what is found
    #[arg(long, value_enum, default_value_t = ReplayOutput::Summary)]
    pub output: ReplayOutput,
    /// Only these of the lines of --output jsonl
    #[arg(long, value_enum, value_name = "WHICH")]
    pub lines: Option<Lines>,
}

/// Flags of `fivetuple reuse`.
#[derive(Debug, Args)]
pub struct ReuseArgs {
    /// Whose connections.
    #[command(flatten)]
    pub of: ConnectionsArgs,
    /// Point in front of the balancer, to predict what keeping the clients' source ports would do
    #[arg(long, value_name = "POINT", requires = "proxies")]
    pub clients: Option<String>,
    /// Point behind the balancer, in front of the proxies
    #[arg(long, value_name = "POINT", requires = "clients")]
    pub proxies: Option<String>,
    /// TIME-WAIT of the last stage that is predicted, instead of the one suggested
    #[arg(long, value_name = "DURATION", value_parser = value::duration, requires = "clients")]
    pub time_wait: Option<Duration>,
    /// Form of the report
    #[arg(long, value_enum, default_value_t = ReportOutput::Text)]
    pub output: ReportOutput,
}

/// Flags of `fivetuple locate`.
#[derive(Debug, Args)]
pub struct LocateArgs {
    /// One connection, by an end or both: 192.0.2.1:40000, or 192.0.2.1:40000-198.51.100.7:443; without it and --svc, all
    #[arg(value_name = "FLOW")]
    pub flow: Option<Wanted>,
    /// Only connections of this service
    #[arg(long, value_name = "NAME", conflicts_with = "flow")]
    pub svc: Option<String>,
    /// Where the connections pass, in any order: outside=FILE, or outside=http://AGENT:10435 (comma separated, repeatable)
    #[arg(long, value_name = "NAME=FILE_OR_URL", value_delimiter = ',', required = true)]
    pub points: Vec<PointArg>,
    /// How agents are asked.
    #[command(flatten)]
    pub client: ClientArgs,
    /// Configuration file (YAML), for its services and limits, where points are captures
    #[arg(long = "config.file", value_name = "PATH")]
    pub config_file: Option<PathBuf>,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = ReportOutput::Text)]
    pub output: ReportOutput,
}

/// A point, and where what it saw is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointArg {
    /// Its name.
    pub name: String,
    /// A capture, or an agent.
    pub source: Source,
}

impl FromStr for PointArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, source)) if !name.is_empty() && !source.is_empty() => {
                let Ok(source) = source.parse();
                Ok(Self { name: name.to_owned(), source })
            }
            _ => Err(format!("{text:?} is no point; write NAME=FILE or NAME=http://AGENT:10435")),
        }
    }
}

/// Form of what a replay finds, on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReplayOutput {
    /// A report for people
    Summary,
    /// One JSON object for each TCP packet and each connection
    Jsonl,
    /// One JSON object for each connection that ended, as in the connection log
    Connections,
}

/// Which lines of [`ReplayOutput::Jsonl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lines {
    /// Packets
    Packets,
    /// Connections
    Flows,
}

/// Flags of `fivetuple explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Whose connections.
    #[command(flatten)]
    pub of: ConnectionsArgs,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = ReportOutput::Text)]
    pub output: ReportOutput,
}

/// Which connections a report is about, and where they are read.
#[derive(Debug, Args)]
pub struct ConnectionsArgs {
    /// Captures, each a point named like the file; without any, a running agent is asked
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where the agent serves, or each of several (comma separated, repeatable) [default: http://127.0.0.1:10435]
    #[arg(long = "url", value_name = "URL", value_delimiter = ',', conflicts_with = "files")]
    pub urls: Vec<String>,
    /// How the agent is asked.
    #[command(flatten)]
    pub client: ClientArgs,
    /// Configuration file (YAML), for the services and limits of captures
    #[arg(long = "config.file", value_name = "PATH", requires = "files")]
    pub config_file: Option<PathBuf>,
    /// Only connections of this service
    #[arg(long, value_name = "NAME")]
    pub svc: Option<String>,
    /// Only connections of the last so long (of a capture: before its end): 90s, 2h
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    pub since: Option<Duration>,
}

/// Form of an answer on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportOutput {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Form of a list on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn clap_finds_no_fault() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_takes_the_flags_of_the_family() {
        let cli = Cli::try_parse_from([
            "fivetuple",
            "run",
            "--config.file=/etc/f.yaml",
            "--interface=eth0",
            "--interface=eth1",
            "--web.listen-address=:9100",
            "--web.listen-address=[::1]:9100",
            "--web.config.file=/etc/web.yaml",
            "--web.systemd-socket",
            "--log.level=warn",
            "--log.format=json",
        ])
        .unwrap();
        let Command::Run(run) = cli.command else { panic!("not run") };
        assert_eq!(run.config.interfaces, ["eth0", "eth1"]);
        assert_eq!(run.web_config.file.as_deref(), Some(std::path::Path::new("/etc/web.yaml")));
        assert_eq!((run.web.systemd_socket, run.web.max_requests), (true, 40));
        assert_eq!(
            run.web.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [":9100", "[::1]:9100"]
        );
        assert_eq!((run.log.level, run.log.format), (LogLevel::Warn, LogFormat::Json));
    }

    #[test]
    fn a_bad_flag_is_a_usage_error() {
        for args in
            [&["fivetuple", "run", "--web.listen-address=9100"][..], &["fivetuple", "rnu"], &["fivetuple"]]
        {
            assert_eq!(Cli::try_parse_from(args).unwrap_err().exit_code(), 2, "{args:?}");
        }
    }
}
