//! Campus card, played: payments that vanish without a word, and where and why they do.

mod picture;
mod said;

use crate::agent::{Agent, Launch};
use crate::cases::CampusCard;
use crate::cases::campus_card::{Options, Payment, SERVICE};

use super::compared::Compared;
use super::{Played, Tell, command, settle};
use said::{Explained, Located, REORDERED, Seen, VANISHED};

/// Where the firewall and the WAF stand, and why requests vanish: what the world was built to do.
const REORDERING: &str = "outside to inside";
const VANISHING: &str = "front to behind";
/// Payments between one line about them and the next.
const BATCH: usize = 50;

/// Plays so many payments.
#[track_caller]
pub fn play(options: Options, payments: usize, tell: Tell<'_>) -> Played {
    tell("Campus card: a provider tops up cards, one request on each connection.\n");
    tell("  provider --outside-- firewall --inside-- router --front-- WAF --behind-- card server\n");
    let world = CampusCard::new(options);
    let rack = world.points()[0].namespace;
    let configuration = world.configuration() + "    http: true\n";
    let agent = Launch::configuration(configuration).default_listen_address().start(rack);
    tell("One agent watches the four points. The provider begins to pay; no device reports anything.");
    let paid = pay(&world, &agent, payments, tell);

    let ended = 3 * paid.len() + paid.iter().filter(|payment| payment.arrived).count();
    settle(|| said::ended(&agent) == ended);
    let url = format!("http://{}", agent.web());
    let points = world.points().map(|point| format!("{}={url}", point.name)).join(",");
    tell("\nWhere does it happen?");
    let located = command(rack, &["locate", "--svc", SERVICE, "--points", &points], tell);
    tell("And what sets the failed ones apart?");
    let explained = command(rack, &["explain", "--svc", SERVICE], tell);

    let names = world.points().map(|point| point.name);
    let seen = said::seen(&agent, names);
    let compared = compare(&paid, &agent, &Located(&located), &Explained::of(&explained), &seen);
    agent.stop();
    Played {
        table: compared.table(),
        picture: picture::svg(&seen, &Located(&located)),
        figures: compared.figures,
        wrong: compared.wrong,
    }
}

/// Makes the payments, and tells after some of them what became of those.
fn pay(world: &CampusCard, agent: &Agent<'_>, payments: usize, tell: Tell<'_>) -> Vec<Payment> {
    let mut paid = Vec::new();
    while paid.len() < payments {
        paid.extend(world.run(BATCH.min(payments - paid.len())));
        let lost = unanswered(&paid);
        settle(|| said::unanswered(agent) == lost as f64);
        tell(&format!(
            "  {} payments, {} answered, {lost} not; fivetuple counts {} without an answer",
            paid.len(),
            paid.len() - lost,
            said::unanswered(agent)
        ));
    }
    paid
}

fn unanswered(paid: &[Payment]) -> usize {
    paid.iter().filter(|payment| !payment.answered).count()
}

fn compare(
    paid: &[Payment],
    agent: &Agent<'_>,
    located: &Located<'_>,
    explained: &Explained,
    seen: &[Seen; 4],
) -> Compared {
    let count = |which: fn(&Payment) -> bool| paid.iter().filter(|payment| which(payment)).count();
    let (all, reordered) = (paid.len(), count(|payment| payment.reordered));
    let (kept, arrived) = (count(|payment| payment.swallowed), count(|payment| payment.arrived));
    let lost_of_reordered = count(|payment| payment.reordered && !payment.answered);
    let lost_of_others = count(|payment| !payment.reordered && !payment.answered);
    let [outside, .., behind] = seen;
    let mut compared = Compared::default();
    let mut number = |name: &str, what: &str, asked: &str, truth: usize, said: f64| {
        compared.number(&format!("campus-card/{name}"), what, asked, truth, said);
    };
    number("payments", "payments that the provider made", "connections outside", all, outside.all as f64);
    let counted = said::unanswered(agent);
    number("unanswered", "of those without an answer", "unanswered_requests", unanswered(paid), counted);
    let told = located.at(REORDERING, REORDERED);
    number("reordered", "requests that the firewall reordered", "locate", reordered, told);
    let told = located.at(VANISHING, VANISHED);
    number("vanished_at_waf", "requests that the WAF kept", "locate", kept, told);
    let told = behind.all as f64;
    number("arrived", "requests that the card server got", "connections behind", arrived, told);
    for (place, what) in [(REORDERING, REORDERED), (VANISHING, VANISHED)] {
        let name = if what == VANISHED { "where requests vanish" } else { "where they are reordered" };
        compared.row(name, "locate", &place.to_owned(), &located.places(what));
    }
    let truth = Explained {
        what: "reordered".to_owned(),
        with: [lost_of_reordered, reordered],
        without: [lost_of_others, all - reordered],
    };
    compared.row("failed of which requests", "explain", &truth, explained);
    compared
}
