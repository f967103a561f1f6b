//! The ring: records of anomalies and of connections' ends.

use agent_ebpf::record::Record;
use aya::maps::{MapData, RingBuf};
use std::time::Instant;

/// The agent's end of the ring.
pub struct Ring {
    buffer: RingBuf<MapData>,
    /// Records taken.
    pub received: u64,
    /// Of those, the ones that made no sense.
    pub malformed: u64,
    /// When it was last seen empty.
    pub empty_at: Instant,
}

impl Ring {
    /// The end of a ring that nothing was read from yet.
    pub fn new(buffer: RingBuf<MapData>) -> Self {
        Self { buffer, received: 0, malformed: 0, empty_at: Instant::now() }
    }

    /// Take what is there, until `received` is `enough`.
    pub fn drain(&mut self, enough: u64, mut take: impl FnMut(&Record)) {
        while self.received < enough {
            let Some(bytes) = self.buffer.next() else {
                self.empty_at = Instant::now();
                return;
            };
            self.received += 1;
            match Record::decode(&bytes) {
                Ok(record) => take(&record),
                Err(_) => self.malformed += 1,
            }
        }
    }
}
