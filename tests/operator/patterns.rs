//! What a pattern takes: interfaces come and go while the agent runs, are watched at once, and leave nothing behind.

use std::io::ErrorKind;
use std::net::Ipv4Addr;

use harness::agent::{Agent, Launch, left_attached};
use harness::{Bpffs, NetNs, Pair, eventually, tcp::Dial};
use nix::sys::signal::Signal;

use crate::interfaces::{AT_ONCE, SOON, watched};
use crate::news::News;
use crate::watch::DEADLINE;

/// The left end of each wire.
pub const HERE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

/// Plugs a wire from one host into another, and gives its ends addresses, the same each time.
#[track_caller]
pub fn plug(pair: &Pair, name: &str) {
    let other = pair.right.name();
    pair.left.ip(&format!("link add {name} type veth peer name other netns {other}"));
    for (end, interface, address) in [(&pair.right, "other", THERE), (&pair.left, name, HERE)] {
        end.ip(&format!("addr add {address}/24 dev {interface}\nlink set {interface} up\n"));
    }
}

/// Tries a port that nobody listens at, always from the same one: a SYN and an RST pass.
#[track_caller]
pub fn be_refused(pair: &Pair) {
    let tried = Dial::default().from((THERE, 40_000)).try_connect(&pair.right, (HERE, 81));
    assert_eq!(tried.expect_err("nobody listens").kind(), ErrorKind::ConnectionRefused);
}

/// Waits until a point has so many refusals, and nothing that only a connection before it could have made.
#[track_caller]
pub fn refused(agent: &Agent, point: &str, count: f64) {
    let of = |family: &str, label| agent.metrics().sum(family, &[("point", point), label]);
    eventually(DEADLINE, &format!("{count} refusals at {point}"), || {
        let there = of("fivetuple_tcp_resets_total", ("from", "server"));
        if there == count { Ok(()) } else { Err(there) }
    });
    assert_eq!(of("fivetuple_tcp_segments_total", ("svc", "other")), 2.0 * count);
    assert_eq!(of("fivetuple_tcp_connections_opened_total", ("by", "syn")), count);
}

/// Waits until nobody speaks of a point's programs.
#[track_caller]
pub fn unasked(agent: &Agent, point: &str) {
    eventually(AT_ONCE, &format!("{point} to be asked for no more"), || {
        agent.metrics().count("fivetuple_attached", &[("point", point)]) == 0
    });
}

#[test]
fn what_comes_later_is_watched_at_once_and_let_go_of() {
    let pair = Pair::new();
    let agent = Launch::interfaces(&["veth*", "!veth-x"]).start(&pair.left);
    assert!(agent.log().iter().any(|l| l.contains("no interface is there that is asked for")));
    plug(&pair, "veth-x");
    pair.left.ip("link del veth-x");

    plug(&pair, "veth7");
    watched(&agent, "veth7", 2.0, AT_ONCE);
    assert_eq!(left_attached(&pair.left).len(), 2, "and nothing else");
    be_refused(&pair);
    refused(&agent, "veth7", 1.0);

    // Down it stays what it is.
    let attached = left_attached(&pair.left);
    pair.left.ip("link set veth7 down\nlink set veth7 up\n");
    be_refused(&pair);
    refused(&agent, "veth7", 2.0);
    assert_eq!(left_attached(&pair.left), attached, "the same programs");

    // Its counts outlive it, and its programs do not; when it comes back it counts on.
    pair.left.ip("link del veth7");
    unasked(&agent, "veth7");
    refused(&agent, "veth7", 2.0);
    assert!(agent.get("/-/ready?verbose").contains("ring"), "and the agent is ready");
    plug(&pair, "veth7");
    watched(&agent, "veth7", 2.0, AT_ONCE);
    be_refused(&pair);
    refused(&agent, "veth7", 3.0);
    let wrong = |l: &&String| l.contains("level=error") || l.contains("changed in the configuration");
    assert_eq!(agent.log().iter().filter(wrong).count(), 0, "{:?}", agent.log());

    // Under another name it is another point, from 0 on.
    pair.left.ip("link set veth7 down\nlink set veth7 name veth8\n");
    watched(&agent, "veth8", 2.0, AT_ONCE);
    unasked(&agent, "veth7");
    assert_eq!(left_attached(&pair.left).len(), 2);
    pair.left.ip(&format!("link set veth8 up\naddr replace {HERE}/24 dev veth8\n"));
    be_refused(&pair);
    refused(&agent, "veth8", 1.0);
    refused(&agent, "veth7", 3.0);
    agent.stop();
}

