//! `fivetuple check`: what this kernel and these interfaces allow, and whether the configuration is valid.

use crate::{
    cli::CheckArgs,
    config::{ConfigError, Source},
    link,
    preflight::{self, Finding, Kernel, State},
};
use std::fmt::Write as _;

/// Print every finding; true where nothing keeps the agent from running.
pub fn check(args: &CheckArgs) -> anyhow::Result<bool> {
    let links = link::links()?;
    let source = Source::new(&args.config);
    let (mut findings, interfaces) = match source.load() {
        Ok(watch) => {
            let text = match &source.file {
                Some(path) => format!("{} is valid", path.display()),
                None => "no file; every setting has its default".to_owned(),
            };
            let counts =
                format!("{text}; {} points, {} services", watch.interfaces.len(), watch.services.len());
            (vec![configuration(State::Ok, counts)], watch.interfaces)
        }
        Err(ConfigError::Invalid(path, problems)) => {
            let lines =
                problems.iter().map(|p| configuration(State::Fail, format!("{}: {p}", path.display())));
            (lines.collect(), Vec::new())
        }
        Err(e) => (vec![configuration(State::Fail, e.to_string())], Vec::new()),
    };
    findings.extend(preflight::findings(&Kernel::read(&links), &interfaces, &links));
    print!("{}", render(&findings));
    Ok(findings.iter().all(|f| f.state != State::Fail))
}

fn configuration(state: State, text: String) -> Finding {
    Finding { state, subject: "configuration".to_owned(), text, remedy: String::new() }
}

fn render(findings: &[Finding]) -> String {
    let width = findings.iter().map(|f| f.subject.len()).max().unwrap_or(0);
    let mut out = String::new();
    for finding in findings {
        let state = match finding.state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "FAIL",
        };
        let _ = writeln!(out, "{state:<4}  {:<width$}  {}", finding.subject, finding.text);
        if !finding.remedy.is_empty() {
            let _ = writeln!(out, "{:4}  {:<width$}  -> {}", "", "", finding.remedy);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_stands_under_its_finding() {
        let finding = |state, subject: &str, remedy: &str| Finding {
            state,
            subject: subject.to_owned(),
            text: "text".to_owned(),
            remedy: remedy.to_owned(),
        };
        let text = render(&[finding(State::Ok, "kernel", ""), finding(State::Fail, "eth0", "do this")]);
        assert_eq!(text, "ok    kernel  text\nFAIL  eth0    text\n              -> do this\n");
    }
}
