//! `packaging`: the packages of a ready agent; `cargo xtask package` builds it and calls this.
//!
//! What is in a package, and where, is one table ([`contents`]). The manual and the completions follow from the command
//! line ([`manual`]), the licences of what is linked in from the lock file ([`licences`]). Each form of package has a
//! folder of templates beside `src/`.

mod contents;
mod deb;
mod licences;
mod manual;
mod rpm;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};

/// Builds the packages of fivetuple
#[derive(Debug, Parser)]
struct Args {
    /// The agent's program
    #[arg(long, value_name = "PATH")]
    binary: PathBuf,
    /// Where the packages go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Revision of the package, for a second one of the same version
    #[arg(long, value_name = "N", default_value_t = 1)]
    revision: u32,
    /// Compress nothing: quick, for tests
    #[arg(long)]
    quick: bool,
    /// Which packages; both, if none is named
    #[arg(value_enum)]
    formats: Vec<Format>,
}

/// A form of package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Deb,
    Rpm,
}

fn main() -> Result<()> {
    let mut args = Args::parse();
    if args.formats.is_empty() {
        args.formats = vec![Format::Deb, Format::Rpm];
    }
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    // rpmbuild and dpkg-deb run elsewhere.
    args.out = args.out.canonicalize()?;
    for format in &args.formats {
        let package = match format {
            Format::Deb => deb::build(&args)?,
            Format::Rpm => rpm::build(&args)?,
        };
        println!("{}", package.display());
    }
    Ok(())
}