/// Many more than there is room for at once, all with the same connection: no name gets what another one counted, and
/// neither series nor tables nor descriptors grow.
#[test]
fn hundreds_that_come_and_go_leave_nothing_behind() {
    const ROUNDS: usize = 25;
    const AT_A_TIME: usize = 8;
    let pair = Pair::new();
    let agent = Launch::interfaces(&["veth*"]).start(&pair.left);
    let mut first = None;
    for round in 0..ROUNDS {
        let names: Vec<_> = (0..AT_A_TIME).map(|n| format!("veth{round}x{n}")).collect();
        plug(&pair, &names[0]);
        let more = names[1..].iter().enumerate();
        let more =
            more.map(|(n, name)| format!("link add {name} type veth peer name v{n}\nlink set {name} up\n"));
        pair.left.ip(&more.collect::<String>());
        eventually(SOON, "all of them to be watched", || {
            let metrics = agent.metrics();
            let there = metrics.sum("fivetuple_attached", &[]);
            if there == 2.0 * AT_A_TIME as f64 { Ok(()) } else { Err(format!("{there} {:?}", agent.log())) }
        });
        be_refused(&pair);
        refused(&agent, &names[0], 1.0);
        let metrics = agent.metrics();
        assert_eq!(metrics.sum("fivetuple_tcp_five_tuple_reuses_total", &[("point", &names[0])]), 0.0);
        // How alerts stand shows only once they were judged.
        let series = metrics.len() - metrics.count("fivetuple_alert_state", &[]);
        let sizes = (series, metrics.sum("process_open_fds", &[]), maps(&agent));
        assert_eq!(first.get_or_insert(sizes), &sizes, "round {round}: series, descriptors, maps");
        let delete = names.iter().map(|name| format!("link del {name}\n"));
        pair.left.ip(&delete.collect::<String>());
        eventually(AT_ONCE, "all of them to be let go of", || {
            agent.metrics().count("fivetuple_attached", &[]) == 0
        });
    }
    let metrics = agent.metrics();
    assert_eq!(metrics.sum("fivetuple_interfaces_without_point", &[]), 0.0);
    assert_eq!(metrics.sum("fivetuple_points_ended_early_total", &[]), ((ROUNDS - 1) * AT_A_TIME) as f64);
    let ring = |what: &str| metrics.get(&format!("fivetuple_ring_{what}_total"), &[]);
    assert_eq!((ring("submitted"), ring("lost")), (ring("received"), 0.0));
    assert!(ring("received") >= ROUNDS as f64, "also of those whose series have ended");
    agent.stop();
}

/// Maps and links that an agent holds.
fn maps(agent: &Agent) -> usize {
    let entries = std::fs::read_dir(format!("/proc/{}/fdinfo", agent.pid())).expect("the process is there");
    let text = entries.flatten().map(|entry| std::fs::read_to_string(entry.path()).unwrap_or_default());
    text.filter(|text| text.contains("map_id:") || text.contains("link_id:")).count()
}

#[test]
fn those_there_is_no_room_for_are_told_of_and_take_the_next_place() {
    let pair = Pair::new();
    let agent = Launch::interfaces(&["veth*"]).start(&pair.left);
    let add =
        |n: u32| pair.left.ip(&format!("link add veth{n} type veth peer name v{n}\nlink set veth{n} up\n"));
    (0..9).for_each(add);
    let waiting = |count| {
        eventually(SOON, &format!("{count} to wait"), || {
            let metrics = agent.metrics();
            let there = metrics.sum("fivetuple_interfaces_without_point", &[]);
            let attached = metrics.sum("fivetuple_attached", &[]);
            if (there, attached) == (count, 16.0) { Ok(()) } else { Err(format!("{there}, and {attached}")) }
        });
    };
    waiting(1.0);
    let answer = agent.request("GET", "/-/ready?verbose");
    assert!(answer.status == 503 && answer.body.contains("there is room for 8 points"), "{answer:?}");
    assert_eq!(agent.log().iter().filter(|l| l.contains("a restart makes room for more")).count(), 1);
    pair.left.ip("link del veth3");
    waiting(0.0);
    assert_eq!(agent.request("GET", "/-/ready").status, 200);
    agent.stop();
}

