//! Which interfaces are watched: those that are named, those that a pattern takes, and none whose packets all pass another
//! one as well.

use super::{Ingress, Interface, NO_POINT, plain};
use crate::link::Link;
use agent_ebpf::layout::MAX_POINTS;
use std::collections::{HashMap, HashSet};

/// Points at most: the last number means "none".
pub const MOST: usize = MAX_POINTS as usize - 1;
/// Points beyond those that there are, at least, that there is room for where interfaces may come.
const LEAST_SPARE: usize = 8;

/// Interfaces by a pattern of their names: `*` is any text, `?` any letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The pattern.
    pub text: String,
    /// Whether it takes interfaces out rather than in.
    pub out: bool,
    /// The hook wanted.
    pub ingress: Ingress,
}

impl Pattern {
    /// Of an entry's name, where that is one: with `*` or `?` in it, or with `!` before it, which takes out.
    pub fn of(name: &str, ingress: Ingress) -> Option<Self> {
        let out = name.strip_prefix('!');
        (out.is_some() || name.contains(['*', '?'])).then(|| Self {
            text: out.unwrap_or(name).to_owned(),
            out: out.is_some(),
            ingress,
        })
    }

    fn takes(&self, name: &str) -> bool {
        matches(self.text.as_bytes(), name.as_bytes())
    }
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], _) => name.is_empty(),
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|at| matches(rest, &name[at..])),
        ([b'?', rest @ ..], [_, after @ ..]) => matches(rest, after),
        ([letter, rest @ ..], [same, after @ ..]) if letter == same => matches(rest, after),
        _ => false,
    }
}

/// An interface all of whose packets pass another one that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twice {
    /// The one.
    pub name: String,
    /// The other.
    pub at: String,
    /// Whether it is left out for that; one that is named is watched all the same.
    pub left_out: bool,
}

impl Twice {
    /// For people.
    pub fn text(&self) -> String {
        let Self { name, at, left_out } = self;
        if *left_out {
            format!("{name} is not watched: all that passes it is seen at {at}; who names it gets both")
        } else {
            format!(
                "{name} and {at} are both watched and see the same packets: sums over both count them twice"
            )
        }
    }
}

/// What is chosen.
pub type Choice = (Vec<Interface>, Vec<Twice>);

/// Which interfaces are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those that are named.
    pub named: Vec<Interface>,
    /// Those that patterns take, in and out.
    pub patterns: Vec<Pattern>,
}

impl Wanted {
    /// Without any pattern that takes in, and without names, all are taken.
    fn every(&self) -> bool {
        self.named.is_empty() && self.patterns.iter().all(|p| p.out)
    }

    /// Room for points beyond so many that there are: for as many again, where any may come that was not named.
    pub fn spare(&self, now: usize) -> usize {
        let follows = self.every() || self.patterns.iter().any(|p| !p.out);
        if follows { now.max(LEAST_SPARE).min(MOST.saturating_sub(now)) } else { 0 }
    }

    /// Chooses among the interfaces that there are: those that are named, whatever patterns say; and those that patterns
    /// take and that are up and no loopback, or that are `held` already: one that goes down stays.
    pub fn choose(&self, links: &[Link], held: impl Fn(u32) -> bool) -> Choice {
        choose(self, links, &held)
    }
}

