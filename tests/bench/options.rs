//! What the command line says.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Parser, builder::PossibleValuesParser};

use crate::BENCHES;

/// Fewest rounds of which a median says something.
const ROUNDS: NonZeroUsize = NonZeroUsize::new(11).unwrap();

/// What it costs. `cargo xtask bench` starts this, and builds what it needs.
#[derive(Debug, PartialEq, Eq, Parser)]
pub struct Options {
    /// The benches' kernel object.
    #[arg(long, value_name = "PATH")]
    pub object: PathBuf,
    /// The agent's program.
    #[arg(long, value_name = "PATH")]
    pub agent: PathBuf,
    /// Where files go.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The agent's kernel object of another build, to be measured beside this one's.
    #[arg(long, value_name = "PATH")]
    pub against: Option<PathBuf>,
    /// How often everything is measured.
    #[arg(long, default_value_t = ROUNDS)]
    rounds: NonZeroUsize,
    /// One figure a line, for programs.
    #[arg(long)]
    pub json: bool,
    /// Which benches; all, if none is named.
    #[arg(value_parser = PossibleValuesParser::new(BENCHES.iter().map(|bench| bench.name)))]
    pub names: Vec<String>,
}

impl Options {
    /// How often everything is measured.
    pub const fn rounds(&self) -> usize {
        self.rounds.get()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Ok(Options::try_parse_from(format!("measure {line}").split_whitespace())?)
    }

    #[test]
    fn names_and_flags_in_any_order() {
        let got = parse("--object o --agent a --out d packet --rounds 3 --json --against b").unwrap();
        let want = Options {
            object: "o".into(),
            agent: "a".into(),
            out: "d".into(),
            against: Some("b".into()),
            rounds: NonZeroUsize::new(3).unwrap(),
            json: true,
            names: vec!["packet".to_owned()],
        };
        assert_eq!(got, want);
        assert_eq!(parse("--object o --agent a --out d").unwrap().rounds, ROUNDS);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for line in [
            "",
            "--object o",
            "--object o --agent a --out d --rounds 0",
            "--object o --agent a --out d --fast",
            "--out d --object",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
