//! Bodies that come coded (RFC 9110 §8.4). A fill asks for no coding, or for one
//! that the configuration names, and pages are stored as they are: so what comes
//! coded is decoded while it is streamed, and coded anew for clients that accept that.
//!
//! Memory is bounded whatever comes: a piece of output at a time, windows of at
//! most 16 MiB. So is growth: see [`MOST_GROWTH`].

use std::time::Duration;

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use bytes::{Buf, Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, StatusCode};
use tokio::time::{Instant, timeout_at};
use zstd::stream::raw::{DParameter, Decoder as Zstd, Operation};

use crate::origin::Exchange;
use crate::rules::Lines;
use crate::rules::cache_control::governing;
use crate::rules::framing;

/// Bytes that are decoded at a time.
const PIECE: usize = 32 << 10;

/// A body that is larger than what is stored and this many times as large as it
/// came is no page but a decompression bomb. Text grows 5 to 20 times.
const MOST_GROWTH: u64 = 100;

/// The largest window of `zstd` in content codings, as a power of two: 8 MiB (RFC 9659 §3).
const ZSTD_WINDOW: u32 = 23;

/// How a body came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Coded {
    /// As it is.
    Not,
    /// In a coding that is decoded here.
    Known(Codec),
    /// In one that is not, or that may not be (`no-transform`): these names.
    Unknown(Box<str>),
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// RFC 9110 §8.4.1.3.
    Gzip,
    /// RFC 9110 §8.4.1.2.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl Coded {
    /// How the body of a response came.
    pub(super) fn of(status: StatusCode, headers: &HeaderMap) -> Coded {
        if framing::has_no_content(status) || !headers.contains_key(CONTENT_ENCODING) {
            return Coded::Not;
        }
        let names: Vec<String> = headers
            .lines("content-encoding")
            .flat_map(|line| line.split(|b| *b == b','))
            .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase())
            .filter(|name| !name.is_empty() && name != "identity")
            .collect();
        let codec = match &names[..] {
            [] => return Coded::Not,
            [name] => match &**name {
                "gzip" | "x-gzip" => Some(Codec::Gzip),
                "deflate" => Some(Codec::Deflate),
                "br" => Some(Codec::Brotli),
                "zstd" => Some(Codec::Zstd),
                _ => None,
            },
            _ => None,
        };
        // RFC 9110 §7.7. And a part of a coded body can't be decoded.
        let as_is =
            governing(headers).directives.no_transform || status == StatusCode::PARTIAL_CONTENT;
        match codec {
            Some(codec) if !as_is => Coded::Known(codec),
            _ => Coded::Unknown(names.join(", ").into()),
        }
    }
}

/// Why a body did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The origin broke off, or what it sent is not in the coding that it named.
    Off,
    /// It grows beyond all measure.
    Bomb,
}

/// The body of a response, decoded.
pub(super) struct Body {
    /// The response.
    pub(super) exchange: Exchange,
    decoder: Option<Decoder>,
    /// The largest body that is stored, in bytes.
    max_object: u64,
}

impl Body {
    pub(super) fn new(exchange: Exchange, coded: &Coded, max_object: u64) -> Body {
        let decoder = match coded {
            Coded::Known(codec) => Some(Decoder::new(*codec)),
            Coded::Not | Coded::Unknown(_) => None,
        };
        Body { exchange, decoder, max_object }
    }

    /// Reads on until it is complete or longer than `max`, or takes longer than
    /// [`LOOK_AHEAD`]: what was read, and whether that is all of it.
    ///
    /// # Errors
    /// See [`chunk`](Self::chunk).
    pub(super) async fn ahead(&mut self, max: u64) -> Result<(Bytes, bool), Broken> {
        let until = Instant::now() + LOOK_AHEAD;
        let mut body = BytesMut::new();
        loop {
            let Ok(piece) = timeout_at(until, self.chunk()).await else { break };
            let Some(piece) = piece? else { return Ok((body.freeze(), true)) };
            body.extend_from_slice(&piece);
            if body.len() as u64 > max {
                break;
            }
        }
        Ok((body.freeze(), false))
    }

