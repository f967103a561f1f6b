//! Receivers that are away, hang, refuse or are slow: nothing is lost within the queue's bound, the accounts are exact,
//! and no receiver waits for another.

use super::*;
use crate::alert::message::tests::alert;
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Mutex, mpsc},
};

/// How a receiver answers a request.
#[derive(Clone, Copy)]
enum Mood {
    /// With a status, at once.
    Status(&'static str),
    /// Never.
    Hang,
    /// With 200, a byte at a time, with this pause between two.
    Slow(Duration),
}

/// A receiver; what it is to do next stands in its list, the last of which is for ever.
struct Receiver {
    address: SocketAddr,
    moods: Arc<Mutex<Vec<Mood>>>,
    bodies: mpsc::Receiver<String>,
}

fn receiver(moods: &[Mood]) -> Receiver {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    on(listener, moods)
}

fn on(listener: TcpListener, moods: &[Mood]) -> Receiver {
    let address = listener.local_addr().unwrap();
    let moods = Arc::new(Mutex::new(moods.to_vec()));
    let (told, bodies) = mpsc::channel();
    let of = moods.clone();
    // Ends with the test's process: nothing else waits for it.
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (moods, told) = (of.clone(), told.clone());
            thread::spawn(move || answer(stream, &moods, &told));
        }
    });
    Receiver { address, moods, bodies }
}

fn answer(mut stream: TcpStream, moods: &Mutex<Vec<Mood>>, told: &mpsc::Sender<String>) {
    while let Some(body) = request(&mut stream) {
        let mood = {
            let mut moods = moods.lock().unwrap();
            if moods.len() > 1 { moods.remove(0) } else { moods[0] }
        };
        let text = |status: &str| format!("HTTP/1.1 {status}\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n");
        match mood {
            Mood::Hang => {
                let _ = stream.read(&mut [0; 1]);
                return;
            }
            Mood::Status(status) => {
                if status.starts_with('2') {
                    let _ = told.send(body);
                }
                let _ = stream.write_all(text(status).as_bytes());
            }
            Mood::Slow(pause) => {
                for byte in text("200 OK").bytes() {
                    if stream.write_all(&[byte]).is_err() {
                        return;
                    }
                    thread::park_timeout(pause);
                }
                let _ = told.send(body);
            }
        }
    }
}

/// The body of the next request.
fn request(stream: &mut TcpStream) -> Option<String> {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = text.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&text[..end]).to_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let whole = end + 4 + length.unwrap_or(0);
            if text.len() >= whole {
                return Some(String::from_utf8_lossy(&text[end + 4..whole]).into_owned());
            }
        }
        match stream.read(&mut buffer) {
            Ok(n) if n > 0 => text.extend_from_slice(&buffer[..n]),
            _ => return None,
        }
    }
}

fn settings(name: &str, kind: SinkKind, address: SocketAddr, timeout: Duration) -> SinkSettings {
    SinkSettings {
        name: name.to_owned(),
        kind,
        url: format!("http://{address}"),
        timeout,
        http: Default::default(),
    }
}

const SOON: Duration = Duration::from_secs(20);

