//! The bytes of a capture, whether compressed or not, and how far into the file they reach.

use anyhow::{Context as _, Result};
use flate2::bufread::MultiGzDecoder;
use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

/// Compressed bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// The longest window of zstd that is kept, as a power of two: 32 MiB. Decompressors are asked for 8 (RFC 8878,
/// 3.1.1.1.2), and `zstd` writes more only where `--long` or `--ultra` says so.
const MAX_WINDOW: u32 = 25;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A file or standard input, with a count of what was read of it.
pub struct Input {
    /// Read to know what the file is, and not yet handed out.
    head: io::Cursor<Vec<u8>>,
    rest: Box<dyn Read + Send>,
    read: u64,
}

impl Read for Input {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = match self.head.read(to)? {
            0 => self.rest.read(to)?,
            n => n,
        };
        self.read += n as u64;
        Ok(n)
    }
}

/// Where a capture's bytes come from.
pub enum Source {
    /// As they are.
    Plain(Input),
    /// gzip, any number of members.
    Gzip(Box<MultiGzDecoder<BufReader<Input>>>),
    /// zstd, any number of frames.
    Zstd(zstd::Decoder<'static, BufReader<Input>>),
}

impl Source {
    /// Opens a file, or standard input for `-`; with its length where it is a regular file.
    pub fn open(path: &Path) -> Result<(Self, Option<u64>)> {
        let (rest, size): (Box<dyn Read + Send>, _) = if path == Path::new("-") {
            (Box::new(io::stdin()), None)
        } else {
            let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            let meta = file.metadata().with_context(|| format!("cannot look at {}", path.display()))?;
            (Box::new(file), meta.is_file().then_some(meta.len()))
        };
        let source = Self::new(rest).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((source, size))
    }

    /// Looks at the first bytes.
    pub fn new(mut rest: Box<dyn Read + Send>) -> io::Result<Self> {
        let mut head = Vec::new();
        (&mut rest).take(ZSTD.len() as u64).read_to_end(&mut head)?;
        let (gzip, zstd) = (head.starts_with(&GZIP), head.starts_with(&ZSTD));
        let input = Input { head: io::Cursor::new(head), rest, read: 0 };
        let buffered = |input| BufReader::with_capacity(CHUNK, input);
        Ok(if gzip {
            Self::Gzip(Box::new(MultiGzDecoder::new(buffered(input))))
        } else if zstd {
            let mut zstd = zstd::Decoder::with_buffer(buffered(input))?;
            zstd.window_log_max(MAX_WINDOW)?;
            Self::Zstd(zstd)
        } else {
            Self::Plain(input)
        })
    }

    /// Bytes of the file that were read so far.
    pub fn position(&self) -> u64 {
        match self {
            Self::Plain(input) => input.read,
            Self::Gzip(gzip) => gzip.get_ref().get_ref().read,
            Self::Zstd(zstd) => zstd.get_ref().get_ref().read,
        }
    }
}

impl Read for Source {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(to),
            Self::Gzip(gzip) => gzip.read(to),
            Self::Zstd(zstd) => zstd.read(to).map_err(|e| {
                // The library's own words; its codes do not come through.
                if !e.to_string().contains("requires too much memory") {
                    return e;
                }
                io::Error::other(format!(
                    "{e}, more than {} MiB: give the file to `zstd -dc --long=31`, and its output to `fivetuple replay -`",
                    1 << (MAX_WINDOW - 20)
                ))
            }),
        }
    }
}