    /// The next piece, never empty; none: it is complete. Cancel-safe.
    ///
    /// # Errors
    /// It broke off, or is a bomb; and then for ever.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        let Some(decoder) = &mut self.decoder else {
            return self.exchange.chunk().await.map_err(|_| Broken::Off);
        };
        loop {
            if let Some(piece) = decoder.piece()? {
                if decoder.has_exploded(self.max_object) {
                    return Err(Broken::Bomb);
                }
                // Decoding much must not starve other tasks.
                tokio::task::consume_budget().await;
                return Ok(Some(piece));
            }
            match self.exchange.chunk().await.map_err(|_| Broken::Off)? {
                Some(coded) => decoder.feed(coded),
                None => return decoder.complete().map(|()| None),
            }
        }
    }
}

/// How long a client waits at most while it is looked at in a body for whom it was
/// rendered. What the build made is there at once.
const LOOK_AHEAD: Duration = Duration::from_secs(2);

/// Decodes what it is fed, a piece at a time.
struct Decoder {
    machine: Machine,
    /// What is still to be decoded.
    input: Bytes,
    /// Bytes read and written.
    coded: u64,
    decoded: u64,
    /// Between two coded streams, or before the first: it may end here.
    between: bool,
    /// Room for a piece.
    out: Box<[u8]>,
}

/// The state of a coding.
enum Machine {
    /// Before the first byte: that tells which form of `deflate` this is.
    Deflate,
    /// Between two members of `gzip`, which may follow one another (RFC 1952 §2.2).
    Gzip,
    Inflate(Decompress, Codec),
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
    Zstd(Box<Zstd<'static>>),
    /// The coded stream is over; browsers ignore what follows, and so does this.
    Ended,
    Failed,
}

/// What a step of a machine did.
#[derive(Default)]
struct Step {
    read: usize,
    written: usize,
    /// A coded stream is over.
    ended: bool,
}

/// The largest window of `deflate`, as a power of two.
const DEFLATE_WINDOW: u8 = 15;

impl Machine {
    fn new(codec: Codec) -> Machine {
        let alloc = StandardAlloc::default;
        match codec {
            Codec::Gzip => Machine::Gzip,
            Codec::Deflate => Machine::Deflate,
            // Strict: without windows beyond 16 MiB, which browsers don't take either.
            Codec::Brotli => {
                Machine::Brotli(Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())))
            }
            Codec::Zstd => {
                let decoder = Zstd::new().and_then(|mut decoder| {
                    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW))?;
                    Ok(decoder)
                });
                decoder.map_or(Machine::Failed, |decoder| Machine::Zstd(Box::new(decoder)))
            }
        }
    }

    /// Reads some of `input`, and writes some of what it stands for.
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, Broken> {
        match (&mut *self, input) {
            (Machine::Failed, _) => Err(Broken::Off),
            (Machine::Ended, _) => Ok(Step { read: input.len(), ..Step::default() }),
            (Machine::Deflate | Machine::Gzip, []) => Ok(Step::default()),
            (Machine::Deflate, [first, ..]) => {
                // Some servers send it without zlib's wrapping (RFC 9110 §8.4.1.2).
                let wrapped = first & 0x0f == 8;
                *self = Machine::Inflate(Decompress::new(wrapped), Codec::Deflate);
                self.step(input, out)
            }
            (Machine::Gzip, [0x1f, ..]) => {
                *self = Machine::Inflate(Decompress::new_gzip(DEFLATE_WINDOW), Codec::Gzip);
                self.step(input, out)
            }
            (Machine::Gzip, _) => Err(Broken::Off),
            (Machine::Inflate(inflate, codec), _) => {
                let codec = *codec;
                let step = step_inflate(inflate, input, out)?;
                if step.ended {
                    *self = if codec == Codec::Gzip { Machine::Gzip } else { Machine::Ended };
                }
                Ok(step)
            }
            (Machine::Brotli(state), _) => {
                let step = step_brotli(state, input, out)?;
                if step.ended {
                    *self = Machine::Ended;
                }
                Ok(step)
            }
            (Machine::Zstd(decoder), _) => {
                let status = decoder.run_on_buffers(input, out).map_err(|_| Broken::Off)?;
                let (read, written) = (status.bytes_read, status.bytes_written);
                Ok(Step { read, written, ended: status.remaining == 0 && read + written > 0 })
            }
        }
    }
}

