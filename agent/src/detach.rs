//! `fivetuple detach`: takes off what agents with `--pin` left attached in this network namespace.

use crate::{
    link::{self, Link},
    pins::directory::{BPFFS, Directory},
    probe,
};
use agent_ebpf::layout::XDP_INGRESS;
use anyhow::Result;

/// Take off every program of ours, let go of the tables, and say what was there.
pub fn main() -> Result<()> {
    let links = link::links()?;
    let pins = Directory::existing()?;
    let mut said = Vec::new();
    if let Some(pins) = pins {
        for entry in std::fs::read_dir(pins.links())? {
            let entry = entry?;
            said.push(describe(&entry.file_name().to_string_lossy(), &links));
            probe::remove_pin(&entry.path())?;
        }
        let path = pins.path().display().to_string();
        pins.remove()?;
        said.push(format!("removed the tables and counts in {path}"));
    }
    for link in &links {
        for direction in probe::remove_filters(link)? {
            said.push(format!("{}: took the {} filter off", link.name, direction.name()));
        }
    }
    if said.is_empty() {
        println!("nothing of fivetuple's is attached here or pinned below {BPFFS}");
    }
    for line in said {
        println!("{line}");
    }
    Ok(())
}

/// What a pin of this name kept attached.
fn describe(pin: &str, links: &[Link]) -> String {
    let (index, program) = pin.split_once('-').unwrap_or(("", pin));
    let link = links.iter().find(|l| index == l.index.to_string());
    let hook = if program == XDP_INGRESS { "XDP" } else { "tcx" };
    match link {
        Some(link) => format!("{}: took {program} off {hook}", link.name),
        None => format!("interface {index}, which is gone: forgot {program}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_told_by_its_interface() {
        let links = [Link { index: 7, name: "eth0".to_owned(), ..Link::default() }];
        assert_eq!(describe("7-ft_xdp_in", &links), "eth0: took ft_xdp_in off XDP");
        assert_eq!(describe("8-ft_tc_out", &links), "interface 8, which is gone: forgot ft_tc_out");
    }
}
