//! Finding bpf-linker, which turns the compiler's LLVM bitcode into a BPF object.

use std::{
    env, fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::nested::clean;
use crate::sh;

/// The release that `cargo xtask setup` builds.
pub const VERSION: &str = "0.13.0";

/// The LLVM majors that this release can be built for (its cargo features `llvm-N`).
pub const LLVM: RangeInclusive<u32> = 21..=23;

/// Where `cargo xtask setup` puts it, below the workspace's root.
pub const TOOLS: &str = "target/tools";

/// `$BPF_LINKER`, taken as it is; else the first of `target/tools/bin` and PATH whose LLVM is that of the compiler.
pub fn find(root: &Path, llvm: u32) -> Result<PathBuf> {
    if let Some(path) = env::var_os("BPF_LINKER") {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("$BPF_LINKER names {}, which is not there", path.display());
        }
        return Ok(path);
    }
    let mut refused = String::new();
    let ours = root.join(TOOLS).join("bin/bpf-linker");
    for path in [ours].into_iter().chain(sh::find_program("bpf-linker")).filter(|p| p.is_file()) {
        match inspect(&path, llvm) {
            Ok(()) => return Ok(path),
            Err(why) => refused += &format!("\n  {}: {why:#}", path.display()),
        }
    }
    bail!("no bpf-linker for LLVM {llvm} here; `cargo xtask setup` builds one{refused}")
}

fn inspect(path: &Path, llvm: u32) -> Result<()> {
    // It needs a shared libLLVM, which an upgrade of the system or of a toolchain may have taken away.
    sh::stdout_of(clean(Command::new(path).arg("--version")))?;
    let program = fs::read(path).context("cannot read it")?;
    match linked_llvm(&program) {
        Some(own) if own != llvm => bail!("it is built for LLVM {own}"),
        // Statically linked: nothing to compare, so an old one says so itself when it meets the bitcode.
        _ => Ok(()),
    }
}

/// The major version of the shared libLLVM that a program's dynamic section asks for.
fn linked_llvm(program: &[u8]) -> Option<u32> {
    let needle = b"libLLVM";
    let at = program.windows(needle.len()).enumerate().filter(|(_, w)| w == needle).map(|(i, _)| i);
    at.filter_map(|i| {
        let name = program[i..].split(|b| *b == 0).next()?;
        llvm_of_library(std::str::from_utf8(name).ok()?)
    })
    .next()
}

/// The major version in a library's file name: `libLLVM.so.22.1`, `libLLVM-15.so`,
/// `libLLVM.so.22.1-rust-1.95.0-stable`.
#[must_use]
pub fn llvm_of_library(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("libLLVM")?;
    let rest = rest.strip_prefix(".so.").or_else(|| rest.strip_prefix('-'))?;
    rest.split(['.', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_names_tell_their_major() {
        assert_eq!(llvm_of_library("libLLVM.so.22.1"), Some(22));
        assert_eq!(llvm_of_library("libLLVM-15.so.1"), Some(15));
        assert_eq!(llvm_of_library("libLLVM.so.22.1-rust-1.95.0-stable"), Some(22));
        for not in ["libLLVM.so", "libLLVMCore.a", "libLLVM-C.so", "libclang.so.22"] {
            assert_eq!(llvm_of_library(not), None, "{not}");
        }
    }

    #[test]
    fn programs_tell_their_llvm() {
        let dynamic = b"\0libc.so.6\0libLLVM not found\0libLLVM.so.21.1\0";
        assert_eq!(linked_llvm(dynamic), Some(21));
        assert_eq!(linked_llvm(b"\0libc.so.6\0"), None);
    }

    #[test]
    fn what_does_not_start_is_refused() {
        let err = inspect(Path::new("/no/such/bpf-linker"), 22).unwrap_err().to_string();
        assert!(err.contains("cannot start"), "{err}");
    }
}
