//! Man pages and completions, from the command line's own description.

use std::io::Write as _;

use agent::cli::Cli;
use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;
use flate2::{Compression, GzBuilder};

use crate::Format;

/// A file's name below a host's root, and what is in it.
pub type File = (String, Vec<u8>);

const NAME: &str = "fivetuple";

/// `fivetuple(1)`, and a page for each command; compressed, as the distributions have them.
pub fn pages() -> Result<Vec<File>> {
    let command = Cli::command().disable_help_subcommand(true);
    let mut out = Vec::new();
    for command in [command.clone()].into_iter().chain(command.get_subcommands().cloned()) {
        let name = if command.get_name() == NAME {
            NAME.to_owned()
        } else {
            format!("{NAME}-{}", command.get_name())
        };
        let mut page = Vec::new();
        let command = command.bin_name(name.replacen('-', " ", 1)).display_name(&name);
        let source = format!("{NAME} {}", env!("CARGO_PKG_VERSION"));
        Man::new(command).title(&name).source(source).render(&mut page)?;
        // No time and no name in the file: the same page is the same bytes.
        let mut file = GzBuilder::new().write(Vec::new(), Compression::best());
        file.write_all(&page)?;
        out.push((format!("usr/share/man/man1/{name}.1.gz"), file.finish()?));
    }
    Ok(out)
}

/// Completions for the shells that people use, where this distribution's shells look for them.
pub fn completions(format: Format) -> Vec<File> {
    let zsh = match format {
        Format::Deb => "vendor-completions",
        Format::Rpm => "site-functions",
    };
    [
        (Shell::Bash, format!("usr/share/bash-completion/completions/{NAME}")),
        (Shell::Zsh, format!("usr/share/zsh/{zsh}/_{NAME}")),
        (Shell::Fish, format!("usr/share/fish/vendor_completions.d/{NAME}.fish")),
    ]
    .into_iter()
    .map(|(shell, to)| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
        (to, script)
    })
    .collect()
}
