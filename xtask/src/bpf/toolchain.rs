//! Finding a Rust compiler that can build for BPF.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, anyhow, bail};

use super::{TARGET, linker, nested::clean};
use crate::sh;

/// Where `core` for the BPF target comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Core {
    /// Installed with the compiler, as Debian's `libstd-rust-web-dev-bpf` does.
    Prebuilt,
    /// Built by cargo from the library sources (rustup's component `rust-src`).
    FromSource,
}

/// A compiler and the cargo beside it.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// The compiler itself, not rustup's stand-in for it.
    pub rustc: PathBuf,
    /// The cargo of the same release.
    pub cargo: PathBuf,
    /// The compiler's installation directory.
    pub sysroot: PathBuf,
    /// What the compiler says of itself.
    pub version: Version,
    /// Where its `core` comes from.
    pub core: Core,
    /// How it was found, for messages.
    pub origin: String,
}

/// The parts of `rustc -vV` that decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Such as `1.96.0` or `1.97.0-nightly`.
    pub release: String,
    /// Major version of the LLVM inside the compiler.
    pub llvm: u32,
    /// The machine it runs on, as a target triple.
    pub host: String,
}

impl Version {
    /// Reads the output of `rustc -vV`.
    #[must_use]
    pub fn parse(verbose: &str) -> Option<Self> {
        let field = |key: &str| verbose.lines().find_map(|l| l.strip_prefix(key)).map(str::trim);
        let llvm = field("LLVM version:")?.split('.').next()?.parse().ok()?;
        Some(Self { release: field("release:")?.to_owned(), llvm, host: field("host:")?.to_owned() })
    }

    /// Asks the compiler.
    pub fn of(rustc: &Path) -> Result<Self> {
        let said = sh::stdout_of(clean(Command::new(rustc).arg("-vV")))?;
        Self::parse(&said).ok_or_else(|| anyhow!("{}: no version in {said:?}", rustc.display()))
    }

    /// Is this release new enough for the workspace (`rust-version` in Cargo.toml)?
    fn suffices(&self, wanted: &str) -> bool {
        let number = |s: &str| -> Vec<u32> {
            s.split(['.', '-']).map_while(|part| part.parse().ok()).take(2).collect()
        };
        number(&self.release) >= number(wanted)
    }
}

/// The first usable one of: `$BPF_RUSTC` (then no other is tried), rustup's nightly, the compiler in use, rustup's
/// other toolchains, `/usr/bin/rustc`.
pub fn find() -> Result<Toolchain> {
    if let Some(rustc) = env::var_os("BPF_RUSTC") {
        return inspect(Path::new(&rustc), "$BPF_RUSTC");
    }
    let mut refused = Vec::<(PathBuf, String)>::new();
    for (rustc, origin) in candidates() {
        if refused.iter().any(|(seen, _)| *seen == rustc) {
            continue;
        }
        match inspect(&rustc, &origin) {
            Ok(found) => return Ok(found),
            Err(why) => refused.push((rustc, format!("{origin}: {why:#}"))),
        }
    }
    let reasons: Vec<String> = refused.into_iter().map(|(_, why)| why).collect();
    bail!(
        "no Rust compiler here can build for {TARGET}; `cargo xtask setup` installs one\n  {}",
        reasons.join("\n  ")
    )
}

/// Compilers worth a look, best first, each asked for only once the ones before it were refused.
fn candidates() -> impl Iterator<Item = (PathBuf, String)> {
    let nightly = || rustup_rustc("nightly").map(|p| (p, "rustup's nightly".to_owned()));
    let in_use = || in_use().ok().map(|p| (p, "the compiler in use".to_owned()));
    let others = || {
        let listed = sh::stdout_of(clean(Command::new("rustup").args(["toolchain", "list", "-q"])))
            .unwrap_or_default();
        let names: Vec<String> = listed.lines().map(|l| l.trim().to_owned()).collect();
        names.into_iter().filter_map(|name| rustup_rustc(&name).map(|p| (p, format!("rustup's {name}"))))
    };
    let system = (PathBuf::from("/usr/bin/rustc"), "the system's compiler".to_owned());
    std::iter::once_with(nightly)
        .chain(std::iter::once_with(in_use))
        .flatten()
        .chain(std::iter::once_with(others).flatten())
        .chain([system])
}

