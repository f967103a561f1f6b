//! What is left of the throughput through the gateway: one bulk stream, four, and short connections, each a request, an
//! answer and the server's close.
//!
//! Real connections between kernels; senders have one processor and receivers the other. Once with segmentation and
//! checksum offloads, as virtual networks have them (the hooks see super-packets), and once without, as a wire has it.
//!
//! By the wall's clock, and by the time that the busier processor was at work for it, which is the same on a quiet machine
//! and does not count what others take on a busy one. What a packet costs on its way is its sender's time (or its
//! receiver's, for acknowledgements), unless the kernel hands it to a thread of its own.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::topology::SERVER;
use harness::{Gateway, NetNs};

use crate::clock::{pin, processor_time};
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

/// What a load did.
struct Done {
    /// Gigabits, or connections.
    amount: f64,
    /// Seconds.
    wall: f64,
    /// Seconds that the busier processor was at work for it.
    busy: f64,
}

/// Measures every guest.
pub fn measure(options: &Options) -> Result<Found> {
    let (mut rows, mut figures) = (Vec::new(), Vec::new());
    for (offloads, offloaded) in [("offloads", true), ("no offloads", false)] {
        let world = Gateway::plan().many_cpus().offloads(offloaded).build();
        let mut samples = vec![<[[Sample; 2]; LOADS.len()]>::default(); GUESTS.len()];
        for round in 0..=options.rounds() {
            for ((name, guest), samples) in GUESTS.iter().zip(&mut samples) {
                let _running = start(&world, *guest, options).context(*name)?;
                let found = [streams(&world, 1)?, streams(&world, 4)?, connections(&world)?];
                // The first round warms up.
                if round > 0 {
                    for ([wall, busy], Done { amount, wall: took, busy: worked }) in
                        samples.iter_mut().zip(found)
                    {
                        wall.0.push(amount / took);
                        busy.0.push(amount / worked);
                    }
                }
            }
        }
        for ((name, _), of_guest) in GUESTS.iter().zip(&samples) {
            let mut row = vec![(*name).to_owned(), offloads.to_owned()];
            for ((both, nothing), (load, unit, digits)) in of_guest.iter().zip(&samples[0]).zip(LOADS) {
                row.push(format!("{:.digits$}", both[0].median().unwrap_or_default()));
                for (sample, nothing) in both.iter().zip(nothing) {
                    let ratio = sample.ratio(nothing);
                    let (least, most) = ratio.spread().unwrap_or_default();
                    row.push(format!("{:.2} ({least:.2}..{most:.2})", ratio.median().unwrap_or_default()));
                }
                for (clock, sample, nothing) in
                    [("wall", &both[0], &nothing[0]), ("busy", &both[1], &nothing[1])]
                {
                    let name = format!("path/{load}, {offloads}, {clock}/{name}");
                    figures.push(Figure::new(name, unit, sample, Some(nothing)));
                }
            }
            rows.push(row);
        }
    }
    let head = [
        "on the gateway",
        "",
        "one stream, Gbit/s",
        "of nothing",
        "by busy time",
        "four, Gbit/s",
        "of nothing",
        "by busy time",
        "short, a second",
        "of nothing",
        "by busy time",
    ];
    Ok(Found { text: table::lines(&head, &rows), figures, files: Vec::new() })
}

/// So many streams at once.
fn streams(world: &Gateway, count: usize) -> Result<Done> {
    let listener = listen(&world.server)?;
    let (to, began) = (listener.local_addr()?, Instant::now());
    let (sent, busy) = thread::scope(|scope| -> Result<(u64, u64)> {
        let sinks: Vec<_> = (0..count).map(|_| scope.spawn(|| sink(&listener))).collect();
        let senders: Vec<_> = (0..count).map(|_| scope.spawn(|| world.client.run(|| stream(to)))).collect();
        let (mut sent, mut busy) = (0, [0; 2]);
        for sender in senders {
            let (bytes, time) = sender.join().expect("a sender does not panic")?;
            sent += bytes;
            busy[0] += time;
        }
        for sink in sinks {
            busy[1] += sink.join().expect("a receiver does not panic")?;
        }
        Ok((sent, busy[0].max(busy[1])))
    })?;
    Ok(Done { amount: sent as f64 * 8.0 / 1e9, wall: began.elapsed().as_secs_f64(), busy: seconds(busy) })
}

/// Sends for a while, and waits until all has arrived; bytes, and this thread's time.
fn stream(to: SocketAddr) -> Result<(u64, u64)> {
    pin(0)?;
    let (mut stream, began, mut sent) = (TcpStream::connect(to)?, Instant::now(), 0);
    let chunk = vec![7; CHUNK];
    while began.elapsed() < TIME {
        stream.write_all(&chunk)?;
        sent += CHUNK as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok((sent, processor_time()))
}

fn sink(listener: &TcpListener) -> Result<u64> {
    pin(1)?;
    let (mut stream, _) = listener.accept()?;
    let mut chunk = vec![0; CHUNK];
    while stream.read(&mut chunk)? > 0 {}
    Ok(processor_time())
}

/// Short connections, one after the other: the processors take turns.
fn connections(world: &Gateway) -> Result<Done> {
    let listener = listen(&world.server)?;
    let (to, stop) = (listener.local_addr()?, AtomicBool::new(false));
    thread::scope(|scope| {
        let server = scope.spawn(|| answer(&listener, &stop));
        let made = world.client.run(|| ask(to));
        stop.store(true, Relaxed);
        // Wakes it from its wait.
        let _ = world.client.run(|| TcpStream::connect(to));
        let answering = server.join().expect("a server does not panic")?;
        let (amount, wall, asking) = made?;
        Ok(Done { amount, wall, busy: seconds(asking + answering) })
    })
}

/// How many, in how many seconds, and this thread's time.
fn ask(to: SocketAddr) -> Result<(f64, f64, u64)> {
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
    Ok((made, began.elapsed().as_secs_f64(), processor_time()))
}

fn answer(listener: &TcpListener, stop: &AtomicBool) -> Result<u64> {
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
    Ok(processor_time())
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn listen(namespace: &NetNs) -> Result<TcpListener> {
    namespace.run(|| TcpListener::bind((SERVER.v4, PORT))).context("cannot listen")
}
