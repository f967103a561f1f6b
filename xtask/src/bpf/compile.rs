//! Compiling and linking the kernel programs.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{
    TARGET, linker,
    nested::clean,
    parameters, symbols,
    toolchain::{self, Core, Toolchain},
};
use crate::sh;

/// One directory for every profile, clippy, doc and test of the agent: below cargo's own OUT_DIR each of them would
/// compile `core` and the kernel programs again, at half a minute a time. Cargo's lock keeps parallel builds apart.
const TARGET_DIR: &str = "target/bpf";

/// A kernel object: a binary of `agent-ebpf`, and the features it takes.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    binary: &'static str,
    features: &'static str,
}

/// The agent's programs.
pub const PROBE: Object = Object { binary: "probe", features: "probe" };
/// The same with their own log lines.
pub const PROBE_LOG: Object = Object { binary: "probe", features: "probe,probe-log" };
/// The benchmark's yardsticks.
pub const BENCH: Object = Object { binary: "bench", features: "bench" };

/// Builds the object and says where it is.
pub fn compile(root: &Path, what: Object) -> Result<PathBuf> {
    let toolchain = toolchain::find()?;
    let linker = linker::find(root, toolchain.version.llvm)?;
    let target_dir = root.join(TARGET_DIR);
    let mut cmd = cargo(root, &toolchain, &linker, what);
    sh::run(cmd.arg("--target-dir").arg(&target_dir)).with_context(|| {
        let Toolchain { version, origin, .. } = &toolchain;
        format!("kernel programs, by rustc {} ({origin}) and {}", version.release, linker.display())
    })?;
    let object = target_dir.join(TARGET).join("bpf").join(what.binary);
    let bytes = fs::read(&object).with_context(|| format!("no object at {}", object.display()))?;
    let panics = symbols::reachable_panics(&bytes);
    if !panics.is_empty() {
        bail!(
            "a panic is reachable in the kernel programs, which the kernel would refuse: {}\n\
             look for indexing, slicing, division, unwrap or expect in agent-ebpf; use get() and checked_div()",
            panics.join(", ")
        );
    }
    let crowded = parameters::too_many(&bytes);
    if !crowded.is_empty() {
        bail!(
            "Linux 7.2 would refuse functions with more than {} parameters, whether or not all of them are used: {}\n\
             give two of them as one",
            parameters::MOST,
            crowded.join(", ")
        );
    }
    Ok(object)
}

fn cargo(root: &Path, toolchain: &Toolchain, linker: &Path, what: Object) -> Command {
    let mut cmd = Command::new(&toolchain.cargo);
    clean(&mut cmd)
        .current_dir(root)
        .env("RUSTC", &toolchain.rustc)
        // aya-ebpf uses unstable features of `core`, whichever compiler this is. Given to this build alone: in the
        // environment of the outer one it would make cargo rebuild every crate.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(root, toolchain, linker))
        .args(["build", "--locked", "--quiet"])
        .args(["--package", "agent-ebpf", "--bin", what.binary, "--features", what.features])
        .args(["--profile", "bpf", "--target", TARGET]);
    if toolchain.core == Core::FromSource {
        cmd.arg("-Zbuild-std=core");
    }
    cmd
}

/// Compiler flags: BTF with line information, and no path of the building machine in it.
fn flags(root: &Path, toolchain: &Toolchain, linker: &Path) -> OsString {
    let remap = |from: &Path, to: &str| {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flag
    };
    let mut linker_flag = OsString::from("-Clinker=");
    linker_flag.push(linker);
    let mut flags = vec![OsString::from("-Cdebuginfo=2"), "-Clink-arg=--btf".into(), linker_flag];
    // The last match wins, so the workspace, which may lie below the home directory, comes last.
    flags.push(remap(&toolchain.sysroot.join("lib/rustlib/src/rust"), "rust"));
    if let Some(home) = cargo_home() {
        flags.push(remap(&home, "cargo"));
    }
    flags.push(remap(root, "."));
    flags.join(&OsString::from("\x1f"))
}

fn cargo_home() -> Option<PathBuf> {
    let home = || env::var_os("HOME").map(|h| Path::new(&h).join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::toolchain::Version;

    fn toolchain(core: Core) -> Toolchain {
        let version = Version { release: "1.96.0".into(), llvm: 22, host: String::new() };
        let sysroot = PathBuf::from("/usr");
        Toolchain {
            rustc: "/usr/bin/rustc".into(),
            cargo: "/usr/bin/cargo".into(),
            sysroot,
            version,
            core,
            origin: "test".into(),
        }
    }

    #[test]
    fn core_is_built_only_where_none_is_installed() {
        let line = |core| sh::show(&cargo(Path::new("/w"), &toolchain(core), Path::new("/l"), PROBE));
        assert!(line(Core::FromSource).contains("-Zbuild-std=core"));
        assert!(!line(Core::Prebuilt).contains("build-std"));
    }

    #[test]
    fn the_workspace_is_remapped_last() {
        let flags = flags(Path::new("/w"), &toolchain(Core::Prebuilt), Path::new("/opt/bpf-linker"));
        let flags = flags.to_str().unwrap();
        assert!(flags.ends_with("\x1f--remap-path-prefix=/w=."), "{flags}");
        assert!(flags.contains("\x1f-Clinker=/opt/bpf-linker\x1f"), "{flags}");
    }
}
