//! Tests of the HTTP interface: a real listener, a backend that answers at once.

use super::*;
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// Scrapes at the same time.
const MAX_SCRAPES: usize = 16;

#[derive(Default)]
struct Fake {
    attached: Arc<AtomicBool>,
    scrapes: Arc<AtomicUsize>,
    gate: Arc<tokio::sync::Mutex<()>>,
}

impl Backend for Fake {
    fn metrics(&self) -> anyhow::Result<String> {
        self.scrapes.fetch_add(1, Ordering::Relaxed);
        let _open = self.gate.blocking_lock();
        Ok("# HELP f_x X.\n# TYPE f_x counter\nf_x_total 1\n# EOF\n".to_owned())
    }
    fn metrics_protobuf(&self) -> anyhow::Result<Vec<u8>> {
        Ok(b"\x04\x0a\x02f_".to_vec())
    }
    fn readiness(&self) -> Vec<Check> {
        let ok = self.attached.load(Ordering::Relaxed);
        vec![Check { name: "outside".to_owned(), ok, detail: "no XDP".to_owned() }]
    }
    fn flows(&self, filter: &FlowFilter) -> Result<FlowList, Refusal> {
        match &filter.svc {
            Some(svc) => Err(Refusal::Filter(format!("no service {svc}"))),
            None => Ok(FlowList { total: 3, flows: Vec::new() }),
        }
    }
    fn events(&self, _: &EventFilter) -> Result<EventList, Refusal> {
        Ok(EventList::default())
    }
    fn connections(&self, _: &ConnectionFilter) -> Result<ConnectionList, Refusal> {
        Ok(ConnectionList {
            forgotten: 0,
            connections: vec![crate::connection::tests::answered("outside", 1)],
        })
    }
    fn reuse(&self, asked: &ReuseFilter) -> Result<Report, Refusal> {
        crate::reuse::report(&[], &["outside".to_owned()], asked, 0).map_err(Refusal::Filter)
    }
    fn alerts(&self) -> AlertList {
        AlertList::default()
    }
    fn reload(&self) -> Result<(), String> {
        Err("line 3: limits: unknown key".to_owned())
    }
}

type Started = (SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>);

/// A server on a port of its own; its address, and what ends it.
async fn start(fake: Fake) -> Started {
    start_with(fake, None).await
}

/// The same under a web configuration.
async fn start_with(fake: Fake, web: Option<Arc<Live>>) -> Started {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let serving = Serving { telemetry_path: "/metrics".to_owned(), max_requests: MAX_SCRAPES, web };
    let server = tokio::spawn(serve(vec![listener], serving, Arc::new(fake), stopped));
    (address, stop, server)
}

/// A web configuration of this text, and its file.
fn web(text: &str) -> (tempfile::NamedTempFile, Arc<Live>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let live = Live::open(file.path()).unwrap();
    (file, Arc::new(live))
}

