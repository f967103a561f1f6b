//! The agent on the gateway, and the question asked of it most: are these counts, and no others, there at both points?

use std::time::{Duration, Instant};

use harness::agent::{Agent, Launch, Metrics};
use harness::topology::SERVER;
use harness::{Gateway, eventually};

/// Both interfaces of the gateway; a forwarded packet passes one on its way in and the other on its way out.
pub const POINTS: [&str; 2] = ["outside", "inside"];

/// How long what a kernel does by itself may take on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A configuration that watches both points, and more of it.
pub fn configuration(more: &str) -> String {
    format!("interfaces:\n  - name: outside\n  - name: inside\n{more}")
}

/// Services of the one server, told apart by their ports.
pub fn services<'a>(named: impl IntoIterator<Item = (&'a str, u16)>) -> String {
    let services = named.into_iter().map(|(name, port)| {
        format!("  - name: {name}\n    prefixes: [{}, \"{}\"]\n    ports: [{port}]\n", SERVER.v4, SERVER.v6)
    });
    format!("services:\n{}", services.collect::<String>())
}

/// The agent, watching both points of the gateway.
#[track_caller]
pub fn watch<'a>(world: &'a Gateway, more: &str) -> Agent<'a> {
    Launch::configuration(configuration(more)).start(&world.gateway)
}

/// The same, with what comes in from outside seen by XDP and the rest by tc.
#[track_caller]
pub fn watch_by_both_hooks<'a>(world: &'a Gateway, more: &str) -> Agent<'a> {
    let text = configuration(more).replacen("name: outside\n", "name: outside\n    ingress: xdp\n", 1);
    let agent = Launch::configuration(text).start(&world.gateway);
    let ingress = |point, mode| {
        let labels = [("point", point), ("hook", "ingress"), ("mode", mode)];
        agent.metrics().get("fivetuple_attached", &labels)
    };
    assert_eq!((ingress("outside", "xdp"), ingress("inside", "xdp")), (1.0, 0.0));
    agent
}

/// Some labels.
pub type Labels<'a> = &'a [(&'a str, &'a str)];
/// Some labels and how often they were counted.
pub type Expected<'a> = (Labels<'a>, u32);

/// Says why not, unless the family has exactly these counts at each point among the series of these labels, and nothing
/// besides.
pub fn compare(metrics: &Metrics, family: &str, of: Labels, expected: &[Expected]) -> Result<(), String> {
    let family = format!("fivetuple_tcp_{family}");
    let all = || {
        let counted = metrics.matching(&family, of).filter(|(_, value)| *value != 0.0);
        format!("there are {:?}", counted.collect::<Vec<_>>())
    };
    for point in POINTS {
        for (labels, count) in expected {
            let got = metrics.sum(&family, &join(of, labels, point));
            if got != f64::from(*count) {
                return Err(format!(
                    "{family}{:?} is {got}, not {count}; {}",
                    join(of, labels, point),
                    all()
                ));
            }
        }
        let got = metrics.sum(&family, &join(of, &[], point));
        let total: f64 = expected.iter().map(|(_, count)| f64::from(*count)).sum();
        if got != total {
            return Err(format!(
                "{family}{:?} is {got} in all, not {total}; {}",
                join(of, &[], point),
                all()
            ));
        }
    }
    Ok(())
}

fn join<'a>(of: Labels<'a>, labels: Labels<'a>, point: &'a str) -> Vec<(&'a str, &'a str)> {
    [of, labels, &[("point", point)]].concat()
}

/// The same at once: what was played by hand has passed the gateway.
#[track_caller]
pub fn exactly(agent: &Agent, family: &str, of: Labels, expected: &[Expected]) {
    if let Err(why) = compare(&agent.metrics(), family, of, expected) {
        panic!("{why}");
    }
}

/// The same, once what is still on its way has passed.
#[track_caller]
pub fn eventually_exactly(agent: &Agent, family: &str, of: Labels, expected: &[Expected]) {
    eventually(DEADLINE, "these counts", || compare(&agent.metrics(), family, of, expected));
}

/// Lets a silence last until so long after a moment: what is tested is the silence itself.
#[track_caller]
pub fn silence_until(since: Instant, length: Duration) {
    eventually(length + DEADLINE, "the silence to be over", || since.elapsed() >= length);
}
