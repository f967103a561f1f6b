//! The bytes of a capture, whether compressed or not, and how far into the file they reach.

use anyhow::{Context as _, Result};
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder, errors::FrameDecoderError, errors::ReadFrameHeaderError,
};
use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read},
    path::Path,
};

/// Compressed bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// The longest window of zstd, in bytes, that is kept: what decompressors are asked to support (RFC 8878, 3.1.1.1.2), and
/// what `zstd` writes up to level 19.
const MAX_WINDOW: u64 = 8 << 20;

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
    Zstd(Box<Zstd>),
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
            Self::Zstd(Box::new(Zstd::new(buffered(input))))
        } else {
            Self::Plain(input)
        })
    }

    /// Bytes of the file that were read so far.
    pub fn position(&self) -> u64 {
        match self {
            Self::Plain(input) => input.read,
            Self::Gzip(gzip) => gzip.get_ref().get_ref().read,
            Self::Zstd(zstd) => zstd.input.get_ref().read,
        }
    }
}

impl Read for Source {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(to),
            Self::Gzip(gzip) => gzip.read(to),
            Self::Zstd(zstd) => zstd.read(to),
        }
    }
}

/// Frames of zstd one after the other, of which the library reads one.
pub struct Zstd {
    input: BufReader<Input>,
    frame: FrameDecoder,
    inside: bool,
}

impl Zstd {
    fn new(input: BufReader<Input>) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(MAX_WINDOW);
        Self { input, frame, inside: false }
    }

    /// Begins the next frame; false at the end of the file.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.input.fill_buf()?.is_empty() {
            match self.frame.reset(&mut self.input) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    if io::copy(&mut (&mut self.input).take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(explained(error)),
            }
        }
        Ok(false)
    }
}

impl Read for Zstd {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.inside {
                self.inside = self.begin()?;
                if !self.inside {
                    return Ok(0);
                }
            }
            let n = self.frame.read(to)?;
            if n > 0 || to.is_empty() {
                return Ok(n);
            }
            if self.frame.is_finished() {
                self.inside = false;
                continue;
            }
            // A block at a time: at most 128 KiB beside the window (RFC 8878, 3.1.1.2.4).
            let strategy = BlockDecodingStrategy::UptoBlocks(1);
            self.frame.decode_blocks(&mut self.input, strategy).map_err(explained)?;
        }
    }
}

/// What the library says, and what to do where more memory would help.
fn explained(error: FrameDecoderError) -> io::Error {
    match &error {
        FrameDecoderError::WindowSizeTooBig { .. } => io::Error::other(format!(
            "{error}; more than {} MiB of memory are not spent on it: give the file to `zstd -dc --long=31`, and its \
             output to `fivetuple replay -`",
            MAX_WINDOW >> 20
        )),
        _ => {
            let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
            while let Some(e) = cause {
                if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof) {
                    return io::ErrorKind::UnexpectedEof.into();
                }
                cause = e.source();
            }
            io::Error::other(error)
        }
    }
}
