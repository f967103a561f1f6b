//! The formats of the metrics, as a real Prometheus asks for them and understands them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use harness::agent::{Agent, Launch};
use harness::tcp::{self, Serve, Server};
use harness::topology::SERVER;
use harness::{Gateway, NetNs, Pair, eventually};

use crate::prometheus::{SCRAPED, major, query, start};

/// Between Prometheus and the agent: passes everything on, and keeps what was said at first on each connection.
struct Relay {
    address: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    fn start(namespace: &NetNs, to: SocketAddr) -> Self {
        let listener = namespace.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = said.clone();
        let accept = move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(to) else { break };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let heard = heard.clone();
                    thread::spawn(move || pass(from, to, &heard));
                }
            }
        };
        // Begun inside the namespace, it stays there. It ends with the process of the test.
        namespace.run(|| drop(thread::spawn(accept)));
        Self { address, said }
    }

    fn heard(&self, words: &[&str]) -> bool {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.iter().any(|text| words.iter().all(|word| text.to_lowercase().contains(&word.to_lowercase())))
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, heard: &Mutex<Vec<String>>) {
    let mut buffer = [0; 65_536];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(String::from_utf8_lossy(&buffer[..n.min(2048)]).into_owned());
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// With protobuf Prometheus stores the same as with text. Prometheus 3 makes native histograms of ours.
#[test]
fn prometheus_understands_protobuf() {
    let world = Gateway::plan().patient().build();
    let agent = Launch::interfaces(&["outside", "inside"]).start(&world.gateway);
    let echo = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    for _ in 0..5 {
        let mut conn = tcp::connect(&world.client, echo.address());
        tcp::echo(&mut conn, 3_000);
        conn.reset();
    }
    let relay = Relay::start(&world.gateway, agent.web());
    let native = major() >= 3;
    let wanted = if native {
        "    scrape_protocols: [PrometheusProto]\n    convert_classic_histograms_to_nhcb: true\n"
    } else {
        ""
    };
    let jobs = format!(
        "  - job_name: protobuf\n{wanted}    static_configs: [{{targets: [\"{}\"]}}]\n",
        relay.address
    );
    let storage = tempfile::tempdir().expect("a temporary directory can be made");
    let prometheus = start(&world.gateway, &jobs, "native-histograms,exemplar-storage", &storage);
    let exposed = |family: &str| agent.metrics().sum(family, &[]);
    let stored = |text: &str| -> f64 {
        let results = query(&prometheus, text);
        results.iter().filter_map(|r| r["value"][1].as_str()?.parse::<f64>().ok()).sum()
    };
    eventually(SCRAPED, "the counters to arrive", || {
        let [got, want] = [stored("sum(fivetuple_tcp_resets_total)"), exposed("fivetuple_tcp_resets_total")];
        if got == want && want >= 10.0 { Ok(()) } else { Err(format!("{got} instead of {want}")) }
    });
    assert!(relay.heard(&["accept:", "application/vnd.google.protobuf"]), "Prometheus asks for protobuf");
    let answered = "content-type: application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
    assert!(relay.heard(&[answered, "content-encoding: gzip"]), "and gets it, with gzip");
    for name in ["reuse_gap", "handshake_rtt", "first_response_byte"] {
        let family = format!("fivetuple_tcp_{name}_seconds");
        let count = exposed(&format!("{family}_count"));
        let asked = if native {
            format!("sum(histogram_count({family}))")
        } else {
            format!("sum({family}_bucket{{le=\"+Inf\"}})")
        };
        eventually(SCRAPED, &asked, || {
            let got = stored(&asked);
            if got == count { Ok(()) } else { Err(format!("{got} instead of {count}")) }
        });
        if native {
            let series = query(&prometheus, &family);
            assert_eq!(series.len(), 2, "one for each point: {series:?}");
            let buckets = series[0]["histogram"][1]["buckets"].as_array().cloned().unwrap_or_default();
            assert_eq!(buckets.is_empty(), count == 0.0, "{series:?}");
            // Our own bounds, and no powers of two: 0.00025 is one of them.
            let bounds: Vec<f64> = buckets.iter().filter_map(|b| b[2].as_str()?.parse().ok()).collect();
            let ours = agent_ebpf::histogram::BOUNDS.map(|nanos| nanos as f64 / 1e9);
            assert!(bounds.iter().all(|bound| ours.contains(bound) || bound.is_infinite()), "{bounds:?}");
        }
    }
    assert!(exposed("fivetuple_tcp_handshake_rtt_seconds_count") >= 10.0);
    let exemplars = prometheus
        .get_json("/api/v1/query_exemplars?query=fivetuple_tcp_resets_total&start=0&end=9999999999");
    assert!(exemplars.to_string().contains("event_id"), "{exemplars}");
    drop(prometheus);
    agent.stop();
}

/// 40 at once by default; here one.
#[test]
fn scrapes_are_bounded_as_asked() {
    let world = Pair::new();
    let agent = Launch::interfaces(&["eth0"]).argument("--web.max-requests=1").start(&world.left);
    let at_once = 40;
    let mut curl = world.left.cmd("curl");
    curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}\\n", "--parallel", "--parallel-immediate"]);
    curl.args(["--parallel-max", &at_once.to_string()]);
    curl.arg(format!("http://{}/metrics?[1-{at_once}]", agent.web()));
    let said = harness::command::run(curl, "");
    let [good, turned_away] = ["200", "503"].map(|code| said.lines().filter(|line| *line == code).count());
    assert_eq!(good + turned_away, at_once, "{said}");
    assert!(good >= 1, "{said}");
    still_answers(&agent);
    agent.stop();
}

#[track_caller]
fn still_answers(agent: &Agent<'_>) {
    assert!(agent.metrics().get("fivetuple_build_info", &[]) == 1.0);
}
