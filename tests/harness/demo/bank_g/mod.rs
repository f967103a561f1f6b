//! Bank G, played: payments that are reset, why, and what each change of the operators makes of it.

mod picture;
mod said;

use std::time::Duration;

use crate::agent::Launch;
use crate::cases::BankG;
use crate::cases::bank_g::{Options, Stage, StageTruth};
use crate::report::figure::Figure;
use crate::report::table;

use super::compared::Compared;
use super::{Played, Tell, command, settle};
use said::{Predicted, Said};

/// A stage: what happened, and what `fivetuple` says of it.
struct Day {
    /// Payments that were made.
    payments: usize,
    /// Payments that were reset.
    resets: usize,
    said: Said,
    /// What was expected of it; nothing of the first.
    predicted: Option<Predicted>,
}

/// Plays the four stages.
#[track_caller]
pub fn play(options: Options, tell: Tell<'_>) -> Played {
    tell(
        "Bank G: merchants pay; a balancer hands each payment to one of two crypto proxies, which open a second",
    );
    tell("leg to the bank with the client's own address and port.\n");
    tell("  merchants --front-- balancer --leg1-- two proxies --leg2-- bank\n");
    let world = BankG::new(options.clone());
    let rack = world.points()[0].namespace;
    let agent = Launch::configuration(world.configuration()).default_listen_address().start(rack);
    tell("One agent watches front, leg1 and leg2. Four days follow, some seconds each.");
    let (mut days, mut predicted) = (Vec::<Day>::new(), Vec::new());
    for (number, stage) in Stage::ALL.into_iter().enumerate() {
        tell(&format!("\nStage {number}: {}.", change(stage, &options)));
        let before = said::so_far(&agent);
        let truth = world.run_stage(stage);
        let said = || said::so_far(&agent).since(before);
        settle(|| said() == Said::of(&truth));
        let day = Day {
            payments: truth.payments.len(),
            resets: truth.resets(),
            said: said(),
            predicted: number.checked_sub(1).and_then(|at| predicted.get(at).copied()),
        };
        tell(&format!(
            "  {} payments, {} reset; fivetuple counts {} resets, {} of them with the cause time_wait",
            day.payments, day.resets, day.said.resets, day.said.time_wait
        ));
        tell_gaps(&truth, tell);
        days.push(day);
        if stage == Stage::OwnPorts {
            tell(
                "\nWhat would it take? The operators can keep ports, take the proxies in turn, and shorten TIME-WAIT.",
            );
            let shorter = format!("{}ms", options.time_wait[1].as_millis());
            let asked = ["reuse", "--clients", "front", "--proxies", "leg1", "--time-wait", &shorter];
            predicted = Predicted::of(&command(rack, &asked, tell));
        }
    }
    agent.stop();
    let compared = compare(&days);
    Played {
        table: table(&days),
        picture: picture::svg(&days),
        figures: compared.figures,
        wrong: compared.wrong,
    }
}

/// What the proxies know: how soon the five-tuples came back of which they refused leg 2.
fn tell_gaps(truth: &StageTruth, tell: Tell<'_>) {
    let gaps = truth.refused_gaps();
    if let (Some(least), Some(most)) = (gaps.iter().min(), gaps.iter().max()) {
        let [least, most] = [least, most].map(Duration::as_millis);
        tell(&format!("  the five-tuples of those had been closed {least} to {most} ms before"));
    }
}

/// What the operators did before a stage.
fn change(stage: Stage, options: &Options) -> String {
    let [long, short] = options.time_wait;
    match stage {
        Stage::OwnPorts => format!(
            "the balancer connects from {} ports of its own to the proxy with the fewest connections; TIME-WAIT on the \
             proxies is {long:?}",
            options.own_ports
        ),
        Stage::ClientPorts => "the balancer keeps the clients' addresses and ports".to_owned(),
        Stage::RoundRobin => "it also takes the proxies in turn".to_owned(),
        Stage::ShortTimeWait => format!("TIME-WAIT on the proxies is {short:?} instead of {long:?}"),
    }
}

/// The same in a word or two.
fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::OwnPorts => "as it was",
        Stage::ClientPorts => "keep ports",
        Stage::RoundRobin => "round robin",
        Stage::ShortTimeWait => "short TIME-WAIT",
    }
}

