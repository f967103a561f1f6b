//! The deb, by dpkg-deb.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use xtask::sh;

use crate::{Args, Format, contents::Tree};

const CONTROL: &str = include_str!("../deb/control");
const COPYRIGHT: &str = include_str!("../deb/copyright");
/// What dpkg runs, by the names it knows them by.
const SCRIPTS: [(&str, &str); 3] = [
    ("postinst", include_str!("../deb/postinst")),
    ("prerm", include_str!("../deb/prerm")),
    ("postrm", include_str!("../deb/postrm")),
];

/// Builds it.
pub fn build(args: &Args) -> Result<PathBuf> {
    let directory = tempfile::tempdir()?;
    let mut tree = Tree::fill(directory.path().join("tree"), args, Format::Deb)?;
    tree.write("usr/share/doc/fivetuple/copyright", COPYRIGHT.as_bytes())?;
    let architecture = sh::stdout_of(Command::new("dpkg").arg("--print-architecture"))?;
    let control = CONTROL
        .replace("{version}", env!("CARGO_PKG_VERSION"))
        .replace("{revision}", &args.revision.to_string())
        .replace("{architecture}", &architecture)
        .replace("{kilobytes}", &tree.size()?.div_ceil(1024).to_string())
        .replace("{depends}", &libraries(&args.binary)?.join(", "));
    let meta = tree.root().join("DEBIAN");
    fs::create_dir(&meta)?;
    fs::write(meta.join("control"), control)?;
    let configuration: String = tree.configuration().map(|file| format!("{file}\n")).collect();
    fs::write(meta.join("conffiles"), configuration)?;
    for (name, script) in SCRIPTS {
        let path = meta.join(name);
        fs::write(&path, script)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    let revision = args.revision;
    let to = args.out.join(format!("fivetuple_{}-{revision}_{architecture}.deb", env!("CARGO_PKG_VERSION")));
    let mut cmd = Command::new("dpkg-deb");
    // The tree may be an ordinary user's. zstd would be quicker, but dpkg has it only from Debian 12 on.
    cmd.args(["--root-owner-group", if args.quick { "-Znone" } else { "-Zxz" }, "--build"]);
    sh::stdout_of(cmd.arg(tree.root()).arg(&to))?;
    Ok(to)
}

/// The packages of the libraries that the program is linked to, the C library with the oldest version that has all it
/// calls: it runs on a distribution older than the one it was built on where that is new enough.
fn libraries(binary: &Path) -> Result<Vec<String>> {
    let said = sh::stdout_of(Command::new("objdump").arg("-p").arg(binary))?;
    let versions = said.lines().filter_map(|line| line.split_whitespace().last()?.strip_prefix("GLIBC_"));
    let numbers = |version: &str| version.split('.').map(|n| n.parse().unwrap_or(0)).collect::<Vec<u32>>();
    let newest =
        versions.max_by_key(|version| numbers(version)).context("it is not linked to the C library")?;
    let mut out = vec![format!("libc6 (>= {newest})")];
    if said.contains("libgcc_s.so.1") {
        out.push("libgcc-s1".to_owned());
    }
    Ok(out)
}