fn choose(wanted: &Wanted, links: &[Link], held: &dyn Fn(u32) -> bool) -> Choice {
    let (Wanted { named, patterns }, every) = (wanted, wanted.every());
    let is_named = |link: &Link| named.iter().any(|entry| entry.name == link.name);
    // A point's name is one point's.
    let is_free = |name: &str| name != NO_POINT && named.iter().all(|entry| entry.point != name);
    let ingress = |link: &Link| {
        let (out, into): (Vec<_>, Vec<_>) =
            patterns.iter().filter(|p| p.takes(&link.name)).partition(|p| p.out);
        let wanted = into.first().map(|p| p.ingress).or_else(|| every.then_some(Ingress::Auto));
        let is_there = (link.up && !link.loopback) || held(link.index);
        wanted.filter(|_| out.is_empty() && is_there && !is_named(link) && is_free(&link.name))
    };
    let taken: Vec<_> = links.iter().filter_map(|link| Some((link, ingress(link)?))).collect();
    let all: Vec<&Link> =
        links.iter().filter(|l| is_named(l)).chain(taken.iter().map(|(link, _)| *link)).collect();
    let all = Among::new(all);
    let mut twice = Vec::new();
    let mut interfaces = named.clone();
    for (link, ingress) in taken {
        match all.seen_at(link) {
            Some(other) => {
                twice.push(Twice { name: link.name.clone(), at: other.name.clone(), left_out: true });
            }
            None => interfaces.push(Interface { ingress, ..plain(link.name.clone()) }),
        }
    }
    let names: HashSet<_> = interfaces.iter().map(|entry| entry.name.as_str()).collect();
    let chosen =
        Among::new(all.links.into_iter().filter(|link| names.contains(link.name.as_str())).collect());
    for link in &chosen.links {
        if let Some(other) = chosen.seen_at(link) {
            twice.push(Twice { name: link.name.clone(), at: other.name.clone(), left_out: false });
        }
    }
    (interfaces, twice)
}

/// Interfaces, and where each is: a host may have thousands, and what they have to do with each other is asked with every
/// change.
struct Among<'a> {
    links: Vec<&'a Link>,
    by_index: HashMap<u32, &'a Link>,
}

impl<'a> Among<'a> {
    fn new(links: Vec<&'a Link>) -> Self {
        let by_index = links.iter().map(|link| (link.index, *link)).collect();
        Self { links, by_index }
    }

