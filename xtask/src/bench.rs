//! `bench`: what it costs, beside yardsticks and in the same run; no figure decides a test.

use anyhow::Result;
use xtask::{bpf::compile, sh};

use crate::{Usage, cargo, privilege, setup};

/// Builds the benchmarks and their kernel programs, and starts those that are named: all, if none is.
pub fn verb(args: &[String]) -> Result<()> {
    if let Some(wrong) = args.iter().find(|arg| !["packet", "--json"].contains(&arg.as_str())) {
        return Err(Usage(format!("bench: unknown argument {wrong:?}")).into());
    }
    setup::ensure(setup::Scope::Build)?;
    let object = compile::compile(sh::root(), compile::BENCH)?;
    sh::run(cargo::command("build").args(["--release", "--locked", "--package", "tests", "--bin", "bench"]))?;
    let binary = cargo::target_dir().join("release/bench");
    let mut cmd = privilege::command(
        &binary.display().to_string(),
        "only root may load kernel programs and have the kernel run them",
    )?;
    sh::run(cmd.args(args).env("FIVETUPLE_BENCH_OBJECT", object))
}
