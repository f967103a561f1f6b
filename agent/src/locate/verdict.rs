//! What it comes to, in sentences.

use super::{Located, between::Between};
use agent_ebpf::label::Side;
use std::collections::BTreeSet;

/// The verdict: what happens where, in the order of the way, and what goes together; a sentence each.
pub fn verdict(located: &Located) -> Vec<String> {
    let name = |point: usize| located.names[point].as_str();
    let mut said: Vec<String> = Vec::new();
    for between in &located.between {
        said.extend(happens(between, name));
    }
    said.extend(located.between.iter().flat_map(|between| together(located, between)));
    if said.is_empty() {
        said.push(nothing(located));
    }
    said
}

/// A number of things, and the verb that goes with it.
fn number(n: usize, thing: &str, was: [&str; 2]) -> String {
    let (plural, was) = if n == 1 { ("", was[0]) } else { ("s", was[1]) };
    format!("{n} {thing}{plural} {was}")
}

fn nothing(located: &Located) -> String {
    let compared: usize = located.between.iter().map(|b| b.compared.len()).sum();
    match compared {
        0 => "No connection was seen at two neighbouring points: nothing can be compared.".to_owned(),
        _ => "Nothing sets the points apart: of what was compared nothing was lost, reordered, copied, reset or \
              swallowed between them."
            .to_owned(),
    }
}

fn happens<'a>(b: &Between, name: impl Fn(usize) -> &'a str) -> Vec<String> {
    let place = format!("Between {} and {}", name(b.from), name(b.to));
    let all = b.compared.len();
    let mut said = Vec::new();
    for (side, crossing) in [Side::Client, Side::Server].iter().zip(&b.sides) {
        for (what, (segments, connections)) in [
            ("lost", &crossing.lost),
            ("overtaken by later ones", &crossing.reordered),
            ("copied", &crossing.duplicated),
        ] {
            if *segments > 0 {
                let thing = number(*segments as usize, &format!("{} segment", side.name()), ["was", "were"]);
                said.push(format!("{place} {thing} {what}, on {} of {all} connections.", connections.len()));
            }
        }
    }
    for (side, connections) in [Side::Client, Side::Server].iter().zip(&b.injected) {
        if !connections.is_empty() {
            said.push(format!(
                "{place} {} of {all} connections were reset in the name of the {}, which never sent that RST.",
                connections.len(),
                side.name()
            ));
        }
    }
    if !b.vanished.is_empty() {
        let of = all + b.vanished.len();
        let n = b.vanished.len();
        let acknowledged = match b.acknowledged {
            0 => String::new(),
            some if some == n as u64 => ", although every byte was acknowledged".to_owned(),
            some => format!(", {some} of them although every byte was acknowledged"),
        };
        let what =
            if b.proxy { "requests went in and did not come out" } else { "connections were swallowed" };
        said.push(format!("{place} {n} of {of} {what}{acknowledged}."));
    }
    said
}

