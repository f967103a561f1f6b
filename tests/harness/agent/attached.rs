//! Which programs hang on the interfaces of a namespace, as the kernel and its own tools say; and which of a process's
//! programs and maps the kernel still has.

use std::fs;

use agent::sys::program::program_name;
use aya::maps::MapInfo;
use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use nix::unistd::Pid;
use serde_json::Value;

use crate::netns::NetNs;

/// Every XDP program, tcx program, tc filter and clsact qdisc in the namespace, one line each; empty when nothing is
/// attached.
#[track_caller]
pub fn left_attached(namespace: &NetNs) -> Vec<String> {
    let mut found = Vec::new();
    for link in json(&namespace.exec("ip -j -d link show")) {
        let name = link["ifname"].as_str().expect("a link has a name").to_owned();
        if !link["xdp"].is_null() {
            found.push(format!("{name}: xdp {}", link["xdp"]));
        }
        found.extend(tcx(namespace, &name));
        found.extend(clsact(namespace, &name));
    }
    found
}

/// The programs and maps that a process has open, by the kernel's numbers, which are not given twice.
pub struct Loaded {
    programs: Vec<u32>,
    maps: Vec<u32>,
}

impl Loaded {
    /// What this process has open now.
    #[track_caller]
    pub fn by(process: Pid) -> Self {
        let (mut programs, mut maps) = (Vec::new(), Vec::new());
        for file in fs::read_dir(format!("/proc/{process}/fdinfo")).expect("the process runs") {
            let text = fs::read_to_string(file.expect("a descriptor").path()).unwrap_or_default();
            for (key, numbers) in [("prog_id:", &mut programs), ("map_id:", &mut maps)] {
                let line = text.lines().find_map(|line| line.strip_prefix(key));
                numbers.extend(line.and_then(|number| number.trim().parse::<u32>().ok()));
            }
        }
        Self { programs, maps }
    }

    /// How many maps.
    pub fn maps(&self) -> usize {
        self.maps.len()
    }

    /// What of it the kernel still has, whoever holds it now.
    pub fn left(&self) -> Vec<String> {
        let programs = self.programs.iter().filter_map(|id| program_name(*id).ok());
        let maps = self.maps.iter().filter_map(|id| MapInfo::from_id(*id).ok());
        let maps = maps.map(|map| map.name_as_str().unwrap_or("?").to_owned());
        programs.map(|name| format!("program {name}")).chain(maps.map(|name| format!("map {name}"))).collect()
    }
}

fn tcx(namespace: &NetNs, interface: &str) -> Vec<String> {
    let sides = [(TcAttachType::Ingress, "ingress"), (TcAttachType::Egress, "egress")];
    let queried =
        namespace.run(|| sides.map(|(side, name)| (SchedClassifier::query_tcx(interface, side), name)));
    let mut found = Vec::new();
    for (answer, side) in queried {
        // A kernel without tcx (before 6.6) refuses the question, and then nothing can be attached that way.
        let Ok((_, programs)) = answer else { continue };
        for program in programs {
            let name = program.name_as_str().unwrap_or("?");
            found.push(format!("{interface}: tcx {side} {name} id {}", program.id()));
        }
    }
    found
}

fn clsact(namespace: &NetNs, interface: &str) -> Vec<String> {
    let qdiscs = json(&namespace.exec(&format!("tc -j qdisc show dev {interface}")));
    if !qdiscs.iter().any(|qdisc| qdisc["kind"] == "clsact") {
        return Vec::new();
    }
    let mut found = vec![format!("{interface}: qdisc clsact")];
    for side in ["ingress", "egress"] {
        for filter in json(&namespace.exec(&format!("tc -j filter show dev {interface} {side}"))) {
            // A filter is listed twice: once as the head of its priority, once with what it does.
            if !filter["options"].is_null() {
                found.push(format!("{interface}: tc {side} {} {}", filter["kind"], filter["options"]));
            }
        }
    }
    found
}

/// A list that one of these tools printed; they print nothing at all for an empty one.
#[track_caller]
fn json(text: &str) -> Vec<Value> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    serde_json::from_str(text).unwrap_or_else(|error| panic!("this is no list of JSON ({error}): {text}"))
}
