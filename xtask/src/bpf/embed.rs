//! What `agent/build.rs` does: the kernel object ends up inside the agent's one file.

use std::{
    env, fs,
    hash::{DefaultHasher, Hasher as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    compile::{PROBE, PROBE_LOG, compile},
    linker,
};

/// The object's name in `$OUT_DIR`, where the agent includes it from.
pub const OBJECT: &str = "fivetuple.bpf.o";

/// Builds the object, unless `$BPF_OBJECT` names a ready one, copies it to `$OUT_DIR/fivetuple.bpf.o`, and gives the compiler
/// a digest of it as `$OBJECT_DIGEST`.
pub fn embed(root: &Path) -> Result<()> {
    for path in ["agent-ebpf/src", "agent-ebpf/Cargo.toml", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    println!("cargo::rerun-if-changed={}", root.join(linker::TOOLS).join("bin").display());
    for var in ["BPF_OBJECT", "BPF_RUSTC", "BPF_LINKER"] {
        println!("cargo::rerun-if-env-changed={var}");
    }
    let object = match env::var_os("BPF_OBJECT") {
        Some(ready) => {
            println!("cargo::rerun-if-changed={}", Path::new(&ready).display());
            PathBuf::from(ready)
        }
        None if env::var_os("CARGO_FEATURE_PROBE_LOG").is_some() => compile(root, PROBE_LOG)?,
        None => compile(root, PROBE)?,
    };
    let out = env::var_os("OUT_DIR").context("OUT_DIR is not set: this runs from a build script only")?;
    let copy = Path::new(&out).join(OBJECT);
    let bytes = fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    fs::write(&copy, &bytes)
        .with_context(|| format!("cannot copy {} to {}", object.display(), copy.display()))?;
    println!("cargo::rustc-env=OBJECT_DIGEST={:016x}", digest(&bytes));
    Ok(())
}

/// Tells one object from another. Another Rust may make another number of the same object, which costs an upgrade no more
/// than that the programs are loaded anew.
fn digest(object: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(object);
    hasher.finish()
}
