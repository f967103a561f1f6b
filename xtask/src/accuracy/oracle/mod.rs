//! tshark as an oracle: what it says of a capture, in the benchmark's lines.
//!
//! The labels are tshark's own. Every figure of a flow is computed here from the packets and their labels, as the
//! benchmark's `oracle.py` does. All preferences that change a label are given on the command line, and tshark gets a
//! home directory with nothing in it, so nobody's profile matters. Relative sequence numbers, reassembly and
//! defragmentation are off.

mod flow;
mod packet;

use std::{
    collections::{HashMap, hash_map::Entry},
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use xtask::sh;

use self::{flow::FlowState, packet::Row};
use super::line::{Flow, Lines};

/// Preferences, each with the value that the references were made with.
const PREFERENCES: [&str; 14] = [
    "tcp.analyze_sequence_numbers:TRUE",
    "tcp.relative_sequence_numbers:FALSE",
    "tcp.desegment_tcp_streams:FALSE",
    "tcp.reassemble_out_of_order:FALSE",
    "tcp.fastrt_supersedes_ooo:TRUE",
    "tcp.check_checksum:FALSE",
    "tcp.track_bytes_in_flight:FALSE",
    // The limit below which it says "out of order" is the initial round trip.
    "tcp.calculate_timestamps:TRUE",
    "tcp.try_heuristic_first:FALSE",
    // An IP length of 0 means that of the frame.
    "ip.tso_support:TRUE",
    "ipv6.tso_support:TRUE",
    "ip.check_checksum:FALSE",
    "ip.defragment:FALSE",
    "ipv6.defragment:FALSE",
];

/// tshark on this host. What it says is kept, by the capture's content and its own version.
pub struct Oracle {
    version: String,
    cache: PathBuf,
    home: PathBuf,
}

impl Oracle {
    /// Finds tshark; answers are kept in this directory.
    pub fn new(directory: &Path) -> Result<Self> {
        let (cache, home) = (directory.join("answers"), directory.join("home"));
        for dir in [&cache, &home] {
            fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        }
        let said = sh::stdout_of(Command::new("tshark").arg("--version"))?;
        // "TShark (Wireshark) 4.0.17 (Git v4.0.17 packaged as 4.0.17-0+deb12u3)."
        let number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        let version = said.split_whitespace().find(number).unwrap_or("of unknown version");
        let version = format!("tshark {version}");
        Ok(Self { version, cache, home })
    }

    /// Its name and version, in its own words.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What it says of a capture file.
    pub fn ask(&self, capture: &Path) -> Result<Lines> {
        let content = fs::read(capture).with_context(|| capture.display().to_string())?;
        let mut hasher = DefaultHasher::new();
        (&self.version, PREFERENCES, packet::fields(), content).hash(&mut hasher);
        let kept = self.cache.join(format!("{:016x}.tsv", hasher.finish()));
        let said = match fs::read_to_string(&kept) {
            Ok(said) => said,
            Err(_) => {
                let said = self.run(capture)?;
                // Under another name first: whoever else finds it finds all of it.
                let partial = kept.with_extension(format!("{}.partial", std::process::id()));
                fs::write(&partial, &said).with_context(|| partial.display().to_string())?;
                fs::rename(&partial, &kept).with_context(|| kept.display().to_string())?;
                said
            }
        };
        read(&said).with_context(|| format!("tshark on {}", capture.display()))
    }

    /// Starts it. That a file is cut short is its last word on many captures, and no reason to drop what it said before.
    fn run(&self, capture: &Path) -> Result<String> {
        let mut cmd = Command::new("tshark");
        cmd.args(["-n", "-r"]).arg(capture).args(["-Y", "tcp"]);
        cmd.args(PREFERENCES.iter().flat_map(|preference| ["-o", preference]));
        cmd.args(["-T", "fields"]);
        for form in ["separator=/t", "occurrence=a", "aggregator=,", "quote=n"] {
            cmd.args(["-E", form]);
        }
        cmd.args(packet::fields().iter().flat_map(|field| ["-e", field]));
        for variable in ["HOME", "XDG_CONFIG_HOME", "WIRESHARK_CONFIG_DIR"] {
            cmd.env(variable, &self.home);
        }
        let out = cmd
            .envs([("LC_ALL", "C"), ("TZ", "UTC")])
            .output()
            .with_context(|| format!("cannot start `{}`", sh::show(&cmd)))?;
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }
}

/// Reads what tshark printed.
pub fn read(said: &str) -> Result<Lines> {
    let mut lines = Lines::default();
    let mut order: Vec<FlowState> = Vec::new();
    let mut places: HashMap<u64, usize> = HashMap::new();
    for row in said.lines().filter_map(Row::read) {
        let row = row?;
        let place = match places.entry(row.stream) {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(new) => {
                order.push(FlowState::new(&row));
                *new.insert(order.len() - 1)
            }
        };
        order[place].add(&row);
        lines.packets.insert(row.packet.frame, row.packet);
    }
    let mut previous: HashMap<_, usize> = HashMap::new();
    let mut flows: Vec<Flow> = Vec::new();
    for (place, flow) in order.iter().enumerate() {
        let before = previous.insert(flow.ends(), place).map(|at| &order[at]);
        flows.push(flow.line(before));
    }
    lines.flows = flows;
    Ok(lines)
}
