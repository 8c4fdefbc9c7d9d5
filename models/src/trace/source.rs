//! Bytes of an input, unpacked: gzip and zstd are recognised by content, and no input can expand without end.
//!
//! You are here: `models::trace::source`. `read` wraps every input in a [`Source`] and gives that to the format readers.
//! Always true: whatever is wrong with the packing looks like an early end; [`Source::trouble`] says afterwards what it was.

use std::io::{self, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::read::Limits;

/// First bytes of a gzip member.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// First bytes of a zstd frame.
pub(crate) const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What some programs put before text in UTF-8.
const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];
/// Packed data inside packed data is unpacked this often.
const LAYERS: usize = 3;
/// Bytes that tell packings and formats apart.
pub(crate) const HEAD: usize = 16;

/// An input without its packing.
pub(crate) struct Source<'r> {
    inner: Box<dyn Read + Send + 'r>,
    packed: Arc<AtomicU64>,
    unpacked: u64,
    is_packed: bool,
    limits: Limits,
    trouble: Option<String>,
}

impl<'r> Source<'r> {
    /// Looks at the first bytes of `input` and unpacks what is packed. The second value are the first bytes after that.
    pub(crate) fn open(input: impl Read + Send + 'r, limits: &Limits) -> (Self, Vec<u8>) {
        let packed = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: input, count: packed.clone() };
        let inner = Box::new(BufReader::with_capacity(128 * 1024, counted));
        let mut source = Source { inner, packed, unpacked: 0, is_packed: false, limits: limits.clone(), trouble: None };
        for layer in 0..=LAYERS {
            let mut head = source.head();
            if head.starts_with(&BOM) {
                let mut mark = [0; BOM.len()];
                // These bytes are held in memory: they are there.
                let _ = source.inner.read(&mut mark);
                head.drain(..BOM.len());
            }
            let unpacked: Box<dyn Read + Send + 'r> = if head.starts_with(&GZIP) {
                Box::new(MultiGzDecoder::new(source.inner))
            } else if head.starts_with(&ZSTD) || is_skippable_frame(&head) {
                Box::new(ZstdFrames { state: ZstdState::Between(source.inner) })
            } else {
                return (source, head);
            };
            source.inner = unpacked;
            source.is_packed = true;
            if layer == LAYERS {
                source.trouble = Some(format!("packed more than {LAYERS} times over"));
                source.inner = Box::new(io::empty());
            }
        }
        (source, Vec::new())
    }

    /// What was wrong with the packing or with reading, if anything.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Bytes of the input itself so far.
    fn packed(&self) -> u64 {
        self.packed.load(Ordering::Relaxed)
    }

    /// The first bytes, which stay to be read.
    fn head(&mut self) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        let mut got = 0;
        while got < HEAD {
            match self.inner.read(&mut head[got..]) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.note(&error);
                    break;
                }
            }
        }
        head.truncate(got);
        let rest = std::mem::replace(&mut self.inner, Box::new(io::empty()));
        self.inner = Box::new(Cursor::new(head.clone()).chain(rest));
        head
    }

    /// Remembers what went wrong, in words.
    fn note(&mut self, error: &io::Error) {
        let what = match (self.is_packed, error.kind()) {
            (true, io::ErrorKind::UnexpectedEof) => "the compressed data is cut off".to_owned(),
            (true, _) => format!("the compressed data is damaged ({error})"),
            (false, _) => format!("reading failed: {error}"),
        };
        self.trouble.get_or_insert(format!("{what} after {} bytes", self.packed()));
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = loop {
            match self.inner.read(buffer) {
                Ok(got) => break got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.note(&error);
                    self.inner = Box::new(io::empty());
                    return Ok(0);
                }
            }
        };
        self.unpacked += got as u64;
        if !self.is_packed {
            return Ok(got);
        }
        let ratio_free = self.limits.ratio_free_bytes;
        let by_ratio = ratio_free.max(self.packed().saturating_mul(self.limits.expansion));
        if self.unpacked > self.limits.unpacked_bytes.min(by_ratio) {
            self.trouble.get_or_insert(format!(
                "{} bytes of compressed data grow to more than {} bytes, which is beyond the limit",
                self.packed(),
                self.unpacked - got as u64
            ));
            self.inner = Box::new(io::empty());
            return Ok(0);
        }
        Ok(got)
    }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.count.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

/// A series of zstd frames, skippable ones among them.
struct ZstdFrames<'r> {
    state: ZstdState<'r>,
}

enum ZstdState<'r> {
    Between(Box<dyn Read + Send + 'r>),
    Inside(Box<StreamingDecoder<Box<dyn Read + Send + 'r>, FrameDecoder>>),
    Done,
}

impl<'r> Read for ZstdFrames<'r> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::mem::replace(&mut self.state, ZstdState::Done) {
                ZstdState::Done => return Ok(0),
                ZstdState::Between(mut input) => {
                    let mut magic = [0; 4];
                    if input.read(&mut magic[..1])? == 0 {
                        return Ok(0);
                    }
                    input.read_exact(&mut magic[1..])?;
                    if is_skippable_frame(&magic) {
                        let mut length = [0; 4];
                        input.read_exact(&mut length)?;
                        io::copy(&mut (&mut input).take(u64::from(u32::from_le_bytes(length))), &mut io::sink())?;
                        self.state = ZstdState::Between(input);
                        continue;
                    }
                    let frame: Box<dyn Read + Send + 'r> = Box::new(Cursor::new(magic).chain(input));
                    let decoder = StreamingDecoder::new(frame).map_err(|error| io::Error::other(error.to_string()))?;
                    self.state = ZstdState::Inside(Box::new(decoder));
                }
                ZstdState::Inside(mut decoder) => {
                    let got = decoder.read(buffer)?;
                    if got > 0 || buffer.is_empty() {
                        self.state = ZstdState::Inside(decoder);
                        return Ok(got);
                    }
                    self.state = ZstdState::Between(decoder.into_inner());
                }
            }
        }
    }
}

/// Whether a zstd stream begins with a frame that carries no data.
fn is_skippable_frame(head: &[u8]) -> bool {
    matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}
