//! Restarts without a blind moment: what an agent with `--pin` leaves behind, the next one goes on with.

mod frozen;
mod killed;
mod migrated;
mod owned;
mod stalled;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::sys::cell::Cell;
use harness::agent::{Agent, Launch, left_attached};
use harness::tcp::{self, Dial, Serve, Server};
use harness::topology::{CLIENT, SERVER};
use harness::{Bpffs, Gateway, eventually};
use nix::sys::signal::Signal;

use crate::watch::{DEADLINE, Expected, configuration, eventually_exactly, services};

/// Ends an agent with SIGTERM; its log.
#[track_caller]
fn end(agent: Agent) -> Vec<String> {
    agent.signal(Signal::SIGTERM);
    let (status, log) = agent.wait();
    assert_eq!(status.code(), Some(0), "{log:?}");
    assert!(log.iter().any(|line| line.contains("every program stays attached")), "{log:?}");
    log
}

/// Connections that were opened, and how many of them were met mid-way.
fn opened(syn: u32, late: u32) -> [Expected<'static>; 2] {
    [(&[("by", "syn")], syn), (&[("by", "joined_late")], late)]
}

/// Payload bytes, which all came back.
#[track_caller]
fn echoed(agent: &Agent, bytes: u32) {
    let each: [Expected; 2] = [(&[("from", "client")], bytes), (&[("from", "server")], bytes)];
    eventually_exactly(agent, "payload_bytes_total", &[], &each);
}

/// Where the programs are pinned, and the tables that are theirs alone.
#[track_caller]
fn home(bpffs: &Bpffs) -> PathBuf {
    let pins = bpffs.pins().into_iter().filter(|pin| pin.ends_with("ft_read"));
    let homes: Vec<_> = pins.filter_map(|pin| pin.parent().map(Path::to_owned)).collect();
    let [home] = homes.as_slice() else { panic!("one place for programs, not {homes:?}") };
    home.clone()
}

