//! The figures here are those of the benchmark's own scripts, number by number; `tests/captures/agreement` has both
//! sides, and `make.py` there made them.

use std::{fs, path::PathBuf};

use serde_json::Value;
use xtask::sh;

use super::{
    OWN,
    folder::{self, Case, Kind},
    judge::figures,
    line::{Lines, text},
    oracle,
    sum::Sum,
};

fn own(path: &str) -> PathBuf {
    sh::root().join(OWN).join(path)
}

/// The labelled captures that have a candidate, and the candidates.
fn spoiled() -> Vec<(Case, Lines)> {
    let cases = folder::cases(&sh::root().join(OWN)).unwrap();
    let candidate = |case: &Case| {
        let name = case.name.strip_prefix("generated/")?.strip_suffix(".pcap.gz")?.replace('/', ".");
        let path = own(&format!("agreement/{name}.jsonl.gz"));
        path.exists().then(|| Lines::read(&path).unwrap())
    };
    cases.into_iter().filter_map(|case| Some((candidate(&case)?, case))).map(|(c, case)| (case, c)).collect()
}

#[test]
fn figures_are_those_of_the_benchmark() {
    let spoiled = spoiled();
    assert_eq!(spoiled.len(), 12);
    let mut sum = Sum::default();
    for (case, candidate) in &spoiled {
        sum.add(&figures(case, &Lines::read(&case.reference).unwrap(), candidate).0);
    }
    let theirs: Value =
        serde_json::from_str(&fs::read_to_string(own("agreement/figures.json")).unwrap()).unwrap();
    let mut compared = 0;
    for (at, classes) in theirs["classes"].as_object().unwrap() {
        let place = super::place::Place::ALL.into_iter().find(|place| place.to_string() == *at);
        assert_eq!(place.is_none(), at == "all");
        for (class, counts) in classes.as_object().unwrap() {
            let ours = sum.class(place, class).unwrap();
            let theirs = ["tp", "fp", "fn"].map(|key| counts[key].as_u64().unwrap());
            assert_eq!([ours.right, ours.added, ours.missed], theirs, "{at} {class}");
            compared += 1;
        }
        let ours = place.map_or(&sum.classes, |place| &sum.places[&place]);
        assert_eq!(ours.len(), classes.as_object().unwrap().len(), "{at}");
    }
    assert!(compared > 35, "{compared}");
    let whole = [
        ("flows", sum.flows.reference),
        ("exact", sum.flows.exact),
        ("core", sum.flows.core),
        ("gap_ok", sum.flows.reused_gap[0]),
        ("gap", sum.flows.reused_gap[1]),
        ("judged", sum.packets[0]),
        ("same", sum.packets[1]),
        ("missing", sum.missing),
    ];
    for (key, ours) in whole {
        assert_eq!(theirs["whole"][key], ours, "{key}");
    }
}

#[test]
fn tshark_is_read_as_the_benchmark_reads_it() {
    let reference =
        "oracle/public/OISF+suricata-verify/tests/tcp-fastopen-10-syn-data-ignore/input.pcap.oracle.jsonl.gz";
    let reference = Lines::read(&own(reference)).unwrap();
    let ours = oracle::read(&text(&own("agreement/tshark.tsv.gz")).unwrap()).unwrap();
    let case =
        folder::cases(&sh::root().join(OWN)).unwrap().into_iter().find(|c| c.kind == Kind::Public).unwrap();
    let (sum, disagreements) = figures(&case, &reference, &ours);
    assert_eq!(disagreements, []);
    assert_eq!((sum.packets, sum.missing, sum.extra, sum.misread), ([52, 52], 0, 0, 0));
    assert_eq!(sum.flows.exact, sum.flows.reference);
    assert!(sum.flows.reference > 0 && sum.flows.handshake_rtt[0] > 0);
    assert_eq!(sum.flows.handshake_rtt[0], sum.flows.handshake_rtt[1]);
    assert_eq!(sum.resets.reason, [2, 2]);
    // Labels of all kinds are there to be lost.
    for (class, least) in [("retransmission", 20), ("reused_ports", 4), ("rst", 2)] {
        assert!(sum.class(None, class).unwrap().right >= least, "{class}");
    }
}

#[test]
fn every_capture_is_its_own_best_candidate() {
    for case in folder::cases(&sh::root().join(OWN)).unwrap() {
        let reference = Lines::read(&case.reference).unwrap();
        let (sum, disagreements) = figures(&case, &reference, &reference);
        assert_eq!(disagreements, [], "{}", case.name);
        assert_eq!((sum.missing, sum.extra, sum.misread), (0, 0, 0), "{}", case.name);
        assert_eq!(sum.flows.exact, sum.flows.reference, "{}", case.name);
    }
}
