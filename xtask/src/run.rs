//! `run`: the agent, built and started on this host.

use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result};
use xtask::sh;

use crate::{build, privilege, setup};

/// Builds the agent and becomes `fivetuple run ARGS`, so that signals and the exit code are the agent's own.
pub fn verb(args: &[String]) -> Result<()> {
    setup::ensure(setup::Scope::Build)?;
    let binary = build::agent(&build::Options { release: true, probe_log: false })?;
    let binary = binary.to_str().context("the workspace's path is not UTF-8")?;
    let mut cmd =
        privilege::command(binary, "only root may load kernel programs and attach them to interfaces")
            .with_context(|| format!("the agent is built, and `{binary} run` starts it"))?;
    let err = cmd.arg("run").args(args).exec();
    Err(err).with_context(|| format!("cannot start `{}`", sh::show(&cmd)))
}
