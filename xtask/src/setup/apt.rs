//! Debian's and Ubuntu's package manager, without a question and without surprises.

use std::process::Command;

use anyhow::{Result, bail};
use xtask::sh;

use crate::privilege;

/// apt on this host, if it has one.
pub struct Apt {
    present: bool,
    refreshed: bool,
}

impl Apt {
    /// Looks for apt and touches nothing.
    pub fn new() -> Self {
        Self { present: sh::find_program("apt-get").is_some(), refreshed: false }
    }

    /// Could apt install every one of these?
    pub fn has_all(&mut self, packages: &[&str]) -> bool {
        let known = || {
            let said =
                sh::stdout_of(Command::new("apt-cache").arg("policy").args(packages).env("LC_ALL", "C"));
            said.is_ok_and(|said| candidates(&said) == packages.len())
        };
        // A fresh image has no package lists, and then knows no package.
        self.present && (known() || (self.refresh().is_ok() && known()))
    }

    /// Installs these; `why` is for the user whose password sudo asks for.
    pub fn install(&mut self, packages: &[&str], why: &str) -> Result<()> {
        if !self.present {
            bail!(
                "only apt is known here, and this host has none: install {} another way",
                packages.join(", ")
            );
        }
        if let Err(stale) = self.refresh() {
            // One broken source among many is common, and need not be the one that matters.
            eprintln!("setup: {stale:#}; going on with the package lists at hand");
        }
        // A fresh virtual machine is often busy with its own first upgrade: wait for the lock. Never let apt remove
        // something of the user's to make room.
        let options =
            ["install", "--yes", "--no-install-recommends", "--no-remove", "-o", "DPkg::Lock::Timeout=600"];
        let done = sh::run(apt_get(why)?.args(options).args(packages));
        if done.is_err()
            && let Some(others) = in_the_way(packages)
        {
            bail!(
                "apt would remove {others} to install {}, and setup removes nothing: install them with \
                 `apt-get install --target-release=RELEASE`, of which {others} came, or do without {others} (`apt-get \
                 remove {others}`), or put the programs above into $PATH another way",
                packages.join(" ")
            );
        }
        done
    }

    fn refresh(&mut self) -> Result<()> {
        if !self.refreshed {
            self.refreshed = true;
            sh::run(apt_get("to refresh the package lists")?.args(["update", "-qq"]))?;
        }
        Ok(())
    }

    /// Stops a server that a package has just started, and keeps it from starting at boot.
    pub fn stop_service(&self, name: &str) {
        let script = format!("service {name} stop; update-rc.d {name} disable");
        let stopped = privilege::command("sh", "to stop a server that was not asked for")
            .and_then(|mut cmd| sh::stdout_of(cmd.args(["-c", &script])));
        if let Err(why) = stopped {
            eprintln!("setup: the package's server {name} may be running: {why:#}");
        }
    }
}

fn apt_get(why: &str) -> Result<Command> {
    let mut cmd = privilege::command("env", why)?;
    // tshark and others would ask who may capture; the answer by default is root alone.
    cmd.args(["DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1", "apt-get"]);
    Ok(cmd)
}

/// How many packages have something to install, in the words of `apt-cache policy`.
fn candidates(policy: &str) -> usize {
    let offered = policy.lines().filter_map(|line| line.trim().strip_prefix("Candidate:"));
    offered.filter(|version| version.trim() != "(none)").count()
}

/// What apt would remove to make room for these.
fn in_the_way(packages: &[&str]) -> Option<String> {
    let options = ["install", "--simulate", "--no-install-recommends"];
    let plan = sh::stdout_of(Command::new("apt-get").args(options).args(packages).env("LC_ALL", "C")).ok()?;
    let removed = removed(&plan).join(" ");
    (!removed.is_empty()).then_some(removed)
}

/// Packages that would go, in the words of `apt-get install --simulate`.
fn removed(plan: &str) -> Vec<&str> {
    plan.lines().filter_map(|line| line.strip_prefix("Remv ")?.split(' ').next()).collect()
}

#[cfg(test)]
mod tests {
    use super::{candidates, removed};

    #[test]
    fn what_apt_would_remove_is_named() {
        let plan =
            "Remv qemu-utils [1:10.0.2]\nInst seabios (1.16.2-1 Debian:12 [all])\nConf seabios (1.16.2-1)\n";
        assert_eq!(removed(plan), ["qemu-utils"]);
        assert!(removed("Inst seabios (1.16.2-1)\n").is_empty());
    }

    #[test]
    fn packages_without_a_candidate_do_not_count() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0\n  Version table:\n     1.96.0 500\n\
            cargo-web:\n  Installed: (none)\n  Candidate: (none)\n";
        assert_eq!(candidates(policy), 1);
        assert_eq!(candidates("N: Unable to locate package rustc-web"), 0);
    }
}