fn compare(days: &[Day]) -> Compared {
    let mut compared = Compared::default();
    for (number, day) in days.iter().enumerate() {
        let truths = [day.payments, day.resets, day.resets, day.resets].map(|truth| truth as f64);
        let Said { payments, resets, time_wait, proved } = day.said;
        let names =
            ["payments", "resets", "resets with the cause time_wait", "resets whose leg 2 was in TIME-WAIT"];
        for ((what, truth), said) in names.into_iter().zip(truths).zip([payments, resets, time_wait, proved])
        {
            compared.check(&format!("stage {number}, {what}"), &truth, &said);
        }
        let truth = Some(day.resets as f64);
        let mut figure = |name: String, value: f64, truth: Option<f64>| {
            compared.figures.push(Figure::count(format!("bank-g/{name}"), "resets", value, truth));
        };
        figure(format!("resets/stage{number}"), resets, truth);
        if let Some(Predicted { low, expected, high }) = day.predicted {
            figure(format!("predicted/stage{number}"), expected, truth);
            figure(format!("predicted/stage{number}/low"), low, None);
            figure(format!("predicted/stage{number}/high"), high, None);
        } else if number > 0 {
            compared.wrong.push(format!("stage {number}: fivetuple predicted nothing of it"));
        }
    }
    let sum = |of: fn(&Day) -> f64| days.iter().map(of).sum::<f64>();
    let all = sum(|day| day.resets as f64);
    let payments = sum(|day| day.payments as f64);
    compared.figures.extend([
        Figure::count("bank-g/payments", "payments", sum(|day| day.said.payments), Some(payments)),
        Figure::count("bank-g/time_wait", "resets", sum(|day| day.said.time_wait), Some(all)),
        Figure::count("bank-g/time_wait_proved", "resets", sum(|day| day.said.proved), Some(all)),
    ]);
    compared
}

fn table(days: &[Day]) -> String {
    let rows: Vec<Vec<String>> = days
        .iter()
        .zip(Stage::ALL)
        .enumerate()
        .map(|(number, (day, stage))| {
            let mut row = vec![number.to_string(), name(stage).to_owned()];
            row.extend([day.payments, day.resets].map(|count| count.to_string()));
            row.extend([day.said.resets, day.said.time_wait, day.said.proved].map(|count| count.to_string()));
            if let Some(predicted) = day.predicted {
                let came = if predicted.holds(day.resets) { "within" } else { "missed" };
                row.push(format!("{:.1}", predicted.expected));
                row.push(format!("{}..{}", predicted.low, predicted.high));
                row.push(came.to_owned());
            }
            row
        })
        .collect();
    let head = [
        "STAGE",
        "CHANGE",
        "PAYMENTS",
        "RESET",
        "FIVETUPLE",
        "TIME_WAIT",
        "PROVED BY LEG 2",
        "PREDICTED",
        "95 %",
        "",
    ];
    table::lines(&head, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(said: f64, predicted: Option<Predicted>) -> Day {
        let said = Said { payments: 9.0, resets: said, time_wait: said, proved: said };
        Day { payments: 9, resets: 5, said, predicted }
    }

    #[test]
    fn a_prediction_that_misses_is_shown_and_no_fault() {
        let days = [day(5.0, None), day(5.0, Some(Predicted { low: 1.0, expected: 2.5, high: 4.0 }))];
        assert!(table(&days).ends_with("2.5  1..4  missed\n"), "{}", table(&days));
        let compared = compare(&days);
        assert!(compared.wrong.is_empty());
        let names: Vec<&str> = compared.figures.iter().map(|figure| figure.name.as_str()).collect();
        assert_eq!(names[..3], ["bank-g/resets/stage0", "bank-g/resets/stage1", "bank-g/predicted/stage1"]);
    }

    #[test]
    fn a_count_that_differs_is_one() {
        let wrong = compare(&[day(4.0, None), day(5.0, None)]).wrong;
        assert_eq!(wrong.len(), 4);
        assert_eq!(wrong[0], "stage 0, resets: fivetuple says 4, the truth is 5");
        assert_eq!(wrong[3], "stage 1: fivetuple predicted nothing of it");
    }
}
