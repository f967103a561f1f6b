//! Records the small set of captures that is in the repository, with what the kernels did as labels.
//!
//! ```text
//! record new DIRECTORY      # record every scenario there; needs root
//! record label DIRECTORY    # derive the labels anew from the captures that are there
//! ```
//!
//! Each scenario is a client, a gateway and a server with impairment boxes on both wires; tcpdump listens on the
//! client, on the gateway and on the server. [`label`] says how the truth is derived. A recording counts only if each
//! host sent as many segments again as its kernel says (TcpRetransSegs).

mod file;
mod flow;
mod label;
mod scenario;
mod segment;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use harness::script::Timed;
use harness::topology::{CLIENT, INSIDE, SERVER};
use harness::truth::{self, Counters};
use harness::{Gateway, eventually, tcp::DEADLINE};
use serde_json::json;

use label::Truth;
use scenario::{SCENARIOS, Scenario};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["new", directory] => {
            for scenario in &SCENARIOS {
                record(scenario, &Path::new(directory).join(scenario.name));
            }
        }
        ["label", directory] => label(Path::new(directory)),
        _ => {
            eprintln!("usage: record new|label DIRECTORY");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Records one scenario and labels it.
fn record(scenario: &Scenario, directory: &Path) {
    let [client_side, server_side] = (scenario.boxes)();
    let world = Gateway::plan().client_side(client_side).server_side(server_side).build();
    let points = [
        ('c', &world.client, CLIENT.interface),
        ('m', &world.gateway, INSIDE.interface),
        ('s', &world.server, SERVER.interface),
    ];
    let captures =
        points.map(|(place, host, interface)| (place, truth::Capture::start(host, interface, "tcp")));
    (scenario.traffic)(&world);
    scenario::quiet(&[&world.client, &world.server]);
    settled(&captures);
    let frames: Vec<(char, Vec<Timed>)> =
        captures.into_iter().map(|(place, capture)| (place, capture.stop())).collect();
    let segments: Vec<_> = frames.iter().map(|(place, frames)| file::capture(*place, frames)).collect();
    let truth = Truth::of(&segments);

    let mut said = json!({ "name": scenario.name });
    for (name, host, address) in [("client", &world.client, &CLIENT), ("server", &world.server, &SERVER)] {
        let kernel = Counters::of(host).get("TcpRetransSegs");
        let ours = truth.sent_again(|ip| ip == address.v4 || ip == address.v6);
        assert_eq!(kernel, ours as i64, "{}: retransmissions by the {name}", scenario.name);
        said[name] = json!({ "TcpRetransSegs": kernel });
    }
    for capture in &segments {
        let strange = truth.label(capture).iter().filter(|label| label.injected).count();
        assert_eq!(strange, 0, "{}: packets at {} that no host sent", scenario.name, capture.place);
    }
    fs::create_dir_all(directory).expect("the directory can be made");
    for (place, frames) in &frames {
        file::write_capture(directory, *place, frames).expect("the capture can be written");
    }
    fs::write(directory.join("truth.json"), format!("{said:#}\n")).expect("the summary can be written");
    label(directory);
    println!(
        "{}: {} packets; {said}",
        scenario.name,
        segments.iter().map(|c| c.segments.len()).sum::<usize>()
    );
}

/// Derives the labels of the captures in a directory.
fn label(directory: &Path) {
    let captures = file::read_captures(directory).expect("the captures can be read");
    let truth = Truth::of(&captures);
    for capture in &captures {
        let lines = file::truth(&truth, capture);
        file::pack(&file::truth_path(directory, capture.place), lines.as_bytes())
            .expect("the labels can be written");
    }
}

/// How long nothing must come before everything has: many round trips.
const REST: Duration = Duration::from_millis(500);

/// Waits until the captures do not grow any more: what was delayed on the way has arrived.
fn settled(captures: &[(char, truth::Capture)]) {
    let mut before = (Vec::new(), Instant::now());
    eventually(DEADLINE, "captures at rest", || {
        let length = |capture: &truth::Capture| fs::metadata(capture.file()).map(|file| file.len());
        let now: Vec<u64> = captures.iter().filter_map(|(_, capture)| length(capture).ok()).collect();
        if before.0 != now {
            before = (now, Instant::now());
        }
        if before.1.elapsed() >= REST { Ok(()) } else { Err(format!("{:?} bytes", before.0)) }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The captures in the repository, by their directories.
    fn recorded() -> impl Iterator<Item = std::path::PathBuf> {
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures/generated");
        SCENARIOS.iter().map(move |scenario| all.join(scenario.name))
    }

    #[test]
    fn labels_are_what_the_captures_say() {
        for directory in recorded() {
            let captures = file::read_captures(&directory).unwrap();
            assert_eq!(captures.len(), 3, "{}", directory.display());
            let truth = Truth::of(&captures);
            for capture in &captures {
                let kept = file::unpack(&file::truth_path(&directory, capture.place)).unwrap();
                assert_eq!(
                    String::from_utf8(kept).unwrap(),
                    file::truth(&truth, capture),
                    "{} {}",
                    directory.display(),
                    capture.place
                );
            }
        }
    }

    #[test]
    fn each_host_sent_as_much_again_as_its_kernel_says() {
        for directory in recorded() {
            let said: serde_json::Value =
                serde_json::from_str(&fs::read_to_string(directory.join("truth.json")).unwrap()).unwrap();
            let truth = Truth::of(&file::read_captures(&directory).unwrap());
            for (name, host) in [("client", CLIENT), ("server", SERVER)] {
                let kernel = said[name]["TcpRetransSegs"].as_u64().unwrap();
                let ours = truth.sent_again(|ip| ip == host.v4 || ip == host.v6);
                assert_eq!(ours as u64, kernel, "{} {name}", directory.display());
            }
        }
    }
}
