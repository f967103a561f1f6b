//! The unit, as systemd judges it.

use std::{fs, process::Command};

use crate::package::run;

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fivetuple.service");

/// 0 is a service that can do nothing, 10 one that can do everything.
#[test]
fn its_exposure_is_at_most_2() {
    let said = run(Command::new("systemd-analyze").args(["security", "--offline=yes", "--no-pager", UNIT]));
    let score = said.lines().find_map(|line| line.split_once("exposure level for fivetuple.service: "));
    let score: Option<f64> = score.and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    assert!(score.is_some_and(|score| score <= 2.0), "{said}");
}

/// Every line is understood, and what the unit calls is there; its own program need not be.
#[test]
fn it_is_understood() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("fivetuple.service");
    let text = fs::read_to_string(UNIT).unwrap();
    assert!(text.contains("ExecStart=/usr/bin/fivetuple run "), "{text}");
    fs::write(&copy, text.replace("ExecStart=/usr/bin/fivetuple", "ExecStart=/bin/true")).unwrap();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output();
    let output = output.expect("systemd-analyze is missing: run `cargo xtask setup`");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // It looks at the units that this one needs as well; their faults are not ours.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("fivetuple")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}
