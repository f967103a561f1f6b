//! Whether what is pinned under our names is ours.

use crate::{
    probe::object,
    sys::{
        pin::{self, Facts},
        program,
    },
};
use agent_ebpf::layout::{TC_EGRESS, TC_INGRESS, XDP_INGRESS};
use anyhow::{Context as _, Result, anyhow, bail};
use aya::maps::MapData;
use aya_obj::{
    Map, Object, ParseError,
    generated::bpf_prog_type::{BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_XDP},
};
use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::LazyLock,
};

/// Type, key size and value size of each of the object's maps.
pub struct Shapes(BTreeMap<String, [u32; 3]>);

impl Shapes {
    /// As the kernel object has them, which is parsed for the first who asks.
    pub fn read() -> Result<&'static Self> {
        static SHAPES: LazyLock<Result<Shapes, ParseError>> = LazyLock::new(|| {
            let shape = |map: &Map| [map.map_type(), map.key_size(), map.value_size()];
            let maps = Object::parse(object::OBJECT)?.maps;
            Ok(Shapes(maps.into_iter().map(|(name, map)| (name, shape(&map))).collect()))
        });
        SHAPES.as_ref().context("the kernel object cannot be read; rebuild the agent")
    }

    /// Refuse a pin that is not our map of this name, with so many entries where that is given.
    pub fn check(&self, path: &Path, name: &str, entries: Option<u32>) -> Result<()> {
        let place = path.display();
        let remedy = "remove it, or everything here with `fivetuple detach`";
        let Some(fd) = pin::get(path).with_context(|| format!("{place} cannot be opened; {remedy}"))? else {
            bail!(
                "{place} is missing, which the running programs count in: somebody removed it; `fivetuple detach` removes the rest"
            );
        };
        let facts = Facts::of(fd.as_fd())?;
        let shape = ["map_type", "key_size", "value_size"].map(|name| facts.number(name).unwrap_or(u32::MAX));
        let wanted = self.0.get(name).copied().unwrap_or_default();
        let there = facts.number("max_entries");
        if shape != wanted || entries.is_some_and(|entries| there != Some(entries)) {
            let told = |[kind, key, value]: [u32; 3]| match kind {
                u32::MAX => "no map".to_owned(),
                _ => format!("a map of type {kind} with keys of {key} and values of {value} bytes"),
            };
            bail!(
                "{place} is not ours: it is {}, {} entries, and ours is {}, {} entries; {remedy}",
                told(shape),
                there.unwrap_or(0),
                told(wanted),
                entries.map_or_else(|| "any number of".to_owned(), |n| n.to_string())
            );
        }
        let info = MapData::from_fd(fd)?.info()?;
        if info.name_as_str().is_some_and(|called| called != name) {
            bail!(
                "{place} is not ours: it is another map, {:?}; {remedy}",
                info.name_as_str().unwrap_or_default()
            );
        }
        Ok(())
    }

    /// Refuse to remove a start that was never finished if something in it is not ours.
    pub fn check_unfinished(&self, generation: &Path) -> Result<()> {
        for entry in fs::read_dir(generation)? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(name) = name.to_str().filter(|name| self.0.contains_key(*name)) {
                self.check(&entry.path(), name, None)?;
            }
        }
        Ok(())
    }
}

/// Refuse a pinned program that is not ours: of another kind, by another name, or one that does not count in the table of
/// slots that is pinned there.
pub fn check_program(path: &Path, name: &str, slots: &Path) -> Result<()> {
    let refuse =
        || format!("{} is not ours; remove it, or everything there with `fivetuple detach`", path.display());
    let open = |path: &Path| -> Result<OwnedFd> {
        let there = pin::get(path).and_then(|fd| fd.ok_or_else(|| io::ErrorKind::NotFound.into()));
        there.with_context(refuse)
    };
    let program = program::program_info(open(path)?.as_fd()).with_context(refuse)?;
    let kind = if name == XDP_INGRESS { BPF_PROG_TYPE_XDP } else { BPF_PROG_TYPE_SCHED_CLS };
    if program.kind != kind as u32 || program.name != name {
        return Err(anyhow!("it is another program, {:?}", program.name).context(refuse()));
    }
    let table = Facts::of(open(slots)?.as_fd())?.number("map_id");
    if !table.is_some_and(|table| program.maps.contains(&table)) {
        return Err(anyhow!("it counts in other tables than {}", slots.display()).context(refuse()));
    }
    Ok(())
}

/// Refuse a pinned link that is not one of ours: of another kind, on another interface or in another direction (`ingress`
/// or `egress`), or with another program. Whether it hangs on its interface still.
pub fn check_link(
    path: &Path,
    (kind, side): (&str, &str),
    index: u32,
    program: &str,
) -> Result<Option<bool>> {
    let Some(fd) = pin::get(path).with_context(|| format!("cannot open {}", path.display()))? else {
        return Ok(None);
    };
    let facts = Facts::of(fd.as_fd())?;
    let remedy = "remove it, or everything there with `fivetuple detach`";
    match facts.text("link_type") {
        Some(there) if there == kind => {}
        Some(there) => {
            bail!("{} is not ours: it is a link of type {there}, not {kind}; {remedy}", path.display())
        }
        None => bail!("{} is not ours: it is no link; {remedy}", path.display()),
    }
    let there = facts.number("ifindex").unwrap_or_default();
    if there != 0 && there != index {
        bail!("{} is not ours: it is on interface number {there}, not {index}; {remedy}", path.display());
    }
    // XDP has one direction and does not tell.
    if let Some(place) = facts.text("attach_type").filter(|place| !place.contains(side)) {
        bail!("{} is not ours: it is at {place}, not at {side}; {remedy}", path.display());
    }
    // Asking for the name takes rights that the agent can do without.
    if let Some(Ok(name)) = facts.number("prog_id").map(program::program_name)
        && name != program
    {
        bail!("{} is not ours: its program is {name}, not {program}; {remedy}", path.display());
    }
    Ok(Some(there != 0))
}

/// Refuse a pin among the links that is not one of ours by its name, which is an interface's number and a program's name, or
/// by what is pinned there.
pub fn check_any_link(path: &Path) -> Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let named = name.split_once('-').and_then(|(index, program)| Some((index.parse().ok()?, program)));
    let (index, program): (u32, &str) = named.with_context(|| format!("{} is not ours", path.display()))?;
    let kind = match program {
        XDP_INGRESS => ("xdp", "ingress"),
        TC_INGRESS => ("tcx", "ingress"),
        TC_EGRESS => ("tcx", "egress"),
        _ => bail!("{} is not ours", path.display()),
    };
    check_link(path, kind, index, program).map(drop)
}
