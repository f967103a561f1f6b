//! `cargo xtask soak`: what only shows after a long time, or under as much as the machine can do.
//!
//! [`SOAKS`] is the list. Each tells its figures and what of them is not as it must be; then the exit code is 1.

mod churn;
mod flood;
mod held;
mod interfaces;
mod passed;
mod restarts;
mod short;
mod stream;
mod upgrade;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{
    Parser,
    builder::{PossibleValue, PossibleValuesParser},
};
use harness::report::figure::Figure;

/// How long `churn` lasts, unless it is told.
const MINUTES: u32 = 30;
/// How many `interfaces` has, unless it is told.
const INTERFACES: u32 = 1_000;

/// What one of them found.
#[derive(Default)]
pub struct Found {
    figures: Vec<Figure>,
    /// What is not as it must be.
    wrong: Vec<String>,
}

impl Found {
    /// A figure.
    pub fn tell(&mut self, name: impl Into<String>, unit: &'static str, value: f64) {
        self.figures.push(Figure::count(name, unit, value, None));
    }

    /// A figure that must be exactly what it is beside.
    pub fn exactly(&mut self, name: impl Into<String>, unit: &'static str, value: f64, truth: f64) {
        let name = name.into();
        self.must(value == truth, || format!("{name} is {value} and not {truth}"));
        self.figures.push(Figure::count(name, unit, value, Some(truth)));
    }

    /// Something that must be.
    pub fn must(&mut self, right: bool, otherwise: impl FnOnce() -> String) {
        if !right {
            self.wrong.push(otherwise());
        }
    }
}

/// One soak.
struct Soak {
    name: &'static str,
    about: &'static str,
    run: fn(&Options) -> Result<Found>,
}

const SOAKS: &[Soak] = &[
    Soak {
        name: "churn",
        about: "5,000 connections a second: memory, maps and programs stay as they are",
        run: churn::run,
    },
    Soak {
        name: "flood",
        about: "3 million random SYNs, and a scan of 256 hosts' ports: 1,000 connections that are followed stay exact",
        run: flood::run,
    },
    Soak {
        name: "interfaces",
        about: "1,000 interfaces that a pattern takes, four times as many as there can be points, go in turn",
        run: interfaces::run,
    },
    Soak {
        name: "restarts",
        about: "100 times SIGKILL and a start, with pins, under a bulk transfer and 200 short connections a second",
        run: restarts::run,
    },
    Soak {
        name: "upgrade",
        about: "from an earlier revision to this one and back, with pins, under 50,000 packets a second",
        run: upgrade::run,
    },
];

/// What only shows after a long time, or under as much as the machine can do.
#[derive(Debug, PartialEq, Eq, Parser)]
pub struct Options {
    /// How long `churn` lasts.
    #[arg(long, default_value_t = MINUTES, value_parser = clap::value_parser!(u32).range(1..))]
    pub minutes: u32,
    /// How many there are for `interfaces`.
    #[arg(long, default_value_t = INTERFACES, value_parser = clap::value_parser!(u32).range(1..))]
    pub interfaces: u32,
    /// The agent of an earlier revision, for `upgrade`.
    #[arg(long, value_name = "PATH")]
    pub earlier: Option<PathBuf>,
    /// One figure a line, for programs, and nothing else.
    #[arg(long)]
    json: bool,
    /// Which; all, if none is named.
    #[arg(value_parser = PossibleValuesParser::new(SOAKS.iter().map(|s| PossibleValue::new(s.name).help(s.about))))]
    names: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("soak: {why:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is as it must be.
fn run(options: &Options) -> Result<bool> {
    let chosen =
        |soak: &&Soak| options.names.is_empty() || options.names.iter().any(|name| name == soak.name);
    let mut right = true;
    for soak in SOAKS.iter().filter(chosen) {
        if !options.json {
            println!("\n{}: {}\n", soak.name, soak.about);
        }
        let found = (soak.run)(options).context(soak.name)?;
        for figure in &found.figures {
            if options.json {
                println!("{}", figure.json());
            } else {
                println!("{}", line(figure));
            }
        }
        for wrong in &found.wrong {
            eprintln!("soak: {}: {wrong}", soak.name);
            right = false;
        }
    }
    Ok(right)
}

/// A figure for a person.
fn line(figure: &Figure) -> String {
    let number = |value: f64| if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.3}") };
    let value = number(figure.value.unwrap_or_default());
    let truth = figure.baseline.map_or(String::new(), |truth| format!(" of {}", number(truth)));
    format!("  {:<44} {value}{truth} {}", figure.name, figure.unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Ok(Options::try_parse_from(format!("soak {line}").split_whitespace())?)
    }

    #[test]
    fn names_and_flags_in_any_order() {
        let want = Options {
            minutes: 2,
            interfaces: 9,
            earlier: Some("a".into()),
            json: true,
            names: vec!["flood".to_owned()],
        };
        assert_eq!(parse("--json flood --minutes 2 --interfaces 9 --earlier a").unwrap(), want);
        let usual = parse("").unwrap();
        assert_eq!((usual.minutes, usual.interfaces), (MINUTES, INTERFACES));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for line in ["flod", "--minutes", "--minutes 0", "--minutes x", "--earlier", "--quick"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn what_is_not_exact_is_wrong() {
        let mut found = Found::default();
        found.exactly("a", "segments", 3.0, 3.0);
        assert!(found.wrong.is_empty());
        found.exactly("b", "segments", 3.0, 4.0);
        assert_eq!(found.wrong, ["b is 3 and not 4"]);
        assert_eq!(
            line(&found.figures[1]).trim_start().split_once(' ').unwrap().1.trim_start(),
            "3 of 4 segments"
        );
    }
}
