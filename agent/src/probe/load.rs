//! Loading the programs, and what to say where the kernel refuses one.

use super::{FRAGS, errno};
use crate::why;
use agent_ebpf::layout::{TC_EGRESS, TC_INGRESS, XDP_INGRESS};
use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Ebpf,
    programs::{Program, ProgramError},
};
use std::thread;

/// Why the XDP program is not loaded, where nobody wants it.
pub const NOT_ASKED: &str = "no interface asked for XDP when the agent started";

/// The object that `open` makes, with frames in pieces or without, once the programs that hang on interfaces are loaded: the
/// one for XDP only where it is wanted; and why that one is not loaded, if it is not.
pub fn hooks(
    open: impl Fn(bool) -> Result<Ebpf>,
    kernel: (u32, u32),
    xdp: bool,
) -> Result<(Ebpf, Option<String>)> {
    let mut ebpf = open(true)?;
    let mut no_xdp = Some(NOT_ASKED.to_owned());
    if xdp {
        let mut done = one(&mut ebpf, XDP_INGRESS);
        if done.is_err() && kernel < FRAGS {
            // Without frames in pieces jumbo frames cannot be had.
            ebpf = open(false)?;
            done = one(&mut ebpf, XDP_INGRESS);
        }
        no_xdp = done.err().map(|e| format!("the kernel refuses the XDP program: {}", why::text(&e)));
    }
    side_by_side(&mut ebpf, &[TC_INGRESS, TC_EGRESS])?;
    Ok((ebpf, no_xdp))
}

/// Load several programs at once: the kernel takes half a second to verify each of the large ones, on one processor.
fn side_by_side(ebpf: &mut Ebpf, names: &[&str]) -> Result<()> {
    let wanted: Vec<_> = ebpf.programs_mut().filter(|(name, _)| names.contains(name)).collect();
    if wanted.len() < names.len() {
        bail!("the kernel object lacks some of the programs {names:?}; rebuild the agent");
    }
    thread::scope(|scope| {
        // The rights that are in force are inherited.
        let loads = wanted.into_iter().map(|(name, program)| (name, scope.spawn(|| load(program))));
        let loads: Vec<_> = loads.collect();
        loads.into_iter().try_for_each(|(name, load)| {
            let loaded = load.join().map_err(|_| anyhow!("loading it panicked"))?;
            loaded.with_context(|| format!("the kernel refuses the program {name}"))
        })
    })
}

fn one(ebpf: &mut Ebpf, name: &str) -> Result<()> {
    match ebpf.program_mut(name) {
        Some(program) => load(program),
        None => bail!("the kernel object has no program {name}; rebuild the agent"),
    }
}

fn load(program: &mut Program) -> Result<()> {
    let done = match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        _ => {
            bail!("the kernel object has a program of a kind that this agent has none of; rebuild the agent")
        }
    };
    done.map_err(|e| match e {
        ProgramError::LoadError { io_error, verifier_log } => {
            let error = anyhow!(io_error);
            match last_word(&verifier_log.to_string()) {
                // Without CAP_PERFMON the verifier is stricter; it calls such a user "!root".
                Some(word) if word.contains("!root") => {
                    error.context(format!("the kernel's verifier says: {word}; give the agent CAP_PERFMON"))
                }
                Some(word) => error.context(format!("the kernel's verifier says: {word}")),
                None => explain(error),
            }
        }
        other => explain(anyhow!(other)),
    })
}

/// What the verifier objects to: the last line that is neither its path nor its statistics.
fn last_word(log: &str) -> Option<String> {
    let statistics = ["processed ", "verification time ", "stack depth ", "peak_states "];
    let lines = log.lines().map(str::trim);
    let word = lines.rev().find(|l| !l.is_empty() && !statistics.iter().any(|s| l.starts_with(s)))?;
    Some(word.to_owned())
}

/// What an operator can do about a load that failed.
pub fn explain(error: anyhow::Error) -> anyhow::Error {
    let remedy = match errno(&error) {
        Some(libc::EPERM) => "give the agent CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, or run it as root",
        Some(libc::ENOMEM) => {
            "make the tables smaller (tables.memory in the configuration), or raise the memory limit"
        }
        Some(libc::E2BIG | libc::EINVAL) => "`fivetuple check` says whether this kernel is new enough",
        _ => "`fivetuple check` says what this kernel allows",
    };
    error.context(format!("cannot load the kernel programs and their tables; {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_s_objection_is_found_behind_its_path() {
        let log = "0: (bf) r6 = r1\ninvalid access to packet\nverification time 9 usec\nstack depth 424+0\nprocessed 7 insns\n";
        assert_eq!(last_word(log).as_deref(), Some("invalid access to packet"));
        assert_eq!(last_word("processed 7 insns"), None);
    }
}
