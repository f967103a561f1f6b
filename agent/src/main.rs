//! `fivetuple`: reads the command line and hands over to the library.

use agent::{
    check,
    cli::{Cli, Command},
    detach, explain, flows, locate, replay, reuse, run, why,
};
use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    // clap itself ends the process with 2 where the command line is wrong.
    let done = match Cli::parse().command {
        Command::Run(args) => run::main(&args),
        Command::Detach => detach::main().map(|()| true),
        Command::Check(args) => check::check(&args),
        Command::Flows(args) => flows::flows(&args).map(|()| true),
        Command::Replay(args) => replay::main(&args),
        Command::Locate(args) => locate::main(&args).map(|()| true),
        Command::Explain(args) => explain::main(&args),
        Command::Reuse(args) => reuse::command::main(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("fivetuple: {}", why::text(&e));
            ExitCode::FAILURE
        }
    }
}
