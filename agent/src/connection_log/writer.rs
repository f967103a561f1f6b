//! The thread that writes the log. A disk or a reader of a pipe that is slow holds up nobody else: what waits for it is
//! bounded, and what does not fit is counted as lost.

use std::{
    fs::File,
    io::{self, Write as _},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};
use tracing::{error, info};

/// Bytes that may wait to be written.
const WAITING: usize = 16 << 20;
/// How long the end waits for what is still to be written.
const GRACE: Duration = Duration::from_secs(2);

/// Counts of lines.
#[derive(Debug, Default)]
pub struct Counts {
    /// Written.
    pub written: AtomicU64,
    /// Not meant to be written.
    pub sampled_out: AtomicU64,
    /// Lost.
    pub failed: AtomicU64,
    /// The last that was heard of the log was a failure: it is told once.
    failing: AtomicBool,
}

impl Counts {
    fn lost(&self, lines: u64, path: &str, why: &str) {
        self.failed.fetch_add(lines, Ordering::Relaxed);
        if lines > 0 && !self.failing.swap(true, Ordering::Relaxed) {
            error!(path, error = why, "cannot write the connection log; lines are lost until this works");
        }
    }

    fn done(&self, lines: u64, path: &str) {
        self.written.fetch_add(lines, Ordering::Relaxed);
        if lines > 0 && self.failing.swap(false, Ordering::Relaxed) {
            info!(path, "the connection log is written again");
        }
    }
}

/// Whole lines.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    lines: u64,
}

/// The way to the thread; dropping it lets the thread end when it has written what it was given.
#[derive(Debug)]
pub struct Writer {
    chunks: Sender<Chunk>,
    ended: Receiver<()>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    counts: Arc<Counts>,
    waiting: AtomicUsize,
    /// The file to go on in.
    next: Mutex<Option<(File, PathBuf)>>,
}

impl Writer {
    /// Starts to write to this file.
    pub fn start(file: File, path: PathBuf, counts: Arc<Counts>) -> io::Result<Self> {
        let (chunks, incoming) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let shared = Arc::new(Shared { counts, waiting: AtomicUsize::new(0), next: Mutex::new(None) });
        let mut sink = Sink { file, path: path.display().to_string(), torn: false };
        let of_thread = shared.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            let _end: Sender<()> = end;
            for chunk in incoming {
                of_thread.write(&mut sink, &chunk);
            }
        })?;
        Ok(Self { chunks, ended, shared })
    }

    /// Writes lines, soon; or loses them where too many are waiting.
    pub fn write(&self, bytes: Vec<u8>, lines: u64) {
        let Shared { counts, waiting, .. } = &*self.shared;
        let size = bytes.len();
        if waiting.load(Ordering::Relaxed) + size > WAITING {
            counts.lost(lines, "", "it is written more slowly than connections end");
            return;
        }
        waiting.fetch_add(size, Ordering::Relaxed);
        if self.chunks.send(Chunk { bytes, lines }).is_err() {
            waiting.fetch_sub(size, Ordering::Relaxed);
            counts.lost(lines, "", "the thread that writes it failed");
        }
    }

    /// Goes on in another file, or in the same one opened anew.
    pub fn go_on_in(&self, file: File, path: PathBuf) {
        *self.shared.next.lock().unwrap_or_else(PoisonError::into_inner) = Some((file, path));
        // So that the old file is let go of also when no connection ends.
        self.write(Vec::new(), 0);
    }

    /// Waits until all is written, but not for long.
    pub fn finish(self) {
        let Self { chunks, ended, .. } = self;
        drop(chunks);
        // Either way it has ended, or the grace has.
        let _ = ended.recv_timeout(GRACE);
    }
}

impl Shared {
    fn write(&self, sink: &mut Sink, chunk: &Chunk) {
        if let Some((file, path)) = self.next.lock().unwrap_or_else(PoisonError::into_inner).take() {
            *sink = Sink { file, path: path.display().to_string(), torn: false };
        }
        let (whole, error) = sink.write(&chunk.bytes);
        self.counts.done(whole, &sink.path);
        if let Some(error) = error {
            self.counts.lost(chunk.lines - whole, &sink.path, &error.to_string());
        }
        self.waiting.fetch_sub(chunk.bytes.len(), Ordering::Relaxed);
    }
}

struct Sink {
    file: File,
    path: String,
    /// The file ends amid a line.
    torn: bool,
}

impl Sink {
    /// Writes lines; how many are whole in the file, and why the rest is not.
    fn write(&mut self, mut bytes: &[u8]) -> (u64, Option<io::Error>) {
        let mut whole = 0;
        if self.torn && !bytes.is_empty() {
            // The half line stays a line of its own, and does not spoil the next.
            match self.file.write_all(b"\n") {
                Ok(()) => self.torn = false,
                Err(error) => return (0, Some(error)),
            }
        }
        while !bytes.is_empty() {
            let n = match self.file.write(bytes) {
                Ok(0) => return (whole, Some(io::ErrorKind::WriteZero.into())),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return (whole, Some(error)),
            };
            let (done, rest) = bytes.split_at(n);
            whole += done.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.torn = done.last() != Some(&b'\n');
            bytes = rest;
        }
        (whole, None)
    }
}
