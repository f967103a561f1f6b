//! Tests of the HTTP interface: a real listener, a backend that answers at once.

use super::*;
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

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

/// A server on a port of its own; its address, and what ends it.
async fn start(fake: Fake) -> (SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(serve(vec![listener], "/metrics".to_owned(), Arc::new(fake), stopped));
    (address, stop, server)
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
}

#[tokio::test]
async fn scrapes_are_bounded() {
    let fake = Fake::default();
    let (scrapes, gate) = (fake.scrapes.clone(), fake.gate.clone());
    let (address, _stop, _server) = start(fake).await;
    let mut asks = JoinSet::new();
    {
        let _shut = gate.lock().await;
        for _ in 0..MAX_REQUESTS {
            asks.spawn(async move { ask(address, "GET /metrics", "").await });
        }
        let all_in = async {
            while scrapes.load(Ordering::Relaxed) < MAX_REQUESTS {
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

#[tokio::test]
async fn the_end_does_not_wait_for_an_idle_client() {
    let (address, stop, server) = start(Fake::default()).await;
    let _idle = TcpStream::connect(address).unwrap();
    ask(address, "GET /-/healthy", "").await;
    stop.send(true).unwrap();
    tokio::time::timeout(SHUTDOWN_GRACE * 2, server).await.unwrap().unwrap();
}
