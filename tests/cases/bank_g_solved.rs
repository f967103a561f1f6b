//! Bank G solved by the agent: each reset gets its cause and its leg, and what stage 0 shows predicts the others.

use harness::agent::{Agent, Launch};
use harness::cases::BankG;
use harness::cases::bank_g::{Options, SERVICES, Stage, StageTruth};
use harness::eventually;
use harness::tcp::DEADLINE;
use serde_json::Value;
use std::time::Duration;

/// Connections of leg 1 that the agent knows and that were reset by the proxies.
fn resets(agent: &Agent<'_>) -> Vec<Value> {
    let list = agent.get_json(&format!("/api/v1/connections?svc={}", SERVICES[1]));
    let connections = list["connections"].as_array().unwrap().clone();
    connections.into_iter().filter(|c| c["point"] == "leg1" && c["result"] == "reset").collect()
}

/// The three changes as `reuse` predicts them, least and most.
fn predicted(agent: &Agent<'_>, since: Duration) -> [(f64, f64, f64); 3] {
    let path = format!(
        "/api/v1/reuse?clients=front&proxies=leg1&time_wait_seconds=0.1&since_seconds={}",
        since.as_secs() + 1
    );
    let report = agent.get_json(&path);
    let in_force = report["prediction"]["in_force_seconds"].as_f64();
    assert!(in_force.is_some_and(|s| (0.9..=1.1).contains(&s)), "TIME-WAIT is 1 s: {in_force:?}");
    // It is told where the five-tuples are that collide, behind the balancer and not in front of it.
    let at = |point: &str| {
        let points = report["points"].as_array().unwrap();
        points.iter().find(|at| at["point"] == point).unwrap_or_else(|| panic!("no {point} in {report:#}"))
    };
    assert_eq!(at("leg1")["in_force"]["seems_seconds"].as_f64(), in_force);
    let front = at("front");
    assert!(front["collisions"].as_u64() > Some(0) && front["in_force"].is_null(), "{front:#}");
    assert_eq!(front["elsewhere"]["point"], "leg1", "{front:#}");
    let stages =
        report["prediction"]["stages"].as_array().unwrap_or_else(|| panic!("no stages in {report:#}"));
    let number =
        |stage: &Value, key: &str| stage[key].as_f64().unwrap_or_else(|| panic!("no {key} in {stage}"));
    [0, 1, 2].map(|i| (number(&stages[i], "low"), number(&stages[i], "expected"), number(&stages[i], "high")))
}

#[test]
fn each_reset_has_its_cause_and_its_leg_and_the_later_stages_are_predicted() {
    let world = BankG::new(Options::default());
    let points = world.points();
    let agent = Launch::configuration(world.configuration()).start(points[0].namespace);
    let mut seen = 0;
    let mut told = None;
    let mut truths: Vec<StageTruth> = Vec::new();
    for stage in Stage::ALL {
        let began = std::time::Instant::now();
        let truth = world.run_stage(stage);
        let resets = eventually(DEADLINE, "the resets of the stage", || {
            let resets = resets(&agent);
            (resets.len() == seen + truth.resets()).then_some(resets)
        });
        seen = resets.len();
        for reset in &resets {
            let leg = &reset["second_leg"];
            assert_eq!(reset["reset"]["cause"], "time_wait", "{reset:#}");
            assert_eq!((&leg["state"], &leg["point"]), (&"time_wait".into(), &"leg2".into()), "{reset:#}");
        }
        if stage == Stage::OwnPorts {
            assert!(truth.resets() > 0);
            told = Some(predicted(&agent, began.elapsed()));
        }
        truths.push(truth);
    }
    let counts: Vec<usize> = truths.iter().map(StageTruth::resets).collect();
    let told = told.unwrap();
    println!("resets {counts:?}, predicted {told:?}");
    for (count, (low, _, high)) in counts[1..].iter().zip(told) {
        assert!((low..=high).contains(&(*count as f64)), "{counts:?} against {told:?}");
    }
    assert_eq!(counts[3], 0);
    // The counters, too, once the legs are looked for.
    let proved =
        || agent.metrics().sum("fivetuple_leg_resets_total", &[("point", "leg1"), ("leg", "time_wait")]);
    eventually(DEADLINE, "every reset's second leg to be found", || proved() == seen as f64);
    let others = ["answered", "never_sent", "refused"];
    for leg in others {
        assert_eq!(agent.metrics().sum("fivetuple_leg_resets_total", &[("leg", leg)]), 0.0, "{leg}");
    }
    told_to_the_operator(&agent);
    agent.stop();
}

/// A built-in rule has it, with the leg that was in the way.
fn told_to_the_operator(agent: &Agent<'_>) {
    let alert = eventually(DEADLINE, "an alert", || {
        let all = agent.get_json("/api/v1/alerts");
        let rows = all["alerts"].as_array().expect("a list").clone();
        rows.into_iter().find(|row| row["rule"] == "FivetupleLegTimeWait").ok_or_else(|| all.to_string())
    });
    let evidence = alert["alert"]["evidence"].as_array().expect("it fires");
    assert!(!evidence.is_empty(), "{alert:#}");
    for one in evidence {
        assert_eq!(one["second_leg"]["state"], "time_wait", "{one:#}");
        assert_eq!(one["connection"]["result"], "reset", "{one:#}");
        assert!(one["text"].as_str().is_some_and(|text| text.contains("time_wait, closed ")), "{one:#}");
    }
}
