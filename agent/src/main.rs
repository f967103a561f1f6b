//! `fivetuple`: reads the command line and hands over to the library.

use agent::{
    check,
    cli::{Cli, Command},
};
use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Check(args) => check::check(&args),
        Command::Run(_) | Command::Flows(_) => unreachable!(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("fivetuple: {e:#}");
            ExitCode::FAILURE
        }
    }
}
