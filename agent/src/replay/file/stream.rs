//! A window over a capture's bytes, of a size of its own, that knows where in the file it stands.

use super::{compressed::Source, problem::Fault};
use std::io::{self, Read as _};

/// Bytes that are read at once; in the processor's cache they are cheaper than more at once.
const CAPACITY: usize = 256 << 10;

/// The most that can be asked for at once, and so what is kept of a longer packet. Headers end long before.
pub const MAX_HELD: usize = CAPACITY / 2;

/// The stream.
pub struct Stream {
    source: Source,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Where the buffer begins in the stream.
    base: u64,
    /// Bytes already taken that are still to be read.
    owed: u64,
    /// No more will come; why, if it is not the end.
    over: bool,
    failure: Option<io::Error>,
}

impl Stream {
    pub fn new(source: Source) -> Self {
        Self {
            source,
            buffer: vec![0; CAPACITY].into(),
            start: 0,
            end: 0,
            base: 0,
            owed: 0,
            over: false,
            failure: None,
        }
    }

    /// Where in the stream the next byte is.
    pub fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Bytes of the file that were read so far.
    pub fn position(&self) -> u64 {
        self.source.position()
    }

    /// The next bytes, as many as there are now.
    #[inline(always)]
    pub fn ahead(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Whether the next `n` bytes are there, read if need be; at most [`MAX_HELD`] can be asked for.
    #[inline(always)]
    pub fn have(&mut self, n: usize) -> bool {
        self.end - self.start >= n || self.read(n)
    }

    #[cold]
    fn read(&mut self, n: usize) -> bool {
        debug_assert!(n <= MAX_HELD);
        loop {
            let paid = self.owed.min((self.end - self.start) as u64);
            self.start += paid as usize;
            self.owed -= paid;
            if self.owed == 0 && self.end - self.start >= n {
                return true;
            }
            if self.over {
                return false;
            }
            self.buffer.copy_within(self.start..self.end, 0);
            self.base += self.start as u64;
            self.end -= self.start;
            self.start = 0;
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.over = true,
                Ok(read) => self.end += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => (self.over, self.failure) = (true, Some(e)),
            }
        }
    }

    /// Takes the next `n` bytes, whether they are there yet or not; where in [`Stream::at`] they begin.
    #[inline(always)]
    pub fn take(&mut self, n: u64) -> usize {
        let start = self.start;
        let here = n.min((self.end - self.start) as u64);
        self.start += here as usize;
        self.owed += n - here;
        start
    }

    /// Bytes that were taken, until more are asked for.
    #[inline(always)]
    pub fn at(&self, start: usize, len: usize) -> &[u8] {
        &self.buffer[start..start + len]
    }

    /// After [`Stream::have`] said no: nothing if the stream ended before `inside` began, else what is wrong.
    pub fn end(&mut self, inside: &'static str) -> Option<Fault> {
        match self.failure.take() {
            Some(e) if e.kind() != io::ErrorKind::UnexpectedEof => Some(Fault::Read(e.to_string())),
            Some(_) => Some(Fault::Cut("its compressed data")),
            None if self.owed > 0 || self.start < self.end => Some(Fault::Cut(inside)),
            None => None,
        }
    }
}