/// Whether those that vanish are those that were reordered, or had losses, further ahead on the way.
fn together(located: &Located, here: &Between) -> Vec<String> {
    if here.vanished.is_empty() {
        return Vec::new();
    }
    let ahead = located.between.iter().take_while(|b| b.from != here.from);
    let all: BTreeSet<usize> = here.compared.union(&here.vanished).copied().collect();
    ahead
        .flat_map(|b| {
            [("reordered", &b.sides[0].reordered.1), ("hit by a loss", &b.sides[0].lost.1)]
                .map(|(what, who)| (b, what, who))
        })
        .filter_map(|(b, what, who)| {
            let hit: BTreeSet<usize> = who.intersection(&all).copied().collect();
            let of_vanished = here.vanished.intersection(&hit).count();
            let of_others = here.compared.intersection(&hit).count();
            (of_vanished > 0).then(|| {
                format!(
                    "Of the {} that vanish {} had been {what} between {} and {}, of the {} others {}.",
                    here.vanished.len(),
                    of_vanished,
                    located.names[b.from],
                    located.names[b.to],
                    here.compared.len(),
                    of_others
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::EndPoint,
        connection::{
            Connection, Request,
            tests::{answered, later},
        },
    };
    use agent_ebpf::traffic::Served;

    const MS: u64 = 1_000_000;

    /// Ten connections a second apart; each even one asks for 10,180 bytes, each odd one for 800.
    fn asked() -> Vec<Connection> {
        let one = |i: u64| {
            let mut c = later(&answered("outside", 10_000 * MS), i * 1_000 * MS);
            c.client.port += i as u16;
            (c.from_client.isn, c.from_server.isn) = (Some(100 + i as u32), Some(9_000 + i as u32));
            c.from_client.next = 100 + i as u32 + 10_181;
            c.from_server.acked = Some(c.from_client.next);
            let large = i.is_multiple_of(2);
            c.request =
                Some(Request { bytes: if large { 10_180 } else { 800 }, segments: 8, pending: large });
            c.result = Some(if large { Served::Unanswered } else { Served::Answered });
            c
        };
        (0..10).map(one).collect()
    }

    fn passed_on(list: &[Connection], us: u64) -> Vec<Connection> {
        let mut list: Vec<Connection> = list.iter().map(|c| later(c, us * 1_000)).collect();
        for c in &mut list {
            c.times.syn_ack_ns = c.times.syn_ack_ns.map(|at| at - 2 * us * 1_000);
        }
        list
    }

    fn located(names: &[&str], points: Vec<Vec<Connection>>) -> Located {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        Located::of(names.clone(), names, points, std::time::Duration::from_secs(60), |_| true)
    }

    fn said(located: &Located) -> String {
        verdict(located).join(" ")
    }

    #[test]
    fn the_firewall_reorders_and_the_waf_swallows() {
        let outside = asked();
        let mut inside = passed_on(&outside, 100);
        for c in inside.iter_mut().step_by(2) {
            c.from_client.anomalies.insert("out_of_order".to_owned(), 3);
        }
        let leg = |c: &Connection| {
            let mut leg = later(c, 200_000);
            leg.client = EndPoint { address: c.server.address, port: c.client.port + 1_000 };
            leg.server = EndPoint { address: [10, 0, 0, 9].into(), port: 8_080 };
            leg.from_client.isn = c.from_client.isn.map(|isn| isn + 77);
            leg
        };
        let behind = inside.iter().skip(1).step_by(2).map(leg).collect();
        let found = located(&["behind", "inside", "outside"], vec![behind, inside, outside]);
        assert_eq!(
            verdict(&found).join(" "),
            "Between outside and inside 15 client segments were overtaken by later ones, on 5 of 10 \
             connections. Between inside and behind 5 of 10 requests went in and did not come out, although every byte \
             was acknowledged. Of the 5 that vanish 5 had been reordered between outside and inside, of the 5 others 0."
        );
    }

    #[test]
    fn where_nothing_happens_nothing_is_said_to() {
        let outside = asked();
        let inside = passed_on(&outside, 100);
        assert!(
            said(&located(&["a", "b"], vec![outside, inside])).starts_with("Nothing sets the points apart")
        );
    }

    #[test]
    fn what_never_comes_to_the_next_point_was_swallowed_if_that_point_was_watching() {
        let outside = asked();
        let mut inside = passed_on(&outside, 100);
        inside.remove(4);
        let text = said(&located(&["a", "b"], vec![outside.clone(), inside.clone()]));
        assert!(text.starts_with("Between a and b 1 of 10 connections were swallowed"), "{text}");
        inside.drain(..3);
        let text = said(&located(&["a", "b"], vec![outside, inside]));
        assert!(text.starts_with("Between a and b 1 of 7 connections were swallowed"), "{text}");
    }
}