/// Takes everything off, and sees that nothing is left.
#[track_caller]
fn detach(world: &Gateway, bpffs: &Bpffs) -> String {
    let output = bpffs.run_to_end(&world.gateway, &["detach"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(left_attached(&world.gateway), Vec::<String>::new());
    assert!(!bpffs.ours().exists(), "{:?}", bpffs.pins());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn counts_and_flows_go_on_after_sigkill_and_after_sigterm() {
    let world = Gateway::plan().patient().build();
    let bpffs = Bpffs::new();
    let text = configuration(&format!("limits:\n  handshake_timeout: 1s\n{}", services([("card", 443)])));
    let launch = || bpffs.pin(Launch::configuration(text.clone()));
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let short = |bytes| {
        let mut conn = tcp::connect(&world.client, server.address());
        tcp::echo(&mut conn, bytes);
        conn.half_close();
        assert_eq!(conn.receive_to_end(), 0);
    };

    let first = launch().start(&world.gateway);
    let attached = left_attached(&world.gateway);
    assert_eq!(attached.len(), 4, "{attached:?}");
    let mut long = Dial::default().from((CLIENT.v4, 30_000)).connect(&world.client, server.address());
    tcp::echo(&mut long, 20_000);
    short(1_000);
    // Nobody answers this one: its end is counted by the agent, not by the programs.
    world.server.ip(&format!("route replace blackhole {}/32", CLIENT.v4));
    let dial = Dial::default().deadline(Duration::from_millis(300));
    dial.try_connect(&world.client, (SERVER.v4, 445)).expect_err("its answer is lost");
    world.server.ip(&format!(
        "route del blackhole {0}/32\nroute replace {0}/32 via 10.77.2.1 dev eth0 rto_min 3s\n",
        CLIENT.v4
    ));
    let silent: [Expected; 2] = [(&[("close", "handshake_silence")], 1), (&[("close", "fin_client")], 1)];
    eventually_exactly(&first, "connections_closed_total", &[], &silent);
    // What was counted after a sweep is kept after it: the next sweep's metrics show that it was.
    let swept = |agent: &Agent| agent.metrics().sum("fivetuple_table_entries", &[("table", "half_open4")]);
    eventually(DEADLINE, "the half-open flow to go", || swept(&first) == 0.0);
    first.signal(Signal::SIGKILL);
    let (status, _) = first.wait();
    assert_eq!(status.code(), None, "killed");
    let programs = |lines: &[String]| {
        lines.iter().map(|l| l.split(" id ").next().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(left_attached(&world.gateway), attached, "the same programs");

    tcp::echo(&mut long, 30_000);
    short(2_000);
    let second = launch().start(&world.gateway);
    assert_eq!(left_attached(&world.gateway), attached, "an agent of the same build has no use for others");
    echoed(&second, 53_000);
    eventually_exactly(&second, "connections_opened_total", &[], &opened(4, 0));
    let ended: [Expected; 2] = [(&[("close", "handshake_silence")], 1), (&[("close", "fin_client")], 2)];
    eventually_exactly(&second, "connections_closed_total", &[], &ended);
    let flows = second.get_json("/api/v1/flows?port=30000");
    for flow in flows["flows"].as_array().expect("a list of flows") {
        assert_eq!((&flow["from_client"]["bytes"], &flow["svc"]), (&50_000.into(), &"card".into()), "{flow}");
        assert_eq!(flow["phase"], "established");
    }
    assert_eq!(flows["flows"].as_array().map(Vec::len), Some(2), "{flows}");
    let log = end(second);
    assert!(log.iter().any(|line| line.contains("went on with the tables")), "{log:?}");
    assert_eq!(left_attached(&world.gateway), attached);

    // As if another build had left them.
    let own = bpffs.path().join(home(&bpffs));
    fs::rename(&own, own.with_file_name("programs-0000000000000000")).expect("pins can be moved");
    short(4_000);
    let third = launch().start(&world.gateway);
    let replaced = left_attached(&world.gateway);
    assert_eq!(programs(&replaced), programs(&attached));
    assert_ne!(replaced, attached, "by programs of its own");
    assert_eq!(bpffs.path().join(home(&bpffs)), own, "those of the other build are gone");
    tcp::echo(&mut long, 100);
    echoed(&third, 57_100);
    eventually_exactly(&third, "connections_opened_total", &[], &opened(5, 0));
    eventually_exactly(&third, "resets_total", &[], &[]);
    eventually_exactly(&third, "gaps_total", &[], &[]);
    let metrics = third.metrics();
    let [submitted, received, lost] = ["submitted", "received", "lost"]
        .map(|what| metrics.get(&format!("fivetuple_ring_{what}_total"), &[]));
    assert_eq!(submitted, received + lost, "every record is accounted for");
    end(third);

    // As if a start had been broken off while it pinned them; what has a name of its own there is in nobody's way.
    let stranger = own.join("stranger");
    Cell::holding(&[1]).and_then(|cell| cell.pin(&stranger)).expect("a map can be pinned");
    fs::remove_file(own.join("ft_take")).expect("pins can be removed");
    let fourth = launch().start(&world.gateway);
    tcp::echo(&mut long, 100);
    echoed(&fourth, 57_200);
    assert!(own.join("ft_take").exists() && stranger.exists(), "{:?}", bpffs.pins());
    end(fourth);
    let said = detach(&world, &bpffs);
    for words in ["outside: took ft_tc_in off tcx", "inside: took ft_tc_out off tcx", "removed the tables"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    let again = detach(&world, &bpffs);
    assert!(again.contains("nothing of fivetuple's"), "{again}");
}

/// As before Linux 6.6: filters outlive the agent by themselves, and are replaced where they are.
#[test]
fn filters_are_taken_over_where_there_is_no_tcx() {
    let world = Gateway::plan().patient().build();
    let bpffs = Bpffs::new();
    let launch = || bpffs.pin(Launch::configuration(configuration(""))).without(harness::agent::Without::Tcx);
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let first = launch().start(&world.gateway);
    let mut conn = tcp::connect(&world.client, server.address());
    tcp::echo(&mut conn, 1_000);
    end(first);
    tcp::echo(&mut conn, 2_000);
    let second = launch().start(&world.gateway);
    tcp::echo(&mut conn, 3_000);
    echoed(&second, 6_000);
    eventually_exactly(&second, "connections_opened_total", &[], &opened(1, 0));
    end(second);
    let output = bpffs.run_to_end(&world.gateway, &["detach"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("outside: took the ingress filter off"), "{said}");
    // A stranger may use the qdisc: it stays, as without pins.
    assert_eq!(left_attached(&world.gateway), ["outside: qdisc clsact", "inside: qdisc clsact"]);
    assert_eq!(bpffs.pins(), Vec::<PathBuf>::new());
}

#[test]
fn xdp_programs_are_taken_over() {
    let world = Gateway::plan().patient().build();
    let bpffs = Bpffs::new();
    let text = configuration("").replacen("name: outside\n", "name: outside\n    ingress: xdp\n", 1);
    let launch = |text: &str| bpffs.pin(Launch::configuration(text));
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    drop(launch(&text).start(&world.gateway));
    let mut conn = tcp::connect(&world.client, server.address());
    tcp::echo(&mut conn, 1_000);
    let second = launch(&text).start(&world.gateway);
    tcp::echo(&mut conn, 2_000);
    echoed(&second, 3_000);
    eventually_exactly(&second, "connections_opened_total", &[], &opened(1, 0));
    drop(second);
    // The other hook: never both.
    let third = launch(&configuration("")).start(&world.gateway);
    let attached = left_attached(&world.gateway);
    assert!(attached.len() == 4 && attached.iter().all(|line| line.contains("tcx")), "{attached:?}");
    tcp::echo(&mut conn, 4_000);
    echoed(&third, 7_000);
    drop(third);
    detach(&world, &bpffs);
}
