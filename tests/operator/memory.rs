//! Memory that the operator allows for: the kernel's tables keep to it. And where the host tells less about itself.

use std::collections::HashMap;
use std::fs;

use harness::agent::{Launch, run_to_end};
use harness::tcp::{self, Serve, Server};
use harness::topology::SERVER;
use harness::{Gateway, NetNs};
use nix::unistd::Pid;

use crate::watch::{POINTS, configuration, eventually_exactly, watch};

/// Bytes that the kernel counts for the maps of a process.
fn memory_of(pid: Pid) -> u64 {
    let mut maps = HashMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("the process is there") {
        let info = fs::read_to_string(entry.expect("a descriptor").path()).unwrap_or_default();
        let field = |name: &str| -> Option<u64> {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
        };
        if let (Some(id), Some(bytes)) = (field("map_id"), field("memlock")) {
            maps.insert(id, bytes);
        }
    }
    maps.values().sum()
}

#[test]
fn tables_keep_to_the_memory_that_is_given() {
    let world = Gateway::new();
    for (mib, more) in [(16, ""), (96, "  closed: 20_000\n")] {
        let agent = watch(&world, &format!("tables:\n  memory: {mib}MiB\n{more}"));
        let (used, given) = (memory_of(agent.pid()), mib << 20);
        // What is at most needed is not always needed: the services' table takes memory for what is in it only.
        assert!(used <= given && used > given / 10 * 8, "{used} of {given} bytes");
        let metrics = agent.metrics();
        let capacity = |table| metrics.get("fivetuple_table_capacity", &[("table", table)]);
        let said = agent.log().into_iter().find(|line| line.contains("the tables are made")).expect("told");
        let flows = format!("flows {}, ", capacity("flows4"));
        assert!(said.contains(&flows), "{flows:?} is not in {said}");
        if !more.is_empty() {
            assert_eq!(capacity("closed4"), 20_000.0);
        }
        agent.stop();
    }
}

#[test]
fn memory_that_is_too_little_is_refused_with_what_would_do() {
    let namespace = NetNs::new("memory");
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    fs::write(file.path(), "interfaces: [{name: lo}]\ntables:\n  memory: 100KiB\n")
        .expect("it can be written");
    let path = format!("--config.file={}", file.path().display());
    let output = run_to_end(&namespace, &["run", &path]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("line 3: tables.memory: is too little: ") && said.contains("at least "), "{said}");
}

/// As in a container that has no /sys: the number of processors is told elsewhere, and nothing is missed.
#[test]
fn without_sys_it_counts_the_same() {
    let world = Gateway::new();
    let agent = Launch::configuration(configuration(""))
        .under(&["unshare", "--mount", "sh", "-c", "umount -l /sys && exec \"$@\"", "sh"])
        .start(&world.gateway);
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let mut conn = tcp::connect(&world.client, server.address());
    tcp::echo(&mut conn, 3_000);
    let sides: [&[(&str, &str)]; 2] = [&[("from", "client")], &[("from", "server")]];
    eventually_exactly(&agent, "payload_bytes_total", &[], &[(sides[0], 3_000), (sides[1], 3_000)]);
    assert_eq!(agent.metrics().sum("fivetuple_attached", &[]), 2.0 * POINTS.len() as f64);
    let wrong = agent.log().into_iter().filter(|line| line.contains("level=error")).collect::<Vec<_>>();
    assert_eq!(wrong, Vec::<String>::new());
    agent.stop();
}
