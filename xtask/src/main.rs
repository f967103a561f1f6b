//! Developer verbs: `cargo xtask VERB`.
//!
//! [`VERBS`] is the list; help and dispatch follow from it. One more verb is one file and one row.

mod accuracy;
mod bench;
mod build;
mod cargo;
mod ci;
mod demo;
mod kernel_log;
mod kernels;
mod package;
mod privilege;
mod readme;
mod run;
mod setup;
mod soak;
mod tables;
mod test;
mod tidy;

use std::{fmt, process::ExitCode};

use anyhow::Result;

/// One verb of the command line.
struct Verb {
    name: &'static str,
    /// Its arguments, as help shows them.
    args: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const VERBS: &[Verb] = &[
    Verb {
        name: "setup",
        args: "[--build-only]",
        about: "install what is missing here to build and to test (or only to build)",
        run: setup::verb,
    },
    Verb {
        name: "build",
        args: "[--release | --debug] [--probe-log]",
        about: "build the agent and print where it is",
        run: build::verb,
    },
    Verb {
        name: "run",
        args: "[ARGS...]",
        about: "build the agent and start `fivetuple run ARGS` as root",
        run: run::verb,
    },
    Verb {
        name: "test",
        args: "[--only NAME] [FILTER...] [-- ARGS...] | --kernel LIST",
        about: "run every check and test, or one stage or test binary, or the tests that match; or a kernel's on others",
        run: test::verb,
    },
    Verb {
        name: "accuracy",
        args: "[--data DIR] [--senders] [--show N] [--json]",
        about: "judge replay and tshark against captures whose truth is known",
        run: accuracy::verb,
    },
    Verb {
        name: "bench",
        args: "[NAME...] [--against OBJECT] [--rounds N] [--json]",
        about: "measure what it costs, beside yardsticks in the same run (needs root)",
        run: bench::verb,
    },
    Verb {
        name: "demo",
        args: "[campus-card] [bank-g] [--json]",
        about: "play the two cases in a world of namespaces, for a person to watch (needs root)",
        run: demo::verb,
    },
    Verb {
        name: "soak",
        args: "[churn] [flood] [restarts] [upgrade] [--minutes N] [--revision REV] [--json]",
        about: "hold it to what only shows after a long time, or under as much as the machine can do (needs root)",
        run: soak::verb,
    },
    Verb {
        name: "package",
        args: "[--out DIR] [--revision N] [deb] [rpm]",
        about: "build the packages, into target/packages",
        run: package::verb,
    },
    Verb {
        name: "tidy",
        args: "[--fix]",
        about: "check the house rules, or rewrite the README's generated sections",
        run: tidy::verb,
    },
    Verb {
        name: "ci",
        args: "",
        about: "what a pull request has to pass: all of `test`, and a release build",
        run: ci::verb,
    },
];

/// A wrong command line, as opposed to something that failed.
#[derive(Debug)]
struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The error for an argument that `verb` does not know.
fn unknown_argument(verb: &str, arg: &str) -> anyhow::Error {
    Usage(format!("{verb}: unknown argument {arg:?}")).into()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) if err.is::<Usage>() => {
            eprintln!("xtask: {err}\n\n{}", help());
            ExitCode::from(2)
        }
        Err(err) => {
            eprintln!("xtask: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let Some((name, rest)) = args.split_first() else {
        return Err(Usage("no verb given".to_owned()).into());
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        println!("{}", help());
        return Ok(());
    }
    match VERBS.iter().find(|verb| verb.name == name) {
        Some(verb) => (verb.run)(rest),
        None => Err(Usage(format!("unknown verb {name:?}")).into()),
    }
}

fn help() -> String {
    let mut out = "usage: cargo xtask VERB\n".to_owned();
    for Verb { name, args, about, .. } in VERBS {
        out += &format!("\n  {}\n      {about}", format!("{name} {args}").trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage_error(args: &[&str]) -> String {
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        let err = dispatch(&args).unwrap_err();
        assert!(err.is::<Usage>(), "{err:#}");
        err.to_string()
    }

    #[test]
    fn verbs_have_distinct_names_and_are_all_in_help() {
        let help = help();
        for (i, verb) in VERBS.iter().enumerate() {
            assert!(VERBS[..i].iter().all(|other| other.name != verb.name), "{} twice", verb.name);
            assert!(
                help.contains(&format!("\n  {}", verb.name)) && help.contains(verb.about),
                "{}",
                verb.name
            );
        }
    }

    #[test]
    fn wrong_command_lines_are_usage_errors() {
        assert!(usage_error(&[]).contains("no verb"));
        assert!(usage_error(&["bulid"]).contains("bulid"));
        assert!(usage_error(&["build", "--fast"]).contains("--fast"));
        assert!(usage_error(&["tidy", "now"]).contains("now"));
        assert!(usage_error(&["setup", "--all"]).contains("--all"));
        assert!(usage_error(&["ci", "x"]).contains("ci"));
    }
}