    /// Another one of these that all packets of an interface pass. A bond sees what its members see; a VLAN's packets are also
    /// its device's; and what a bridge itself sends and receives passes a port of it, while not all of a port's passes it.
    fn seen_at(&self, link: &Link) -> Option<&'a Link> {
        let is = |link: &Link, kinds: &[&str]| link.kind.as_deref().is_some_and(|kind| kinds.contains(&kind));
        let at = |index: Option<u32>| self.by_index.get(&index?).copied();
        let bond = at(link.master).filter(|master| is(master, &["bond", "team"]));
        bond.or_else(|| at(link.lower).filter(|_| is(link, &["vlan"]))).or_else(|| {
            let port = || self.links.iter().find(|other| other.master == Some(link.index)).copied();
            is(link, &["bridge"]).then(port).flatten()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that is down and was taken before.
    const HELD: u32 = 9;

    fn links() -> Vec<Link> {
        let link = |index, name: &str, kind: Option<&str>| Link {
            index,
            name: name.to_owned(),
            up: true,
            kind: kind.map(str::to_owned),
            ..Link::default()
        };
        let of_bond = |l| Link { master: Some(4), ..l };
        vec![
            Link { loopback: true, ..link(1, "lo", None) },
            of_bond(link(2, "eth0", None)),
            of_bond(link(3, "eth1", None)),
            link(4, "bond0", Some("bond")),
            Link { lower: Some(4), ..link(5, "bond0.7", Some("vlan")) },
            Link { master: Some(8), ..link(6, "veth0", Some("veth")) },
            Link { up: false, ..link(7, "eth9", None) },
            link(8, "br0", Some("bridge")),
            Link { up: false, ..link(HELD, "wan0", None) },
        ]
    }

    /// Names that are chosen, and those that are left out or watched twice, with where else they are seen.
    fn chosen(named: &[&str], patterns: &[&str]) -> (Vec<String>, Vec<(String, String, bool)>) {
        let named = named.iter().map(|name| plain((*name).to_owned())).collect();
        let patterns: Vec<_> =
            patterns.iter().map(|text| Pattern::of(text, Ingress::Auto).expect("a pattern")).collect();
        let wanted = Wanted { named, patterns };
        let (interfaces, twice) = wanted.choose(&links(), |index| index == HELD);
        let twice = twice.into_iter().map(|t| (t.name, t.at, t.left_out));
        (interfaces.into_iter().map(|i| i.name).collect(), twice.collect())
    }

    fn out(name: &str, at: &str, left_out: bool) -> (String, String, bool) {
        (name.to_owned(), at.to_owned(), left_out)
    }

    #[test]
    fn a_pattern_is_a_star_a_question_mark_or_an_exclamation_mark() {
        let takes =
            |pattern: &str, name: &str| Pattern::of(pattern, Ingress::Auto).is_some_and(|p| p.takes(name));
        assert!(takes("eth*", "eth0") && takes("eth*", "eth") && takes("*", "x") && takes("e*0", "eth10"));
        assert!(takes("eth?", "eth1") && !takes("eth?", "eth") && !takes("eth?", "eth10"));
        assert!(!takes("eth*", "veth0") && takes("!veth0", "veth0"));
        assert_eq!(Pattern::of("eth0", Ingress::Auto), None);
    }

    #[test]
    fn without_a_word_each_packet_is_watched_once() {
        let (names, twice) = chosen(&[], &[]);
        assert_eq!(names, ["bond0", "veth0", "wan0"]);
        let at_bond = |name| out(name, "bond0", true);
        assert_eq!(twice, [at_bond("eth0"), at_bond("eth1"), at_bond("bond0.7"), out("br0", "veth0", true)]);
    }

    #[test]
    fn patterns_take_in_and_out() {
        assert_eq!(chosen(&[], &["!veth*"]).0, ["bond0", "br0", "wan0"]);
        assert_eq!(
            chosen(&[], &["eth*"]),
            (vec!["eth0".into(), "eth1".into()], vec![]),
            "one that is down is not"
        );
        assert_eq!(chosen(&[], &["eth*", "!eth0"]).0, ["eth1"]);
        assert_eq!(chosen(&["veth0"], &["eth?", "!*1", "!v*"]).0, ["veth0", "eth0"]);
        assert_eq!(chosen(&["veth0"], &["!v*"]).0, ["veth0"], "what is named is taken, and nothing else");
    }

    #[test]
    fn a_point_s_name_is_taken_once() {
        let outside = Interface { point: "eth1".to_owned(), ..plain("veth0".to_owned()) };
        let patterns = vec![Pattern::of("eth*", Ingress::Auto).unwrap()];
        let wanted = Wanted { named: vec![outside.clone()], patterns };
        let (interfaces, _) = wanted.choose(&links(), |_| false);
        assert_eq!(interfaces, [outside, plain("eth0".to_owned())]);
    }

    #[test]
    fn there_is_room_for_what_may_come() {
        let spare = |named: &[&str], patterns: &[&str], now| {
            let named = named.iter().map(|name| plain((*name).to_owned())).collect();
            let patterns = patterns.iter().map(|text| Pattern::of(text, Ingress::Auto).unwrap()).collect();
            Wanted { named, patterns }.spare(now)
        };
        assert_eq!((spare(&[], &[], 1), spare(&[], &["!v*"], 20), spare(&["eth0"], &["v*"], 9)), (8, 20, 9));
        assert_eq!((spare(&["eth0"], &[], 1), spare(&["eth0"], &["!v*"], 1)), (0, 0), "nothing else may");
        assert_eq!((spare(&[], &[], 200), spare(&[], &[], MOST)), (54, 0));
    }

    #[test]
    fn who_names_both_gets_both_and_is_told() {
        assert_eq!(
            chosen(&["eth0", "bond0"], &[]),
            (vec!["eth0".into(), "bond0".into()], vec![out("eth0", "bond0", false)])
        );
        assert_eq!(chosen(&["eth0"], &["bond?"]).1, [out("eth0", "bond0", false)]);
    }
}
