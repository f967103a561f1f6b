//! The cargo that builds the workspace.

use std::{env, ffi::OsString, path::PathBuf, process::Command};

use anyhow::Result;
use xtask::{
    bpf::toolchain::{self, Version},
    sh,
};

/// A cargo command in the workspace's root, by the cargo that started this program.
pub fn command(verb: &str) -> Command {
    let mut cmd = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cmd.current_dir(sh::root()).arg(verb);
    cmd
}

/// Where that cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    sh::root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| OsString::from("target")))
}

/// The machine's target triple.
pub fn host() -> Result<String> {
    Ok(Version::of(&toolchain::in_use()?)?.host)
}