#[test]
fn the_next_agent_goes_on_with_the_numbers_of_those_that_came() {
    let (pair, bpffs) = (Pair::new(), Bpffs::new());
    let launch = || bpffs.pin(Launch::interfaces(&["veth*"]));
    let first = launch().start(&pair.left);
    plug(&pair, "veth1");
    watched(&first, "veth1", 2.0, AT_ONCE);
    be_refused(&pair);
    refused(&first, "veth1", 1.0);
    first.signal(Signal::SIGKILL);
    first.wait();
    be_refused(&pair);

    // While nobody is there one goes and another one comes.
    let second = launch().start(&pair.left);
    refused(&second, "veth1", 2.0);
    second.signal(Signal::SIGKILL);
    second.wait();
    pair.left.ip("link del veth1");
    plug(&pair, "veth2");
    let third = launch().start(&pair.left);
    assert!(third.log().iter().any(|l| l.contains("went on with the tables")), "{:?}", third.log());
    assert!(!third.log().iter().any(|l| l.contains("migrated")), "{:?}", third.log());
    watched(&third, "veth2", 2.0, AT_ONCE);
    unasked(&third, "veth1");
    be_refused(&pair);
    refused(&third, "veth2", 1.0);
    refused(&third, "veth1", 2.0);
    let links = || bpffs.pins().iter().filter(|pin| pin.to_string_lossy().contains("/links/")).count();
    assert_eq!(links(), 2, "{:?}", bpffs.pins());
    let generations = || bpffs.pins().iter().filter(|pin| pin.ends_with("DESCRIPTION")).count();
    assert_eq!(generations(), 1);

    // As many as there is room for, twice: numbers are given anew, under pins as well.
    for round in 0..2 {
        let names: Vec<_> = (0..7).map(|n| format!("veth{round}y{n}")).collect();
        let add = names
            .iter()
            .map(|name| format!("link add {name} type veth peer name p{name}\nlink set {name} up\n"));
        pair.left.ip(&add.collect::<String>());
        eventually(SOON, "all of them to be watched", || {
            let there = third.metrics().sum("fivetuple_attached", &[]);
            if there == 16.0 { Ok(()) } else { Err(there) }
        });
        assert_eq!(links(), 16);
        pair.left.ip(&names.iter().map(|name| format!("link del {name}\n")).collect::<String>());
        eventually(AT_ONCE, "them to be let go of", || links() == 2);
    }
    refused(&third, "veth2", 1.0);
    third.signal(Signal::SIGTERM);
    third.wait();
    let fourth = launch().start(&pair.left);
    refused(&fourth, "veth2", 1.0);
    fourth.signal(Signal::SIGTERM);
    fourth.wait();
    assert!(bpffs.run_to_end(&pair.left, &["detach"]).status.success());
    assert_eq!(left_attached(&pair.left), Vec::<String>::new());
}

#[test]
fn what_another_one_sees_is_let_go_of_and_taken_again() {
    let pair = Pair::new();
    pair.left.ip("link add br0 type bridge\nlink set br0 up\nlink add veth0 type veth peer name v0\n");
    pair.left.ip("link set veth0 up\n");
    let by_pattern = Launch::interfaces(&["br*", "veth*"]).start(&pair.left);
    let by_name =
        Launch::interfaces(&["br0", "veth*"]).without(harness::agent::Without::Tcx).start(&pair.left);
    let twice = |agent: &Agent, value: Option<f64>| {
        eventually(AT_ONCE, &format!("br0 to be watched twice: {value:?}"), || {
            let metrics = agent.metrics();
            let labels = [("interface", "br0"), ("at", "veth0")];
            let there = metrics.matching("fivetuple_watched_twice", &labels).map(|(_, value)| value).next();
            if there == value { Ok(()) } else { Err(format!("{there:?}")) }
        });
    };
    watched(&by_pattern, "br0", 2.0, AT_ONCE);
    twice(&by_pattern, None);

    pair.left.ip("link set veth0 master br0");
    unasked(&by_pattern, "br0");
    twice(&by_pattern, Some(0.0));
    assert!(
        by_pattern
            .log()
            .iter()
            .any(|l| l.contains("br0 is not watched: all that passes it is seen at veth0"))
    );
    twice(&by_name, Some(1.0));
    watched(&by_name, "br0", 2.0, AT_ONCE);

    pair.left.ip("link set veth0 nomaster");
    watched(&by_pattern, "br0", 2.0, AT_ONCE);
    for agent in [&by_pattern, &by_name] {
        twice(agent, None);
        watched(agent, "veth0", 2.0, AT_ONCE);
    }
    by_name.signal(Signal::SIGTERM);
    assert_eq!(by_name.wait().0.code(), Some(0));
    by_pattern.signal(Signal::SIGTERM);
    assert_eq!(by_pattern.wait().0.code(), Some(0));
}

/// The kernel tells only of so many changes as there is room for in the agent's socket; and where it tells of none at all,
/// the agent looks by itself.
#[test]
fn news_that_are_lost_are_made_up_for() {
    let namespace = NetNs::new("news");
    let agent = Launch::interfaces(&["veth*"]).start(&namespace);
    let add = |n| namespace.ip(&format!("link add veth{n} type veth peer name v{n}\nlink set veth{n} up\n"));
    let news = News::of(&agent);
    news.leave_room_for_one();
    agent.signal(Signal::SIGSTOP);
    add(0);
    assert!(news.lost() > 0, "some of what the kernel told found no room");
    agent.signal(Signal::SIGCONT);
    watched(&agent, "veth0", 2.0, AT_ONCE);

    news.keep_back();
    add(1);
    watched(&agent, "veth1", 2.0, SOON);
    namespace.ip("link del veth1");
    eventually(SOON, "veth1 to be let go of", || {
        agent.metrics().count("fivetuple_attached", &[("point", "veth1")]) == 0
    });
    agent.stop();
}
