//! `bench`: what it costs, beside yardsticks and in the same run; no figure decides a test.

use anyhow::Result;
use xtask::{bpf::compile, sh};

use crate::{build, cargo, privilege, setup};

/// Builds the benchmarks and their kernel programs, and starts those that are named: all, if none is. The program itself
/// knows which there are.
pub fn verb(args: &[String]) -> Result<()> {
    // What others take for the same is measured, too: their programs are those that the tests ask.
    setup::ensure(setup::Scope::Test)?;
    let agent = build::agent(&build::Options { release: true, probe_log: false })?;
    let object = compile::compile(sh::root(), compile::BENCH)?;
    sh::run(cargo::command("build").args([
        "--release",
        "--locked",
        "--package",
        "tests",
        "--bin",
        "measure",
    ]))?;
    let binary = cargo::target_dir().join("release/measure");
    let mut cmd = privilege::command(
        &binary.display().to_string(),
        "only root may load kernel programs and have the kernel run them",
    )?;
    cmd.arg("--object")
        .arg(object)
        .arg("--agent")
        .arg(agent)
        .arg("--out")
        .arg(cargo::target_dir().join("bench"));
    sh::run(cmd.args(args))
}
