//! Packages of the program that was built beside the tests, and what all of them must have.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Files of every package, wherever they go.
pub const FILES: &[&str] = &[
    "/usr/bin/fivetuple",
    "/usr/lib/systemd/system/fivetuple.service",
    "/usr/lib/systemd/system/fivetuple-pins.service",
    "/etc/default/fivetuple",
    "/etc/fivetuple/fivetuple.yaml",
    "/etc/logrotate.d/fivetuple",
    "/usr/share/man/man1/fivetuple.1.gz",
    "/usr/share/man/man1/fivetuple-run.1.gz",
    "/usr/share/man/man1/fivetuple-replay.1.gz",
    "/usr/share/bash-completion/completions/fivetuple",
    "/usr/share/fish/vendor_completions.d/fivetuple.fish",
    "/usr/share/doc/fivetuple/examples/payment-gateway.yaml",
    "/usr/share/doc/fivetuple/docs/install.md",
    "/usr/share/doc/fivetuple/LICENSE-MIT",
    "/usr/share/doc/fivetuple/third-party-licences.txt",
];

/// Builds a package of this form and revision, without pains for its size.
#[track_caller]
pub fn build(format: &str, revision: u32, out: &Path) -> PathBuf {
    let packaging = Path::new(env!("CARGO_BIN_EXE_packaging"));
    let agent = packaging.with_file_name("fivetuple");
    assert!(agent.is_file(), "there is no {}: build it first (cargo build --bins)", agent.display());
    let mut cmd = Command::new(packaging);
    cmd.arg("--binary").arg(agent).arg("--out").arg(out);
    cmd.args(["--quick", "--revision", &revision.to_string(), format]);
    PathBuf::from(run(&mut cmd).trim())
}

/// What a program says that must succeed.
#[track_caller]
pub fn run(cmd: &mut Command) -> String {
    let output = cmd.output().unwrap_or_else(|error| panic!("{cmd:?}: {error}: run `cargo xtask setup`"));
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{cmd:?}: {}{}", said(&output.stdout), said(&output.stderr));
    said(&output.stdout)
}
