//! What is left of the throughput through the gateway: one bulk stream, four, and short connections, each a request, an
//! answer and the server's close.
//!
//! Real connections between kernels; senders have one processor and receivers the other. Once with segmentation and
//! checksum offloads, as virtual networks have them (the hooks see super-packets), and once without, as a wire has it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::topology::SERVER;
use harness::{Gateway, NetNs};

use crate::clock::pin;
use crate::figure::Figure;
use crate::options::Options;
use crate::sample::Sample;
use crate::{Found, table};

use super::guest::{GUESTS, start};

/// How long each load lasts.
const TIME: Duration = Duration::from_millis(700);
const CHUNK: usize = 1 << 17;
const REQUEST: usize = 100;
const ANSWER: usize = 1_000;
const PORT: u16 = 443;
/// The loads: name, unit, and decimals shown.
const LOADS: [(&str, &str, usize); 3] =
    [("one stream", "Gbit/s", 2), ("four streams", "Gbit/s", 2), ("short connections", "a second", 0)];

/// Measures every guest.
pub fn measure(options: &Options) -> Result<Found> {
    let (mut rows, mut figures) = (Vec::new(), Vec::new());
    for (offloads, offloaded) in [("offloads", true), ("no offloads", false)] {
        let world = Gateway::plan().many_cpus().offloads(offloaded).build();
        let mut samples = vec![<[Sample; LOADS.len()]>::default(); GUESTS.len()];
        for round in 0..=options.rounds {
            for ((name, guest), samples) in GUESTS.iter().zip(&mut samples) {
                let _running = start(&world, *guest, options).context(*name)?;
                let found = [streams(&world, 1)?, streams(&world, 4)?, connections(&world)?];
                // The first round warms up.
                if round > 0 {
                    samples.iter_mut().zip(found).for_each(|(sample, n)| sample.0.push(n));
                }
            }
        }
        for ((name, _), of_guest) in GUESTS.iter().zip(&samples) {
            let mut row = vec![(*name).to_owned(), offloads.to_owned()];
            for ((sample, nothing), (load, unit, digits)) in of_guest.iter().zip(&samples[0]).zip(LOADS) {
                let ratio = sample.ratio(nothing);
                let (least, most) = ratio.spread().unwrap_or_default();
                row.push(format!("{:.digits$}", sample.median().unwrap_or_default()));
                row.push(format!("{:.2}", ratio.median().unwrap_or_default()));
                row.push(format!("{least:.2}..{most:.2}"));
                figures.push(Figure::new(
                    format!("path/{load}, {offloads}/{name}"),
                    unit,
                    sample,
                    Some(nothing),
                ));
            }
            rows.push(row);
        }
    }
    let head = [
        "on the gateway",
        "",
        "one stream, Gbit/s",
        "of nothing",
        "(spread)",
        "four, Gbit/s",
        "of nothing",
        "(spread)",
        "short, a second",
        "of nothing",
        "(spread)",
    ];
    Ok(Found { text: table::lines(&head, &rows), figures, files: Vec::new() })
}

/// Gigabits a second of so many streams together.
fn streams(world: &Gateway, count: usize) -> Result<f64> {
    let listener = listen(&world.server)?;
    let (to, began) = (listener.local_addr()?, Instant::now());
    let sent = thread::scope(|scope| -> Result<u64> {
        for _ in 0..count {
            scope.spawn(|| sink(&listener));
        }
        let senders: Vec<_> = (0..count).map(|_| scope.spawn(|| world.client.run(|| stream(to)))).collect();
        senders.into_iter().map(|sender| sender.join().expect("a sender does not panic")).sum()
    })?;
    Ok(sent as f64 * 8.0 / 1e9 / began.elapsed().as_secs_f64())
}

/// Sends for a while, and waits until all has arrived.
fn stream(to: SocketAddr) -> Result<u64> {
    pin(0)?;
    let (mut stream, began, mut sent) = (TcpStream::connect(to)?, Instant::now(), 0);
    let chunk = vec![7; CHUNK];
    while began.elapsed() < TIME {
        stream.write_all(&chunk)?;
        sent += CHUNK as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(sent)
}

fn sink(listener: &TcpListener) -> Result<()> {
    pin(1)?;
    let (mut stream, _) = listener.accept()?;
    let mut chunk = vec![0; CHUNK];
    while stream.read(&mut chunk)? > 0 {}
    Ok(())
}

/// Short connections a second, one after the other.
fn connections(world: &Gateway) -> Result<f64> {
    let listener = listen(&world.server)?;
    let (to, stop) = (listener.local_addr()?, AtomicBool::new(false));
    thread::scope(|scope| {
        let server = scope.spawn(|| answer(&listener, &stop));
        let made = world.client.run(|| ask(to));
        stop.store(true, Relaxed);
        // Wakes it from its wait.
        let _ = world.client.run(|| TcpStream::connect(to));
        server.join().expect("a server does not panic")?;
        made
    })
}

fn ask(to: SocketAddr) -> Result<f64> {
    pin(0)?;
    let (began, mut made) = (Instant::now(), 0.0);
    let mut answer = Vec::with_capacity(ANSWER);
    while began.elapsed() < TIME {
        let mut stream = TcpStream::connect(to)?;
        stream.write_all(&[1; REQUEST])?;
        answer.clear();
        stream.read_to_end(&mut answer)?;
        ensure!(answer.len() == ANSWER, "{} bytes of an answer", answer.len());
        made += 1.0;
    }
    Ok(made / began.elapsed().as_secs_f64())
}

fn answer(listener: &TcpListener, stop: &AtomicBool) -> Result<()> {
    pin(1)?;
    while !stop.load(Relaxed) {
        let (mut stream, _) = listener.accept()?;
        match stream.read_exact(&mut [0; REQUEST]) {
            Ok(()) => stream.write_all(&[2; ANSWER])?,
            // The last one asks for nothing.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn listen(namespace: &NetNs) -> Result<TcpListener> {
    namespace.run(|| TcpListener::bind((SERVER.v4, PORT))).context("cannot listen")
}
