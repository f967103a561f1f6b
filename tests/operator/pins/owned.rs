//! Who owns pins, and what becomes of those that nobody owns.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;

use agent::sys::cell::Cell;
use agent::sys::pin;
use harness::agent::{Launch, left_attached};
use harness::{Bpffs, Gateway, eventually};
use serde_json::Value;

use super::{detach, end};
use crate::foreign::{Hook, attach};
use crate::watch::{DEADLINE, POINTS, configuration};

/// How often an agent is killed and its interface replaced.
const ROUNDS: u32 = 100;

/// Starts an agent that must not start; what it says.
#[track_caller]
fn refused(world: &Gateway, launch: Launch) -> String {
    let (status, log) = launch.spawn(&world.gateway).wait();
    assert_eq!(status.code(), Some(1), "{log:?}");
    log.join("\n")
}

#[test]
fn a_second_agent_is_refused_with_the_first_one_s_process() {
    let world = Gateway::new();
    let bpffs = Bpffs::new();
    let launch = || bpffs.pin(Launch::configuration(configuration("")));
    let first = launch().start(&world.gateway);
    let pins = bpffs.pins();
    let mode = fs::metadata(bpffs.ours()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o077, 0, "nobody else may open our tables: {mode:o}");
    let said = refused(&world, launch());
    assert!(
        said.contains(&format!("process {}", first.pid())) && said.contains("one agent at a time"),
        "{said}"
    );
    let output = bpffs.run_to_end(&world.gateway, &["detach"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains(&format!("process {}", first.pid())), "{said}");
    assert_eq!(bpffs.pins(), pins, "both touched nothing");
    end(first);
    detach(&world, &bpffs);
}

#[test]
fn what_is_not_ours_is_refused_and_stays() {
    let world = Gateway::new();
    let bpffs = Bpffs::new();
    let launch = || bpffs.pin(Launch::configuration(configuration("")));
    end(launch().start(&world.gateway));
    let at = |name: &str| {
        let pin = bpffs.pins().into_iter().find(|pin| pin.ends_with(name));
        bpffs.path().join(pin.unwrap_or_else(|| panic!("no {name} in {:?}", bpffs.pins())))
    };

    // A table, with one of a stranger in its place.
    let (place, aside) = (at("FLOWS4"), at("FLOWS4").with_file_name("aside"));
    fs::rename(&place, &aside).expect("pins can be moved");
    Cell::holding(&[1, 2, 3, 4]).and_then(|cell| cell.pin(&place)).expect("a map can be pinned");
    let said = refused(&world, launch());
    for words in
        ["FLOWS4 is not ours", "a map of type 2 with keys of 4 and values of 4 bytes", "fivetuple detach"]
    {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    assert_eq!(Cell::pinned(&place).ok().flatten().and_then(|cell| cell.get().ok()), Some(vec![1, 2, 3, 4]));
    fs::rename(&aside, &place).expect("pins can be moved");

    // A program with another one in its place, and one that counts in other tables.
    let (place, aside) = (at("ft_take"), at("ft_take").with_file_name("aside"));
    fs::rename(&place, &aside).expect("pins can be moved");
    pin::get(&at("ft_read"))
        .and_then(|fd| pin::put(fd.expect("it is there").as_fd(), &place))
        .expect("a program can be pinned twice");
    let said = refused(&world, launch());
    assert!(
        said.contains("ft_take is not ours")
            && said.contains("it is another program")
            && said.contains("ft_read"),
        "{said}"
    );
    fs::remove_file(&place).expect("pins can be removed");
    let elsewhere = Bpffs::new();
    end(elsewhere.pin(Launch::configuration(configuration(""))).start(&Gateway::new().gateway));
    let pins = elsewhere.pins();
    let other = pins.iter().find(|pin| pin.ends_with("ft_take")).expect("that one has one, too");
    pin::get(&elsewhere.path().join(other))
        .and_then(|fd| pin::put(fd.expect("it is there").as_fd(), &place))
        .expect("a program can be pinned twice");
    let said = refused(&world, launch());
    assert!(said.contains("ft_take is not ours") && said.contains("it counts in other tables"), "{said}");
    fs::rename(&aside, &place).expect("pins can be moved");
    drop(elsewhere);

    // A link, with a map in its place.
    let (place, aside) = (at_link(&world, &bpffs), at_link(&world, &bpffs).with_file_name("aside"));
    fs::rename(&place, &aside).expect("pins can be moved");
    Cell::holding(&[1]).and_then(|cell| cell.pin(&place)).expect("a map can be pinned");
    let said = refused(&world, launch());
    assert!(said.contains("is not ours: it is no link"), "{said}");
    // And links of a stranger: on another interface, and on the same one in the other direction.
    for (interface, hook, why) in [
        ("inside", Hook::TcxEgress, "it is on interface number "),
        ("outside", Hook::TcxIngress, "(ingress), not at egress"),
    ] {
        fs::remove_file(&place).expect("pins can be removed");
        let stranger = attach(&world.gateway, interface, hook);
        pin::put(stranger.as_fd(), &place).expect("a link can be pinned");
        let before = left_attached(&world.gateway);
        let said = refused(&world, launch());
        assert!(said.contains("is not ours: ") && said.contains(why), "{said}");
        let strangers =
            |all: &[String]| all.iter().filter(|line| !line.contains(" ft_")).cloned().collect::<Vec<_>>();
        assert_eq!(strangers(&left_attached(&world.gateway)), strangers(&before), "it has its program still");
    }
    fs::rename(&aside, &place).expect("pins can be moved");
    eventually(DEADLINE, "the strangers to go", || left_attached(&world.gateway).len() == 4);

    // Another layout: both versions are named, and nothing begins at zero.
    let description = at("DESCRIPTION");
    let cell = Cell::pinned(&description).ok().flatten().expect("there is a description");
    let whole = cell.get().expect("it can be read");
    let mut older: Value = serde_json::from_slice(&whole).expect("it is JSON");
    (older["layout"], older["agent"]) = (1.into(), "0.0.9".into());
    let write = |text: &[u8]| Cell::holding(text).and_then(|cell| cell.pin(&description));
    write(older.to_string().as_bytes()).expect("it can be replaced");
    let said = refused(&world, launch());
    for words in ["fivetuple 0.0.9 (layout 00000001)", env!("CARGO_PKG_VERSION"), "fivetuple detach"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    assert_eq!(left_attached(&world.gateway).len(), 4, "the programs count on");

    write(&whole).expect("it can be replaced");
    // What has a name of its own is in nobody's way.
    let stranger = attach(&world.gateway, "inside", Hook::TcxEgress);
    let place = at_link(&world, &bpffs).with_file_name("stranger");
    pin::put(stranger.as_fd(), &place).expect("a link can be pinned");
    let log = end(launch().start(&world.gateway));
    assert!(
        log.iter().any(|line| line.contains("left alone") && line.contains("stranger is not ours")),
        "{log:?}"
    );
    assert!(
        place.exists() && left_attached(&world.gateway).len() == 5,
        "{:?}",
        left_attached(&world.gateway)
    );
    fs::remove_file(&place).expect("pins can be removed");
    drop(stranger);
    eventually(DEADLINE, "the stranger to go", || left_attached(&world.gateway).len() == 4);
    detach(&world, &bpffs);
}

fn at_link(world: &Gateway, bpffs: &Bpffs) -> std::path::PathBuf {
    let index = world.gateway.run(|| nix::net::if_::if_nametoindex("outside")).expect("it is there");
    let pin = bpffs.pins().into_iter().find(|pin| pin.ends_with(format!("{index}-ft_tc_out")));
    bpffs.path().join(pin.expect("egress is pinned"))
}

#[test]
fn pins_of_interfaces_that_are_gone_are_removed() {
    let world = Gateway::new();
    let bpffs = Bpffs::new();
    let launch = || bpffs.pin(Launch::configuration(configuration("")));
    let links =
        || bpffs.pins().iter().filter(|pin| pin.parent().is_some_and(|p| p.ends_with("links"))).count();
    let count = |agent: &harness::agent::Agent| {
        POINTS.map(|p| agent.metrics().sum("fivetuple_attached", &[("point", p)]))
    };
    drop(launch().start(&world.gateway));
    assert_eq!(links(), 4);
    // Another interface of the same name, while no agent is there.
    let replace = || {
        world.gateway.ip("link del outside");
        world
            .gateway
            .ip("link add outside type veth peer name other\nlink set outside up\nlink set other up\n");
    };
    replace();
    // A start that was never finished: tables, and no description.
    let place = bpffs.pins().into_iter().find(|pin| pin.ends_with("FLOWS4")).expect("it is pinned");
    let place = bpffs.path().join(place);
    let unfinished = place.ancestors().nth(2).expect("it is far down").join("generation-9");
    fs::create_dir(&unfinished).expect("a directory can be made");

    let second = launch().start(&world.gateway);
    eventually(DEADLINE, "both to be watched", || count(&second) == [2.0, 2.0]);
    assert_eq!((links(), unfinished.exists()), (4, false), "{:?}", bpffs.pins());
    let log = second.log();
    assert_eq!(log.iter().filter(|l| l.contains("of no use any more")).count(), 2, "{log:?}");
    // Killed over and over: never more than one of each.
    let pins = bpffs.pins().len();
    let mut last = second;
    for _ in 1..ROUNDS {
        drop(last);
        replace();
        last = launch().start(&world.gateway);
        eventually(DEADLINE, "both to be watched", || count(&last) == [2.0, 2.0]);
        assert_eq!((links(), bpffs.pins().len()), (4, pins), "{:?}", bpffs.pins());
    }
    world.gateway.ip("link del outside");
    eventually(DEADLINE, "the outside to be let go of", || links() == 2);
    end(last);
    assert!(detach(&world, &bpffs).contains("inside: took ft_tc_in off tcx"));
}

#[test]
fn without_a_place_for_pins_it_works_and_says_what_that_costs() {
    let world = Gateway::new();
    let nothing = "mount -t tmpfs none /sys/fs/bpf && exec \"$0\" \"$@\"";
    let read_only = "mount -t bpf -o ro none /sys/fs/bpf && exec \"$0\" \"$@\"";
    for (script, why) in [(nothing, "no bpf file system"), (read_only, "Read-only file system")] {
        let launch = Launch::configuration(configuration("")).argument("--pin");
        let agent = launch.under(&["unshare", "--mount", "sh", "-c", script]).start(&world.gateway);
        let warned = agent.log().into_iter().filter(|line| line.contains("level=warn")).collect::<Vec<_>>();
        assert_eq!(warned.len(), 1, "{warned:?}");
        for words in [why, "nothing is counted", "totals begin at 0", "joined late"] {
            assert!(warned[0].contains(words), "{words} is not in {warned:?}");
        }
        agent.stop();
    }
}
