//! The rpm, by rpmbuild; what it requires of the C library, rpmbuild finds out itself.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use xtask::sh;

use crate::{Args, Format, contents::Tree};

const SPEC: &str = include_str!("../rpm/fivetuple.spec");

/// Builds it.
pub fn build(args: &Args) -> Result<PathBuf> {
    let directory = tempfile::tempdir()?;
    let top = directory.path();
    let tree = Tree::fill(top.join("tree"), args, Format::Rpm)?;
    let mut files = "%dir %attr(0750, root, root) /etc/fivetuple\n%dir /usr/share/doc/fivetuple\n".to_owned();
    for file in tree.files() {
        let mark = if tree.configuration().any(|c| c == file) {
            "%config(noreplace) "
        } else if file.starts_with("/usr/share/doc/") || file.starts_with("/usr/share/man/") {
            "%doc "
        } else {
            ""
        };
        files += &format!("{mark}{file}\n");
    }
    let spec = SPEC
        .replace("{version}", env!("CARGO_PKG_VERSION"))
        .replace("{revision}", &args.revision.to_string())
        .replace("{tree}", &tree.root().display().to_string())
        .replace("{files}", files.trim_end());
    let path = top.join("fivetuple.spec");
    fs::write(&path, spec)?;
    let mut cmd = Command::new("rpmbuild");
    cmd.arg("-bb").arg("--quiet");
    // gzip is what every rpm can read.
    let payload = if args.quick { "w0.gzdio" } else { "w9.gzdio" };
    for (name, value) in [
        ("_topdir", top.display().to_string()),
        ("_rpmdir", args.out.display().to_string()),
        ("_rpmfilename", "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm".to_owned()),
        ("_binary_payload", payload.to_owned()),
        // Debian's rpmbuild would write to a database of its own.
        ("_dbpath", top.join("db").display().to_string()),
    ] {
        cmd.arg("--define").arg(format!("{name} {value}"));
    }
    sh::stdout_of(cmd.arg(&path))?;
    let name = format!("fivetuple-{}-{}.{}.rpm", env!("CARGO_PKG_VERSION"), args.revision, env::consts::ARCH);
    let package = args.out.join(name);
    package.is_file().then_some(package).context("rpmbuild wrote no package, or one of another name")
}
