//! The environment of a cargo that runs inside another cargo.

use std::{env, process::Command};

/// An outer cargo, clippy or rustup leaves these behind. Each of them can send the inner build to another compiler or
/// another directory, or add the host's flags to a BPF build.
const INHERITED: &[&str] = &[
    "CARGO",
    "CARGO_BUILD_BUILD_DIR",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "LD_LIBRARY_PATH",
    "OUT_DIR",
    "RUSTC",
    "RUSTC_LINKER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// Set by cargo for build scripts: facts about the outer package, which the inner one would take for its own.
const INHERITED_PREFIXES: &[&str] = &["CARGO_CFG_", "CARGO_FEATURE_", "CARGO_PKG_", "CARGO_MANIFEST_"];

/// Takes the outer build's traces out of the command's environment, and forbids rustup to download a toolchain that
/// is only being asked about.
pub fn clean(cmd: &mut Command) -> &mut Command {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_inherited) {
            cmd.env_remove(&name);
        }
    }
    cmd.env("RUSTUP_AUTO_INSTALL", "0")
}

fn is_inherited(name: &str) -> bool {
    INHERITED.contains(&name) || INHERITED_PREFIXES.iter().any(|p| name.starts_with(p))
}

#[cfg(test)]
mod tests {
    use super::is_inherited;

    #[test]
    fn outer_builds_leave_no_trace_but_the_users_settings_stay() {
        for gone in
            ["RUSTC_WORKSPACE_WRAPPER", "RUSTUP_TOOLCHAIN", "CARGO_FEATURE_PROBE_LOG", "CARGO_CFG_UNIX"]
        {
            assert!(is_inherited(gone), "{gone}");
        }
        for stays in ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_MAKEFLAGS", "RUSTUP_HOME", "PATH"] {
            assert!(!is_inherited(stays), "{stays}");
        }
    }
}
