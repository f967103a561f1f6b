//! The units, as systemd judges them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::package::run;

/// The agent's, and the one that keeps what outlives the agent.
const UNITS: [&str; 2] = ["fivetuple.service", "fivetuple-pins.service"];

fn path(unit: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(unit)
}

/// 0 is a service that can do nothing, 10 one that can do everything.
#[test]
fn their_exposure_is_at_most_2() {
    for unit in UNITS {
        let mut cmd = Command::new("systemd-analyze");
        let said = run(cmd.args(["security", "--offline=yes", "--no-pager"]).arg(path(unit)));
        let score = said.lines().find_map(|line| line.split_once(&format!("exposure level for {unit}: ")));
        let score: Option<f64> = score.and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        assert!(score.is_some_and(|score| score <= 2.0), "{said}");
    }
}

/// Every line is understood, and what the units call is there; our own program need not be.
#[test]
fn they_are_understood() {
    let directory = tempfile::tempdir().unwrap();
    let copies = UNITS.map(|unit| {
        let text = fs::read_to_string(path(unit)).unwrap();
        assert!(text.contains("=/usr/bin/fivetuple "), "{text}");
        let copy = directory.path().join(unit);
        fs::write(&copy, text.replace("=/usr/bin/fivetuple ", "=/bin/true ")).unwrap();
        copy
    });
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&copies).output();
    let output = output.expect("systemd-analyze is missing: run `cargo xtask setup`");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // It looks at the units that these need as well; their faults are not ours.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("fivetuple")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}

/// What the one makes and takes away is what the other sees, and it goes with the other.
#[test]
fn one_keeps_what_the_other_pins() {
    let [agent, pins] = UNITS.map(|unit| fs::read_to_string(path(unit)).unwrap());
    for line in ["BindPaths=-/sys/fs/bpf/fivetuple", "Requires=fivetuple-pins.service", "User=fivetuple"] {
        assert!(agent.lines().any(|there| there == line), "{line}");
    }
    assert!(agent.contains("/fivetuple run --pin "), "{agent}");
    assert!(pins.lines().any(|line| line == "StopWhenUnneeded=yes"), "{pins}");
    assert!(pins.contains(" --owner=fivetuple ") && pins.contains(" /sys/fs/bpf/fivetuple\n"), "{pins}");
}
