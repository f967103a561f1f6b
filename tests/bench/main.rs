//! `cargo xtask bench`: what it costs, beside the least that it could cost.
//!
//! [`BENCHES`] is the list. Each measures in rounds, every program once a round, so that whatever else the machine does
//! hits all alike; each ratio is formed within a round, and the median of the rounds is what counts. No figure fails
//! anything: how fast a machine is says nothing about the program. What does fail is a run that was not what its name
//! says ([`packet`] checks every count after every run).

mod clock;
mod events;
mod machine;
mod options;
mod packet;
mod path;
mod replay;
mod scale;
mod tables;

use std::process::ExitCode;
use std::thread;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use harness::report::{self, figure, plot, sample, table};

use self::{figure::Figure, options::Options};

/// What one bench found.
pub struct Found {
    /// For people.
    pub text: String,
    /// One by one.
    pub figures: Vec<Figure>,
    /// Files beside the output: name and content.
    pub files: Vec<(&'static str, String)>,
}

/// One bench.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Options) -> Result<Found>,
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "packet",
        about: "nanoseconds a packet, by BPF_PROG_TEST_RUN, beside floor programs",
        run: packet::run,
    },
    Bench {
        name: "replay",
        about: "nanoseconds a packet of a capture, beside those who read it, too",
        run: replay::run,
    },
    Bench { name: "scale", about: "what many live connections cost the agent", run: scale::run },
    Bench { name: "path", about: "what is added to a forwarded packet", run: path::run },
    Bench { name: "events", about: "what an ended connection costs the agent", run: events::run },
];

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if !options.json {
        println!("{}", machine::describe());
    }
    for bench in BENCHES {
        if !options.names.is_empty() && !options.names.iter().any(|name| name == bench.name) {
            continue;
        }
        // On a thread of its own, which it may keep on one processor without keeping the next one there.
        let run = || (bench.run)(options).context(bench.name);
        let found = thread::scope(|scope| scope.spawn(run).join().expect("a bench that measures"))?;
        if options.json {
            found.figures.iter().for_each(|figure| println!("{}", figure.json()));
        } else {
            print!("\n{}: {}\n\n{}", bench.name, bench.about, found.text);
        }
        for (name, content) in &found.files {
            report::save(&options.out, name, content)?;
        }
    }
    Ok(())
}
