//! `setup`: what this host lacks for building and testing, installed.
//!
//! It looks first, says what it is going to install, and installs only that; where nothing is missing it is silent
//! and quick, so the other verbs call it every time. Nothing is downloaded but from the distribution, rustup and
//! crates.io, each through its own client. Root is asked for only to run apt.

mod apt;
mod linker;
mod rustup;
mod tools;

use std::{env, fmt};

use anyhow::{Result, bail};
use xtask::{
    bpf::{self, toolchain},
    sh,
};

use self::{apt::Apt, tools::Tool};
use crate::unknown_argument;

/// What the host has to be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Build the agent.
    Build,
    /// Build it, and packages of it.
    Package,
    /// Build it and its packages, check it and test it.
    Test,
    /// All of that, and test it on other kernels than this host's.
    Kernels,
}

/// Installs what is missing, or says that nothing is.
pub fn verb(args: &[String]) -> Result<()> {
    let scope = match args.first().map(String::as_str) {
        None => Scope::Test,
        Some("--build-only") if args.len() == 1 => Scope::Build,
        Some(_) => return Err(unknown_argument("setup", &args[args.len() - 1])),
    };
    ensure(scope)?;
    println!("setup: nothing is missing");
    Ok(())
}

/// Installs what is missing.
pub fn ensure(scope: Scope) -> Result<()> {
    let missing = Missing::look(scope)?;
    if missing.nothing() {
        return Ok(());
    }
    println!("setup: missing here:\n{missing}");
    let mut apt = Apt::new();
    tools::install(&mut apt, &missing.tools)?;
    rustup::add(&missing.components)?;
    if missing.compiler {
        install_compiler(&mut apt)?;
    }
    if missing.compiler || missing.linker {
        let compiler = toolchain::find()?;
        if bpf::linker::find(sh::root(), compiler.version.llvm).is_err() {
            linker::build(&mut apt, &compiler)?;
        }
    }
    let still = Missing::look(scope)?;
    if !still.nothing() {
        bail!("setup: installed everything, yet these are still missing:\n{still}");
    }
    Ok(())
}

/// What was looked for and not found.
struct Missing {
    tools: Vec<&'static Tool>,
    components: Vec<&'static str>,
    /// A compiler for the kernel programs.
    compiler: bool,
    linker: bool,
}

impl Missing {
    fn look(scope: Scope) -> Result<Self> {
        let tools = tools::missing(scope, |program| sh::find_program(program).is_some());
        let components = if scope >= Scope::Test { rustup::missing_components() } else { Vec::new() };
        let mut missing = Self { tools, components, compiler: false, linker: false };
        if env::var_os("BPF_OBJECT").is_some() {
            // A ready object: nothing is compiled for the kernel.
            return Ok(missing);
        }
        match toolchain::find() {
            Ok(found) => {
                missing.linker = is_missing("BPF_LINKER", bpf::linker::find(sh::root(), found.version.llvm))?
            }
            Err(why) => {
                missing.compiler = is_missing("BPF_RUSTC", Err::<(), _>(why))?;
                // Which LLVM it has to match shows only once there is a compiler.
                missing.linker =
                    !bpf::linker::LLVM.into_iter().any(|llvm| bpf::linker::find(sh::root(), llvm).is_ok());
            }
        }
        Ok(missing)
    }

    fn nothing(&self) -> bool {
        self.tools.is_empty() && self.components.is_empty() && !self.compiler && !self.linker
    }
}

/// Was it not found? Where the user named one in `variable`, installing another does not help.
fn is_missing<T>(variable: &str, found: Result<T>) -> Result<bool> {
    match found {
        Ok(_) => Ok(false),
        Err(why) if env::var_os(variable).is_some() => Err(why.context(format!("${variable} is set"))),
        Err(_) => Ok(true),
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for tool in &self.tools {
            writeln!(f, "  {} ({}): package {}", tool.program, tool.why, tool.packages.join(" "))?;
        }
        for component in &self.components {
            writeln!(f, "  {component}: a component of the Rust toolchain")?;
        }
        if self.compiler {
            let packages = COMPILER.join(" ");
            writeln!(
                f,
                "  a Rust compiler with a core for BPF: packages {packages}, or else rustup's rust-src"
            )?;
        }
        if self.linker {
            let (version, place) = (bpf::linker::VERSION, bpf::linker::TOOLS);
            writeln!(f, "  bpf-linker: {version} from crates.io, built into {place} (a minute or two)")?;
        }
        Ok(())
    }
}

/// Debian's second Rust, kept new for its browsers. It stands beside rustup's and has a core for BPF, prebuilt.
const COMPILER: &[&str] = &["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

/// The distribution's compiler where it has one, else the library sources for rustup's own.
fn install_compiler(apt: &mut Apt) -> Result<()> {
    let from_apt =
        apt.has_all(COMPILER).then(|| apt.install(COMPILER, "to install a compiler for kernel programs"));
    if let Some(Err(why)) = &from_apt {
        eprintln!("setup: {why:#}");
    }
    if !matches!(from_apt, Some(Ok(()))) {
        rustup::add(&["rust-src"])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_every_missing_thing() {
        let missing = Missing {
            tools: tools::missing(Scope::Test, |_| false),
            components: vec!["clippy"],
            compiler: true,
            linker: true,
        };
        let list = missing.to_string();
        for part in ["iproute2", "clippy", "libstd-rust-web-dev-bpf", "bpf-linker"] {
            assert!(list.contains(part), "{part} in {list}");
        }
        let nothing = Missing { tools: vec![], components: vec![], compiler: false, linker: false };
        assert!(nothing.nothing() && !missing.nothing());
    }
}
