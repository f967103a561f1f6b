//! Building bpf-linker against the LLVM of the compiler whose output it links.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::Read as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use xtask::{
    bpf::{
        linker::{TOOLS, VERSION, llvm_of_library},
        nested::clean,
        toolchain::{self, Toolchain},
    },
    sh,
};

use super::apt::Apt;
use crate::cargo;

/// Builds it into `target/tools/bin`.
pub fn build(apt: &mut Apt, compiler: &Toolchain) -> Result<()> {
    let llvm = compiler.version.llvm;
    let rustc = toolchain::in_use()?;
    let library = find_library(compiler, &rustc, apt)?;
    let tools = sh::root().join(TOOLS);
    let prefix = private_prefix(&tools, &library)?;
    let scratch = tools.join("build");
    let mut cmd = cargo::command("install");
    clean(&mut cmd)
        .env("RUSTC", &rustc)
        .env("LLVM_PREFIX", &prefix)
        .env("CARGO_TARGET_DIR", &scratch)
        // Else cargo advises to have it on PATH, where nobody looks for it.
        .env("PATH", path_with(tools.join("bin"))?)
        // Its own release profile keeps debug information: 45 MB and twice the time.
        .env("CARGO_PROFILE_RELEASE_STRIP", "true")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .args([&format!("bpf-linker@{VERSION}"), "--locked", "--force", "--no-default-features"])
        .args(["--features", &format!("llvm-{llvm}"), "--root"])
        .arg(&tools);
    println!("setup: building bpf-linker {VERSION} against {}", library.display());
    sh::run(&mut cmd)?;
    fs::remove_dir_all(&scratch).with_context(|| scratch.display().to_string())
}

fn path_with(dir: PathBuf) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(env::split_paths(&path).chain([dir]))?)
}

/// A directory with nothing in it but the library, in the form that bpf-linker's build script asks for. The real
/// thing, `llvm-N-dev`, is 400 MB, and without it the build script takes whichever LLVM is on PATH.
fn private_prefix(tools: &Path, library: &Path) -> Result<PathBuf> {
    let prefix = tools.join("llvm");
    let dir = prefix.join("lib");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    }
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    // bpf-linker is linked by the first name and started by the second: this directory becomes its run path, and
    // rustup's libLLVM is on no other.
    let own_name = library.file_name().context("a library has a name")?;
    for name in ["libLLVM.so".as_ref(), own_name] {
        symlink(library, dir.join(name)).with_context(|| format!("cannot link to {}", library.display()))?;
    }
    Ok(prefix)
}

/// A shared libLLVM of the compiler's major: its own, the system's, or one that apt has.
fn find_library(compiler: &Toolchain, in_use: &Path, apt: &mut Apt) -> Result<PathBuf> {
    let llvm = compiler.version.llvm;
    let host = cargo::host()?;
    let multiarch = host.replace("-unknown", "");
    let mut dirs = vec![compiler.sysroot.join("lib")];
    dirs.extend([format!("/usr/lib/{multiarch}"), format!("/usr/lib/llvm-{llvm}/lib")].map(PathBuf::from));
    dirs.extend(["/usr/lib64", "/usr/lib", "/usr/local/lib"].map(PathBuf::from));
    // Last, because rustup replaces its toolchains; the others stay.
    dirs.extend(in_use.ancestors().nth(2).map(|sysroot| sysroot.join("lib")));
    let look = || dirs.iter().find_map(|dir| library_in(dir, llvm));
    if let Some(found) = look() {
        return Ok(found);
    }
    let package = format!("libllvm{llvm}");
    if apt.has_all(&[&package]) {
        apt.install(&[&package], "to install the LLVM that bpf-linker links with")?;
    }
    let Some(found) = look() else {
        bail!(
            "no shared libLLVM {llvm} here, which bpf-linker needs for rustc {} ({}): install {package}, or name \
             another compiler in $BPF_RUSTC, or a ready bpf-linker in $BPF_LINKER",
            compiler.version.release,
            compiler.origin
        );
    };
    Ok(found)
}

fn library_in(dir: &Path, llvm: u32) -> Option<PathBuf> {
    let names = fs::read_dir(dir).ok()?.flatten().map(|file| file.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| llvm_of_library(name) == Some(llvm)).collect();
    names.sort();
    // Through the links, because the file itself is named as programs ask for it at run time.
    names.iter().filter_map(|name| dir.join(name).canonicalize().ok()).find(|path| is_elf(path))
}

/// rustup keeps a linker script under one of the names.
fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_real_library_of_the_right_major_is_taken() {
        let dir = env::temp_dir().join(format!("fivetuple-libllvm-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        for (name, content) in [
            ("libLLVM-22-rust-1.95.0-stable.so", "INPUT(libLLVM.so.22.1)"),
            ("libLLVM.so.22.1", "\x7fELF and so on"),
            ("libLLVM.so.21.1", "\x7fELF and so on"),
        ] {
            fs::write(dir.join(name), content).unwrap();
        }
        let found =
            [20, 21, 22].map(|llvm| library_in(&dir, llvm).map(|p| p.file_name().unwrap().to_owned()));
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(found, [None, Some("libLLVM.so.21.1".into()), Some("libLLVM.so.22.1".into())]);
    }
}
