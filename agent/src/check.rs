//! `fivetuple check`: what this kernel and these interfaces allow, and whether the configuration is valid.

use crate::{
    cli::CheckArgs,
    config::{ConfigError, Source, Watch},
    link, monitor,
    pins::directory::{BPFFS, mounted},
    preflight::{self, Finding, Kernel, State},
    probe::{Probe, tables},
    web::Live,
    why,
};
use std::{fmt::Write as _, path::Path};

/// Print every finding; true where nothing keeps the agent from running.
pub fn check(args: &CheckArgs) -> anyhow::Result<bool> {
    let links = link::links()?;
    let kernel = Kernel::read(&links);
    let source = Source::new(&args.config);
    let (mut findings, watch) = match source.load() {
        Ok(watch) => {
            let text = match &source.file {
                Some(path) => format!("{} is valid", path.display()),
                None => "no file; every setting has its default".to_owned(),
            };
            let counts =
                format!("{text}; points: {}, services: {}", watch.interfaces.len(), watch.services.len());
            (vec![finding(State::Ok, CONFIGURATION, counts)], watch)
        }
        Err(ConfigError::Invalid(path, problems)) => {
            let line = |p| finding(State::Fail, CONFIGURATION, format!("{}: {p}", path.display()));
            (problems.iter().map(line).collect(), Watch::default())
        }
        Err(e) => (vec![finding(State::Fail, CONFIGURATION, e.to_string())], Watch::default()),
    };
    findings.extend(args.web_config.file.as_deref().map(web));
    findings.extend(preflight::findings(&kernel, &watch.interfaces, &links));
    if watch.interfaces.is_empty() && watch.spare > 0 {
        let text = "no interface is there that is asked for; each is watched as soon as it comes";
        findings.push(finding(State::Warn, "interfaces", text.to_owned()));
    }
    findings.extend(watch.twice.iter().map(|twice| {
        let state = if twice.left_out { State::Ok } else { State::Warn };
        finding(state, &twice.name, twice.text())
    }));
    findings.extend(programs(&kernel, &watch));
    findings.push(pins());
    print!("{}", render(&findings));
    Ok(findings.iter().all(|f| f.state != State::Fail))
}

const CONFIGURATION: &str = "configuration";

fn web(path: &Path) -> Finding {
    match Live::open(path) {
        Ok(_) => finding(State::Ok, "web configuration", format!("{} is valid", path.display())),
        Err(e) => finding(State::Fail, "web configuration", e.to_string()),
    }
}

/// Whether the kernel takes the programs and their tables: it is asked, once nothing else speaks against it.
fn programs(kernel: &Kernel, watch: &Watch) -> Option<Finding> {
    // Tables are made for points: without one there is nothing to try.
    if watch.places() == 0 || kernel.findings().iter().any(|f| f.state == State::Fail) {
        return None;
    }
    Some(match Probe::load(watch, monitor::room(watch.services.len()), kernel.version(), true, None) {
        Ok((probe, _, _)) => match probe.no_xdp() {
            None => finding(
                State::Ok,
                "programs",
                format!("the kernel takes the programs, and their tables fit: {}", sizes(watch)),
            ),
            Some(why) => finding(State::Warn, "programs", format!("{why}; ingress is watched by tc")),
        },
        Err(e) => finding(State::Fail, "programs", why::text(&e)),
    })
}

/// What the tables have room for, and what that costs.
fn sizes(watch: &Watch) -> String {
    let mib = tables::memory(watch, monitor::room(watch.services.len())) as f64 / f64::from(1 << 20);
    let sizes = tables::sizes(watch).map(|sizes| sizes.to_string()).unwrap_or_default();
    format!("{sizes}; at most {mib:.1} MiB of kernel memory")
}

/// Whether `run --pin` could do what it is for. Nothing is less without it that was not asked for.
fn pins() -> Finding {
    let text = match mounted() {
        Ok(()) => {
            format!("a bpf file system is mounted at {BPFFS}: with `run --pin` a restart misses nothing")
        }
        Err(e) => format!("{e}: `run --pin` would miss what passes between two agents"),
    };
    finding(State::Ok, "pins", text)
}

fn finding(state: State, subject: &str, text: String) -> Finding {
    Finding { state, subject: subject.to_owned(), text, remedy: String::new() }
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
