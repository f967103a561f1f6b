//! What is in a package, and where: one row each.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use xtask::sh;

use crate::{Args, Format, licences, manual};

/// Files of the workspace, and where they are on a host.
const FILES: &[(&str, &str)] = &[
    ("packaging/fivetuple.service", "usr/lib/systemd/system/fivetuple.service"),
    ("packaging/fivetuple-pins.service", "usr/lib/systemd/system/fivetuple-pins.service"),
    ("packaging/fivetuple.default", "etc/default/fivetuple"),
    ("packaging/fivetuple.yaml", "etc/fivetuple/fivetuple.yaml"),
    ("packaging/fivetuple.logrotate", "etc/logrotate.d/fivetuple"),
    ("agent/fivetuple.example.yaml", "usr/share/doc/fivetuple/examples/fivetuple.example.yaml"),
    ("agent/examples/payment-gateway.yaml", "usr/share/doc/fivetuple/examples/payment-gateway.yaml"),
    ("README.md", "usr/share/doc/fivetuple/README.md"),
    ("LICENSE-APACHE", "usr/share/doc/fivetuple/LICENSE-APACHE"),
    ("LICENSE-MIT", "usr/share/doc/fivetuple/LICENSE-MIT"),
    ("LICENSE-GPL-2.0", "usr/share/doc/fivetuple/LICENSE-GPL-2.0"),
];

/// Pages for people, with their pictures.
const DOCS: (&str, &str) = ("docs", "usr/share/doc/fivetuple/docs");

/// The tree of a package's files, as it will be below a host's root.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    files: Vec<String>,
}

impl Tree {
    /// Everything that a package of this form has, in a folder that is to be made.
    pub fn fill(root: PathBuf, args: &Args, format: Format) -> Result<Self> {
        let mut tree = Self { root, files: Vec::new() };
        tree.program(args)?;
        let workspace = sh::root();
        for (from, to) in FILES {
            tree.copy(&workspace.join(from), to)?;
        }
        for entry in fs::read_dir(workspace.join(DOCS.0))? {
            let path = entry?.path();
            if path.is_file() {
                tree.copy(&path, &format!("{}/{}", DOCS.1, path.file_name().unwrap_or_default().display()))?;
            }
        }
        for (to, content) in manual::pages()?.into_iter().chain(manual::completions(format)) {
            tree.write(&to, &content)?;
        }
        tree.write("usr/share/doc/fivetuple/third-party-licences.txt", licences::text()?.as_bytes())?;
        Ok(tree)
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Absolute names of the files on a host, in order.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    /// Those that an operator changes: an upgrade must leave them alone.
    pub fn configuration(&self) -> impl Iterator<Item = &str> {
        self.files().filter(|file| file.starts_with("/etc/"))
    }

    /// Bytes of all files.
    pub fn size(&self) -> Result<u64> {
        self.files().map(|file| Ok(fs::metadata(self.root.join(&file[1..]))?.len())).sum()
    }

    /// Adds a file; only its owner may write it.
    pub fn write(&mut self, to: &str, content: &[u8]) -> Result<()> {
        let path = self.root.join(to);
        fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
        fs::write(&path, content).with_context(|| path.display().to_string())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        self.files.push(format!("/{to}"));
        self.files.sort();
        Ok(())
    }

    fn copy(&mut self, from: &Path, to: &str) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.write(to, &content)
    }

    fn program(&mut self, args: &Args) -> Result<()> {
        let to = "usr/bin/fivetuple";
        self.copy(&args.binary, to)?;
        let path = self.root.join(to);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        sh::run(Command::new("strip").arg(path))
    }
}