#[track_caller]
fn eventually(sinks: &Sinks, name: &str, what: impl Fn(Accounts) -> bool) -> Accounts {
    let deadline = Instant::now() + SOON;
    loop {
        let all = sinks.accounts();
        for (_, a) in &all {
            assert_eq!(a.produced, a.sent + a.dropped + a.queued, "at every moment: {a:?}");
        }
        let a = all.iter().find(|(n, _)| n == name).unwrap().1;
        if what(a) {
            return a;
        }
        assert!(Instant::now() < deadline, "{a:?}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn one_that_hangs_or_is_away_holds_up_no_other() {
    let (good, hangs) = (receiver(&[Mood::Status("200 OK")]), receiver(&[Mood::Hang]));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut sinks = Sinks::default();
    sinks.settle(&[
        settings("hangs", SinkKind::Alertmanager, hangs.address, SOON),
        settings("away", SinkKind::Webhook, nobody, SOON),
        settings("good", SinkKind::Webhook, good.address, SOON),
    ]);
    let began = Instant::now();
    for n in 0..50 {
        sinks.tell(&alert(&format!("svc{n}")));
    }
    eventually(&sinks, "good", |a| a.sent == 50);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let hangs = eventually(&sinks, "hangs", |_| true);
    assert_eq!((hangs.queued, hangs.sent), (50, 0));
    let away = eventually(&sinks, "away", |a| a.failures > 0);
    assert_eq!((away.queued, away.dropped), (50, 0), "all wait");
    let all: Vec<String> = good.bodies.try_iter().collect();
    assert!(all[7].contains("\"svc\":\"svc7\""), "in order: {}", all[7]);
}

#[test]
fn what_failed_is_sent_again_until_it_is_taken() {
    let moods = [
        Mood::Status("500 Internal Server Error"),
        Mood::Status("429 Too Many Requests"),
        Mood::Hang,
        Mood::Status("503 Service Unavailable"),
        Mood::Status("200 OK"),
    ];
    let receiver = receiver(&moods);
    let mut sinks = Sinks::default();
    sinks.settle(&[settings("am", SinkKind::Alertmanager, receiver.address, Duration::from_millis(300))]);
    sinks.tell(&alert("card"));
    let a = eventually(&sinks, "am", |a| a.sent == 1);
    assert_eq!((a.failures, a.dropped, a.queued), (4, 0, 0));
    assert_eq!(receiver.bodies.try_iter().count(), 1);
}

#[test]
fn one_that_comes_back_is_told_all_that_waited_and_what_it_refuses_is_dropped() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let mut sinks = Sinks::default();
    sinks.settle(&[settings("hook", SinkKind::Webhook, address, SOON)]);
    for n in 0..ROOM as u64 + 10 {
        sinks.tell(&alert(&format!("svc{n}")));
    }
    let a = eventually(&sinks, "hook", |a| a.failures > 0);
    assert_eq!((a.queued, a.dropped), (ROOM as u64, 10), "what there is no room for");
    let back = on(TcpListener::bind(address).unwrap(), &[Mood::Status("200 OK")]);
    let a = eventually(&sinks, "hook", |a| a.queued == 0);
    assert_eq!((a.sent, a.dropped), (ROOM as u64, 10));
    assert_eq!(back.bodies.try_iter().count(), ROOM);
    *back.moods.lock().unwrap() = vec![Mood::Status("400 Bad Request"), Mood::Status("200 OK")];
    ["a", "b"].iter().for_each(|svc| sinks.tell(&alert(svc)));
    let a = eventually(&sinks, "hook", |a| a.queued == 0);
    assert_eq!((a.sent, a.dropped), (ROOM as u64 + 1, 11), "the next one is taken");
}

#[test]
fn one_that_answers_slowly_is_waited_for_as_long_as_it_may_take() {
    let receiver = receiver(&[Mood::Slow(Duration::from_millis(4)), Mood::Slow(Duration::from_secs(1))]);
    let mut sinks = Sinks::default();
    sinks.settle(&[settings("hook", SinkKind::Webhook, receiver.address, Duration::from_secs(2))]);
    sinks.tell(&alert("card"));
    eventually(&sinks, "hook", |a| a.sent == 1 && a.failures == 0);
    sinks.tell(&alert("bank"));
    let a = eventually(&sinks, "hook", |a| a.failures == 2);
    assert_eq!((a.sent, a.dropped, a.queued), (1, 0, 1), "a byte a second is too slow, and it waits on");
}

#[test]
fn a_reload_keeps_the_queue_of_a_receiver_that_stays() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (stays, goes) = (
        settings("stays", SinkKind::Webhook, nobody, SOON),
        settings("goes", SinkKind::Webhook, nobody, SOON),
    );
    let mut sinks = Sinks::default();
    sinks.settle(&[goes, stays.clone()]);
    sinks.tell(&alert("card"));
    let moved = SinkSettings { timeout: Duration::from_secs(1), ..stays };
    sinks.settle(&[moved, SinkSettings::log()]);
    sinks.tell(&alert("bank"));
    let names: Vec<_> = sinks.accounts().into_iter().map(|(name, a)| (name, a.produced)).collect();
    assert_eq!(names, [("stays".to_owned(), 2), ("log".to_owned(), 1)]);
    let began = Instant::now();
    sinks.finish();
    assert!(began.elapsed() < GRACE + Duration::from_secs(1));
}

#[test]
fn only_an_alertmanager_is_reminded() {
    let (am, hook) = (receiver(&[Mood::Status("200 OK")]), receiver(&[Mood::Status("200 OK")]));
    let mut sinks = Sinks::default();
    sinks.settle(&[
        settings("am", SinkKind::Alertmanager, am.address, SOON),
        settings("hook", SinkKind::Webhook, hook.address, SOON),
    ]);
    let fires = alert("card");
    sinks.tell(&fires);
    eventually(&sinks, "am", |a| a.sent == 1);
    sinks.remind(&[fires]);
    eventually(&sinks, "am", |a| a.sent == 2);
    assert_eq!(eventually(&sinks, "hook", |a| a.queued == 0).sent, 1);
}
