//! What the command line says.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// Fewest rounds of which a median says something.
const ROUNDS: usize = 11;

/// The arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// The benches' kernel object.
    pub object: PathBuf,
    /// The agent's program.
    pub agent: PathBuf,
    /// Where files go.
    pub out: PathBuf,
    /// The agent's kernel object of another build, to be measured beside this one's.
    pub against: Option<PathBuf>,
    /// How often everything is measured.
    pub rounds: usize,
    /// One figure a line, for programs.
    pub json: bool,
    /// Which benches; all, if none is named.
    pub names: Vec<String>,
}

impl Options {
    /// Reads the arguments.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            object: PathBuf::new(),
            agent: PathBuf::new(),
            out: PathBuf::new(),
            against: None,
            rounds: ROUNDS,
            json: false,
            names: Vec::new(),
        };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--object" => options.object = value()?.into(),
                "--agent" => options.agent = value()?.into(),
                "--out" => options.out = value()?.into(),
                "--against" => options.against = Some(value()?.into()),
                "--rounds" => {
                    options.rounds = value()?.parse().context("--rounds needs a number")?;
                    if options.rounds == 0 {
                        bail!("--rounds must be 1 at least");
                    }
                }
                "--json" => options.json = true,
                flag if flag.starts_with('-') => bail!("unknown argument {flag}"),
                name => options.names.push(name.to_owned()),
            }
        }
        if [&options.object, &options.agent, &options.out].iter().any(|path| path.as_os_str().is_empty()) {
            bail!("start this by `cargo xtask bench`, which builds what it needs");
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn names_and_flags_in_any_order() {
        let got = parse("--object o --agent a --out d packet --rounds 3 --json --against b").unwrap();
        let want = Options {
            object: "o".into(),
            agent: "a".into(),
            out: "d".into(),
            against: Some("b".into()),
            rounds: 3,
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