/// The whole answer to one request.
async fn ask(address: SocketAddr, request: &str, headers: &str) -> String {
    let text = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    let blocking = move || {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(text.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    spawn_blocking(blocking).await.unwrap().unwrap()
}

#[tokio::test]
async fn every_page_answers() {
    let (address, _stop, _server) = start(Fake::default()).await;
    for (request, status, part) in [
        ("GET /metrics", "200 OK", "# TYPE f_x_total counter"),
        ("GET /-/healthy", "200 OK", "healthy"),
        ("GET /-/ready", "503 Service", "fivetuple is not ready: outside: no XDP"),
        ("GET /-/ready?verbose", "503 Service", r#"{"ready":false,"checks":[{"name":"outside","ok":false,"#),
        ("GET /-/reload", "405 Method", "POST"),
        ("POST /-/reload", "500 Internal", "stays in force: line 3: limits"),
        ("GET /api/v1/flows", "200 OK", r#"{"total":3,"flows":[]}"#),
        ("GET /api/v1/flows?svc=zz", "400 Bad", r#"{"error":"no service zz"}"#),
        ("GET /api/v1/flows?sv=zz", "400 Bad", "unknown field `sv`"),
        ("GET /api/v1/flows?port=http", "400 Bad", "port"),
        ("GET /api/v1/events?id=7", "200 OK", r#"{"events":[]}"#),
        ("GET /api/v1/explain", "200 OK", r#""verdict":"none_failed","answer":"At outside: none of 1 conn"#),
        ("GET /api/v1/explain?since=9", "400 Bad", "unknown field `since`"),
        ("GET /api/v1/reuse", "200 OK", r#"{"forgotten":0,"points":[{"point":"outside","connections":0,"#),
        ("GET /api/v1/alerts", "200 OK", r#"{"alerts":[]}"#),
        ("GET /api/v1/reuse?clients=outsid&proxies=outside", "400 Bad", "did you mean outside?"),
        ("GET /", "200 OK", "default-src 'none'"),
        ("GET /nothing", "404 Not", ""),
        ("POST /metrics", "405 Method", ""),
    ] {
        let answer = ask(address, request, "").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
        assert!(answer.to_lowercase().contains(&part.to_lowercase()), "{request}: {answer}");
    }
}

#[tokio::test]
async fn readiness_follows_the_backend() {
    let fake = Fake::default();
    let attached = fake.attached.clone();
    let (address, _stop, _server) = start(fake).await;
    attached.store(true, Ordering::Relaxed);
    let answer = ask(address, "GET /-/ready", "").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("fivetuple is ready."), "{answer}");
}

#[tokio::test]
async fn the_format_is_negotiated() {
    let (address, _stop, _server) = start(Fake::default()).await;
    let answer = ask(address, "GET /metrics", "Accept: application/openmetrics-text;version=1.0.0\r\n").await;
    assert!(answer.contains("application/openmetrics-text; version=1.0.0"), "{answer}");
    assert!(answer.contains("# EOF"), "{answer}");
    let protobuf =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let answer = ask(address, "GET /metrics", &format!("Accept: {protobuf}\r\n")).await;
    assert!(
        answer.contains(&protobuf.replace(';', "; ")) && answer.ends_with("\n\u{4}\n\u{2}f_"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn the_web_configuration_guards_every_page() {
    let hash = bcrypt::hash("secret", 4).unwrap();
    let text = format!(
        "basic_auth_users: {{scraper: {hash}}}\nhttp_server_config: {{headers: {{X-Frame-Options: deny}}}}\n"
    );
    let (file, live) = web(&text);
    let (address, _stop, _server) = start_with(Fake::default(), Some(live)).await;
    let right = "Authorization: Basic c2NyYXBlcjpzZWNyZXQ=\r\n";
    for page in ["/metrics", "/", "/-/healthy", "/api/v1/flows", "/nothing"] {
        for wrong in ["", "Authorization: Basic c2NyYXBlcjp4\r\n", "Authorization: Basic \r\n"] {
            let answer = ask(address, &format!("GET {page}"), wrong).await;
            assert!(answer.starts_with("HTTP/1.1 401"), "{page}: {answer}");
            assert!(
                answer.contains("www-authenticate: Basic realm") && answer.contains("x-frame-options: deny")
            );
        }
        let answer = ask(address, &format!("GET {page}"), right).await;
        assert!(!answer.starts_with("HTTP/1.1 401") && answer.contains("x-frame-options: deny"), "{answer}");
    }
    std::fs::write(file.path(), "basic_auth_users: {x: y}").unwrap();
    let answer = ask(address, "GET /metrics", right).await;
    assert!(answer.starts_with("HTTP/1.1 500") && !answer.contains("basic_auth_users"), "{answer}");
    std::fs::write(file.path(), "{}").unwrap();
    assert!(ask(address, "GET /metrics", "").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn more_than_the_rate_limit_gets_429() {
    let (file, live) = web("rate_limit: {interval: 1h, burst: 3}");
    let (address, _stop, _server) = start_with(Fake::default(), Some(live)).await;
    let mut codes = Vec::new();
    for _ in 0..5 {
        codes.push(ask(address, "GET /-/healthy", "").await[9..12].to_owned());
    }
    assert_eq!(codes, ["200", "200", "200", "429", "429"]);
    std::fs::write(file.path(), "rate_limit: {interval: 1h, burst: 1}").unwrap();
    assert!(
        ask(address, "GET /-/healthy", "").await.starts_with("HTTP/1.1 200"),
        "another limit counts anew"
    );
    assert!(ask(address, "GET /-/healthy", "").await.starts_with("HTTP/1.1 429"));
}

#[tokio::test]
async fn gzip_is_sent_where_it_is_asked_for() {
    let (address, _stop, _server) = start(Fake::default()).await;
    let plain = ask(address, "GET /metrics", "").await;
    assert!(!plain.contains("content-encoding"), "{plain}");
    let mut stream = TcpStream::connect(address).unwrap();
    let read = move || {
        stream.write_all(
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n",
        )?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    let bytes = spawn_blocking(read).await.unwrap().unwrap();
    let body = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    assert!(String::from_utf8_lossy(&bytes[..body]).contains("content-encoding: gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[body..]).read_to_string(&mut text).unwrap();
    assert!(plain.ends_with(&text) && text.contains("f_x_total 1"), "{text}");
}

/// More than there is room for, each with half a request: they push out each other.
#[tokio::test]
async fn slow_clients_do_not_hold_the_server() {
    let (address, _stop, _server) = start(Fake::default()).await;
    let mut slow = Vec::new();
    for _ in 0..600 {
        let connect = move || {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:")?;
            std::io::Result::Ok(stream)
        };
        slow.push(spawn_blocking(connect).await.unwrap().unwrap());
    }
    assert!(ask(address, "GET /metrics", "").await.starts_with("HTTP/1.1 200"));
    let mut first = slow.swap_remove(0);
    let ended = spawn_blocking(move || first.read(&mut [0; 1])).await.unwrap();
    assert!(!matches!(ended, Ok(1..)), "the oldest was sent away: {ended:?}");
}

#[tokio::test]
async fn nonsense_is_refused_and_harms_nobody() {
    let (address, _stop, _server) = start(Fake::default()).await;
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00\xff"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0xff; 4096],
        b"\r\n\r\n\r\n",
    ] {
        let send = move || {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(nonsense)?;
            stream.shutdown(std::net::Shutdown::Write)?;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            std::io::Result::Ok(answer)
        };
        let answer = spawn_blocking(send).await.unwrap().unwrap();
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    }
    assert!(ask(address, "GET /metrics", "").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn scrapes_are_bounded() {
    let fake = Fake::default();
    let (scrapes, gate) = (fake.scrapes.clone(), fake.gate.clone());
    let (address, _stop, _server) = start(fake).await;
    let mut asks = JoinSet::new();
    {
        let _shut = gate.lock().await;
        for _ in 0..MAX_SCRAPES {
            asks.spawn(async move { ask(address, "GET /metrics", "").await });
        }
        let all_in = async {
            while scrapes.load(Ordering::Relaxed) < MAX_SCRAPES {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), all_in).await.unwrap();
        let one_more = ask(address, "GET /metrics", "").await;
        assert!(one_more.starts_with("HTTP/1.1 503") && one_more.contains("retry-after"), "{one_more}");
        let ready = ask(address, "GET /-/ready", "").await;
        assert!(!ready.contains("too many"), "scrapers do not keep an operator out: {ready}");
    }
    for answer in asks.join_all().await {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// A scrape goes on when its client goes away, and counts for as long.
#[tokio::test]
async fn who_goes_away_makes_no_room() {
    let fake = Fake::default();
    let (scrapes, gate) = (fake.scrapes.clone(), fake.gate.clone());
    let (address, _stop, _server) = start(fake).await;
    let _shut = gate.lock().await;
    for n in 1..=MAX_SCRAPES {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let begun = async {
            while scrapes.load(Ordering::Relaxed) < n {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), begun).await.unwrap();
    }
    let one_more = ask(address, "GET /metrics", "").await;
    assert!(one_more.starts_with("HTTP/1.1 503"), "{one_more}");
}

#[tokio::test]
async fn the_end_does_not_wait_for_an_idle_client() {
    let (address, stop, server) = start(Fake::default()).await;
    let _idle = TcpStream::connect(address).unwrap();
    ask(address, "GET /-/healthy", "").await;
    stop.send(true).unwrap();
    tokio::time::timeout(SHUTDOWN_GRACE * 2, server).await.unwrap().unwrap();
}