fn step_inflate(inflate: &mut Decompress, input: &[u8], out: &mut [u8]) -> Result<Step, Broken> {
    let (read, written) = (inflate.total_in(), inflate.total_out());
    let status = inflate.decompress(input, out, FlushDecompress::None).map_err(|_| Broken::Off)?;
    Ok(Step {
        // Of buffers, so they fit.
        read: (inflate.total_in() - read) as usize,
        written: (inflate.total_out() - written) as usize,
        ended: status == Status::StreamEnd,
    })
}

fn step_brotli(
    state: &mut BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    input: &[u8],
    out: &mut [u8],
) -> Result<Step, Broken> {
    let (mut left, mut room) = (input.len(), out.len());
    let (mut read, mut written, mut total) = (0, 0, 0);
    let result = BrotliDecompressStream(
        &mut left,
        &mut read,
        input,
        &mut room,
        &mut written,
        out,
        &mut total,
        state,
    );
    match result {
        BrotliResult::ResultFailure => Err(Broken::Off),
        BrotliResult::ResultSuccess => Ok(Step { read, written, ended: true }),
        BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {
            Ok(Step { read, written, ended: false })
        }
    }
}

impl Decoder {
    fn new(codec: Codec) -> Decoder {
        Decoder {
            machine: Machine::new(codec),
            input: Bytes::new(),
            coded: 0,
            decoded: 0,
            between: true,
            out: vec![0; PIECE].into_boxed_slice(),
        }
    }

    /// More input; there was none left.
    fn feed(&mut self, coded: Bytes) {
        debug_assert!(self.input.is_empty());
        self.input = coded;
    }