fn rustup_rustc(toolchain: &str) -> Option<PathBuf> {
    let said =
        sh::stdout_of(clean(Command::new("rustup").args(["which", "--toolchain", toolchain, "rustc"])))
            .ok()?;
    Some(said.into())
}

/// The compiler that builds the workspace: cargo names it to build scripts, otherwise it is the one on PATH.
pub fn in_use() -> Result<PathBuf> {
    let mut cmd = match env::var_os("RUSTC") {
        Some(rustc) => Command::new(rustc),
        None => Command::new("rustc"),
    };
    // Not cleaned: RUSTUP_TOOLCHAIN is what says which one is in use.
    let sysroot = sh::stdout_of(cmd.args(["--print", "sysroot"]))?;
    Ok(Path::new(&sysroot).join("bin/rustc"))
}

fn inspect(rustc: &Path, origin: &str) -> Result<Toolchain> {
    let version = Version::of(rustc)?;
    let release = &version.release;
    let wanted = env!("CARGO_PKG_RUST_VERSION");
    if !version.suffices(wanted) {
        bail!("rustc {release} is older than {wanted}");
    }
    if !linker::LLVM.contains(&version.llvm) {
        let (from, to) = (linker::LLVM.start(), linker::LLVM.end());
        bail!(
            "rustc {release} has LLVM {}; bpf-linker {} works with {from} to {to}",
            version.llvm,
            linker::VERSION
        );
    }
    let sysroot = sh::stdout_of(clean(Command::new(rustc).args(["--print", "sysroot"])))?;
    let sysroot = PathBuf::from(sysroot);
    let Some(core) = core_in(&sysroot) else {
        bail!("rustc {release} in {} has no core for {TARGET}, nor its sources", sysroot.display());
    };
    let (rustc, cargo) = (sysroot.join("bin/rustc"), sysroot.join("bin/cargo"));
    if !cargo.exists() {
        bail!("rustc {release} has no cargo beside it in {}", sysroot.join("bin").display());
    }
    Ok(Toolchain { rustc, cargo, sysroot, version, core, origin: origin.to_owned() })
}

fn core_in(sysroot: &Path) -> Option<Core> {
    let rustlib = sysroot.join("lib/rustlib");
    let is_core = |f: &fs::DirEntry| f.file_name().to_string_lossy().starts_with("libcore-");
    if fs::read_dir(rustlib.join(TARGET).join("lib")).is_ok_and(|dir| dir.flatten().any(|f| is_core(&f))) {
        return Some(Core::Prebuilt);
    }
    rustlib.join("src/rust/library/core/src/lib.rs").exists().then_some(Core::FromSource)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
        host: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";

    #[test]
    fn versions_are_read() {
        let v = Version::parse(DEBIAN).unwrap();
        assert_eq!((v.release.as_str(), v.llvm, v.host.as_str()), ("1.96.0", 22, "x86_64-unknown-linux-gnu"));
        assert_eq!(Version::parse(&DEBIAN.replace("LLVM version", "Backend")), None);
    }

    #[test]
    fn older_releases_do_not_suffice() {
        let v = |release: &str| Version { release: release.to_owned(), llvm: 22, host: String::new() };
        for ok in ["1.95.0", "1.97.0-nightly", "1.100.0", "2.0.0"] {
            assert!(v(ok).suffices("1.95"), "{ok}");
        }
        for old in ["1.94.1", "1.9.0", "0.99.0"] {
            assert!(!v(old).suffices("1.95"), "{old}");
        }
    }
}