    /// The next piece of output; none: more input is needed.
    fn piece(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            let step = self.machine.step(&self.input, &mut self.out);
            let Ok(Step { read, written, ended }) = step else {
                if self.between && self.decoded > 0 {
                    // After a whole stream there may be anything.
                    self.machine = Machine::Ended;
                    continue;
                }
                self.machine = Machine::Failed;
                return Err(Broken::Off);
            };
            self.between = ended || (self.between && read == 0);
            self.input.advance(read);
            self.coded += read as u64;
            if written > 0 {
                self.decoded += written as u64;
                return Ok(Some(Bytes::copy_from_slice(&self.out[..written])));
            }
            if self.input.is_empty() {
                return Ok(None);
            }
            if read == 0 && !ended {
                // It neither reads nor writes: it can't go on.
                self.machine = Machine::Failed;
            }
        }
    }

    /// All input has come: is it whole? Nothing at all is an empty body.
    fn complete(&self) -> Result<(), Broken> {
        let whole = self.between || matches!(self.machine, Machine::Ended);
        if whole { Ok(()) } else { Err(Broken::Off) }
    }

    /// Whether it has grown as no page does.
    fn has_exploded(&self, max_object: u64) -> bool {
        self.decoded > max_object && self.decoded / MOST_GROWTH > self.coded
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut out = GzEncoder::new(Vec::new(), Compression::default());
        out.write_all(plain).unwrap();
        out.finish().unwrap()
    }

    fn zlib(plain: &[u8]) -> Vec<u8> {
        let mut out = ZlibEncoder::new(Vec::new(), Compression::default());
        out.write_all(plain).unwrap();
        out.finish().unwrap()
    }

    fn raw_deflate(plain: &[u8]) -> Vec<u8> {
        let mut out = DeflateEncoder::new(Vec::new(), Compression::default());
        out.write_all(plain).unwrap();
        out.finish().unwrap()
    }

    fn brotli(plain: &[u8]) -> Vec<u8> {
        brotli_with(plain, |_| ())
    }

    fn brotli_with(
        plain: &[u8],
        change: impl Fn(&mut brotli::enc::BrotliEncoderParams),
    ) -> Vec<u8> {
        let mut params = brotli::enc::BrotliEncoderParams { quality: 5, ..Default::default() };
        change(&mut params);
        let mut out = Vec::new();
        brotli::BrotliCompress(&mut &*plain, &mut out, &params).unwrap();
        out
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(plain, 3).unwrap()
    }

    type Encode = fn(&[u8]) -> Vec<u8>;
    const CODINGS: [(Codec, Encode); 5] = [
        (Codec::Gzip, gzip),
        (Codec::Deflate, zlib),
        (Codec::Deflate, raw_deflate),
        (Codec::Brotli, brotli),
        (Codec::Zstd, zstd),
    ];

    /// Decodes what comes in pieces of this size.
    fn decode(codec: Codec, coded: &[u8], size: usize) -> Result<Vec<u8>, Broken> {
        let mut decoder = Decoder::new(codec);
        let mut out = Vec::new();
        for piece in coded.chunks(size) {
            decoder.feed(Bytes::copy_from_slice(piece));
            while let Some(piece) = decoder.piece()? {
                assert!(!piece.is_empty() && piece.len() <= PIECE);
                out.extend_from_slice(&piece);
            }
            assert!(decoder.input.is_empty());
        }
        decoder.complete().map(|()| out)
    }

    fn text(size: usize) -> Vec<u8> {
        let words = ["one ", "two ", "three ", "<p>", "</p>\n", "a much longer word than others "];
        let mut rng = fastrand::Rng::with_seed(7);
        let mut out = Vec::new();
        while out.len() < size {
            out.extend_from_slice(words[rng.usize(..words.len())].as_bytes());
        }
        out
    }

    #[test]
    fn however_it_is_cut_it_is_decoded() {
        for size in [0, 1, 1000, 300_000] {
            let plain = if size == 0 { Vec::new() } else { text(size) };
            for (codec, encode) in CODINGS {
                let coded = encode(&plain);
                for cut in [1, 7, 4096, usize::MAX] {
                    let got = decode(codec, &coded, cut.min(coded.len()));
                    assert_eq!(got.as_deref(), Ok(&*plain), "{codec:?} {size} cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn no_bytes_are_an_empty_body() {
        for (codec, _) in CODINGS {
            assert_eq!(decode(codec, b"", 1), Ok(Vec::new()), "{codec:?}");
        }
    }

    #[test]
    fn what_breaks_off_never_looks_whole() {
        let plain = text(20_000);
        for (codec, encode) in CODINGS {
            let coded = encode(&plain);
            for end in 1..coded.len() {
                let got = decode(codec, &coded[..end], 1000);
                assert_eq!(got, Err(Broken::Off), "{codec:?} {end} of {}", coded.len());
            }
        }
    }

    #[test]
    fn what_is_not_in_its_coding_is_broken() {
        for (codec, _) in CODINGS {
            for plain in ["<!doctype html>", "{}", "\u{1f}\u{8b}"] {
                assert_eq!(decode(codec, plain.as_bytes(), 9), Err(Broken::Off), "{codec:?}");
            }
        }
        // A checksum that does not fit.
        for (codec, encode) in [(Codec::Gzip, gzip as Encode), (Codec::Deflate, zlib)] {
            let mut coded = encode(&text(1000));
            let last = coded.len() - 5;
            coded[last] ^= 1;
            assert!(decode(codec, &coded, 100).is_err() || codec == Codec::Deflate);
            let last = coded.len() - 1;
            coded[last] ^= 1;
            assert_eq!(decode(codec, &coded, 100), Err(Broken::Off), "{codec:?}");
        }
    }

    #[test]
    fn members_follow_one_another_and_what_follows_the_last_is_ignored() {
        for (codec, encode) in [(Codec::Gzip, gzip as Encode), (Codec::Zstd, zstd)] {
            let twice = [encode(b"one "), encode(b""), encode(b"two")].concat();
            for cut in [1, 5, 1000] {
                assert_eq!(decode(codec, &twice, cut), Ok(b"one two".to_vec()), "{codec:?} {cut}");
            }
        }
        for (codec, encode) in CODINGS {
            let more = [encode(b"all of it"), b"\0\0\0\0padding".to_vec()].concat();
            for cut in [1, 5, 1000] {
                let got = decode(codec, &more, cut);
                assert_eq!(got, Ok(b"all of it".to_vec()), "{codec:?} {cut}");
            }
        }
    }

    /// A bomb is noticed by its growth, and takes no more memory than a piece.
    #[test]
    fn bombs_are_noticed() {
        const OBJECT: u64 = 1 << 20;
        let zeros = vec![0; 8 << 20];
        for (codec, encode) in CODINGS {
            let mut decoder = Decoder::new(codec);
            decoder.feed(encode(&zeros).into());
            let mut most = 0;
            while let Some(piece) = decoder.piece().unwrap() {
                most = most.max(piece.len());
                if decoder.has_exploded(OBJECT) {
                    break;
                }
            }
            assert!(decoder.has_exploded(OBJECT), "{codec:?}");
            assert!(decoder.decoded <= OBJECT + PIECE as u64, "{codec:?}: {}", decoder.decoded);
            assert!(most <= PIECE);
        }
        // Text is none, however much there is of it.
        for (codec, encode) in CODINGS {
            let mut decoder = Decoder::new(codec);
            decoder.feed(encode(&text(2 << 20)).into());
            while decoder.piece().unwrap().is_some() {
                assert!(!decoder.has_exploded(OBJECT), "{codec:?}");
            }
            assert!(decoder.decoded > OBJECT);
        }
    }

    /// Windows are bounded, or the head of a body of few bytes could take a GiB.
    #[test]
    fn large_windows_are_refused() {
        let plain = text(100_000);
        let large = brotli_with(&plain, |params| {
            params.large_window = true;
            params.lgwin = 30;
        });
        assert_eq!(decode(Codec::Brotli, &large, 1000), Err(Broken::Off));
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(24).unwrap();
        encoder.write_all(&plain).unwrap();
        assert_eq!(decode(Codec::Zstd, &encoder.finish().unwrap(), 1000), Err(Broken::Off));
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(23).unwrap();
        encoder.write_all(&plain).unwrap();
        assert_eq!(decode(Codec::Zstd, &encoder.finish().unwrap(), 1000), Ok(plain));
    }

    #[test]
    fn how_a_body_came() {
        use crate::rules::tests::map;
        let unknown = |names: &str| Coded::Unknown(names.into());
        for (status, fields, want) in [
            (200, &[][..], Coded::Not),
            (200, &[("content-encoding", "")][..], Coded::Not),
            (200, &[("content-encoding", "Identity")][..], Coded::Not),
            (200, &[("content-encoding", "gzip")][..], Coded::Known(Codec::Gzip)),
            (200, &[("content-encoding", " X-GZip ")][..], Coded::Known(Codec::Gzip)),
            (200, &[("content-encoding", "identity, br")][..], Coded::Known(Codec::Brotli)),
            (404, &[("content-encoding", "deflate")][..], Coded::Known(Codec::Deflate)),
            (500, &[("content-encoding", "zstd")][..], Coded::Known(Codec::Zstd)),
            (200, &[("content-encoding", "compress")][..], unknown("compress")),
            (200, &[("content-encoding", "gzip, br")][..], unknown("gzip, br")),
            (
                200,
                &[("content-encoding", "gzip"), ("content-encoding", "gzip")][..],
                unknown("gzip, gzip"),
            ),
            (206, &[("content-encoding", "gzip")][..], unknown("gzip")),
            // RFC 9110 §7.7
            (
                200,
                &[("content-encoding", "gzip"), ("cache-control", "no-transform")][..],
                unknown("gzip"),
            ),
            // Without a body there is nothing to be decoded.
            (304, &[("content-encoding", "gzip")][..], Coded::Not),
            (205, &[("content-encoding", "gzip")][..], Coded::Not),
            (204, &[("content-encoding", "gzip")][..], Coded::Not),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Coded::of(status, &map(fields)), want, "{status} {fields:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_or_hangs(
            coding in 0usize..5,
            garbage in proptest::collection::vec(any::<u8>(), 1..300),
            at in 0usize..200,
            cut in 1usize..100,
        ) {
            let (codec, encode) = CODINGS[coding];
            let mut coded = encode(b"some text, some text, and some more text");
            coded.splice(at.min(coded.len()).., garbage);
            let _ = decode(codec, &coded, cut);
        }
    }
}
