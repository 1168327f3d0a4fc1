//! A long answer read straight from its connection. Docker sends each line of a log as an HTTP chunk of its own
//! (docs/reference/docker.md#logs-in-chunks), and handing millions of those from hyper's connection task to a reader
//! one by one costs more than everything else: here all chunks that one read brought are one piece.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use hyper::{HeaderMap, StatusCode, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::{
    api::{Api, Query},
    error::Failure,
};

/// As much as one read may bring.
const PIECE: usize = 64 * 1024;
/// The longest head of an answer that is read.
const HEAD: usize = 64 * 1024;
/// The longest refusal that is read.
const REFUSAL: usize = 1 << 20;

/// `GET`, over a connection of its own, which dropping the stream closes.
pub(super) async fn get(
    api: &Api,
    path: &str,
    query: Query<'_>,
) -> Result<(HeaderMap, impl Stream<Item = Result<Bytes, Failure>> + Send + Unpin + use<>), Failure> {
    let mut io = api.http().connector.connect().await.map_err(Failure::unreached)?.into_inner();
    io.write_all(&api.http().head(&api.path(path, query))).await?;
    let mut buffer = BytesMut::with_capacity(PIECE);
    let (status, headers) = loop {
        if let Some(head) = take_head(&mut buffer)? {
            break head;
        }
        if buffer.len() > HEAD {
            return Err(Failure::strange("the head of the answer does not end"));
        }
        if io.read_buf(&mut buffer).await? == 0 {
            return Err(cut());
        }
    };
    let body = Body { framing: Framing::of(&headers)?, buffer };
    if status.is_success() {
        return Ok((headers, Box::pin(pieces(io, body))));
    }
    let mut text = BytesMut::new();
    let mut body = Box::pin(pieces(io, body));
    while let Some(piece) = futures_util::StreamExt::next(&mut body).await {
        text.extend_from_slice(&piece?);
        if text.len() > REFUSAL {
            break;
        }
    }
    Err(Failure::answer(status.as_u16(), &text))
}

fn pieces(io: impl AsyncRead + Send + Unpin, body: Body) -> impl Stream<Item = Result<Bytes, Failure>> + Send {
    futures_util::stream::unfold(Some((io, body)), |state| async move {
        let (mut io, mut body) = state?;
        loop {
            match body.take() {
                Err(e) => return Some((Err(e), None)),
                Ok(piece) if !piece.is_empty() => return Some((Ok(piece), Some((io, body)))),
                Ok(_) if body.framing.is_done() => return None,
                Ok(_) => {}
            }
            body.buffer.reserve(PIECE);
            match io.read_buf(&mut body.buffer).await {
                Ok(0) if body.framing == Framing::ToTheEnd => return None,
                Ok(0) => return Some((Err(cut()), None)),
                Ok(_) => {}
                Err(e) => return Some((Err(e.into()), None)),
            }
        }
    })
}

fn cut() -> Failure {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the stream was cut").into()
}

/// None while it is not all there.
fn take_head(buffer: &mut BytesMut) -> Result<Option<(StatusCode, HeaderMap)>, Failure> {
    let mut space = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut space);
    let strange = |e: &dyn std::fmt::Display| Failure::strange(e.to_string());
    let httparse::Status::Complete(length) = head.parse(buffer).map_err(|e| strange(&e))? else { return Ok(None) };
    let status = StatusCode::from_u16(head.code.unwrap_or_default()).map_err(|e| strange(&e))?;
    let mut headers = HeaderMap::new();
    for h in head.headers {
        let name = header::HeaderName::from_bytes(h.name.as_bytes()).map_err(|e| strange(&e))?;
        headers.append(name, header::HeaderValue::from_bytes(h.value).map_err(|e| strange(&e))?);
    }
    let _ = buffer.split_to(length);
    Ok(Some((status, headers)))
}

/// What has been read and not handed out, and how to read it.
struct Body {
    framing: Framing,
    buffer: BytesMut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    ToTheEnd,
    /// Bytes to come.
    Length(u64),
    Chunks(Chunk),
}

/// Where in a chunked body we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    /// In the digits of a size, of which there were so many.
    Size {
        value: u64,
        digits: u8,
    },
    /// Behind them: an extension, which nobody uses, and the end of the line.
    SizeEnd {
        value: u64,
    },
    Data {
        left: u64,
    },
    /// In the line end behind the data.
    DataEnd,
    /// In the lines behind the last chunk; `empty` at the beginning of one.
    Trailer {
        empty: bool,
    },
    Done,
}

impl Framing {
    fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        if headers.get(header::TRANSFER_ENCODING).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Ok(Self::Chunks(Chunk::START));
        }
        let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Ok(Self::ToTheEnd) };
        let length = length.to_str().ok().and_then(|l| l.parse().ok());
        length.map(Self::Length).ok_or_else(|| Failure::strange("a content length that is no number"))
    }

    fn is_done(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunks(Chunk::Done))
    }
}

impl Chunk {
    const START: Self = Self::Size { value: 0, digits: 0 };
}

impl Body {
    /// The data of what has been read, without the framing.
    fn take(&mut self) -> Result<Bytes, Failure> {
        match &mut self.framing {
            Framing::ToTheEnd => Ok(self.buffer.split().freeze()),
            Framing::Length(left) => {
                let length = self.buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= length as u64;
                Ok(self.buffer.split_to(length).freeze())
            }
            Framing::Chunks(chunk) => {
                let length = unchunk(chunk, &mut self.buffer)?;
                let mut all = self.buffer.split();
                all.truncate(length);
                Ok(all.freeze())
            }
        }
    }
}

/// Moves the data to the front, over the framing between it; returns its length.
fn unchunk(state: &mut Chunk, buffer: &mut [u8]) -> Result<usize, Failure> {
    let bad = || Failure::strange("a chunked body that is none");
    let (mut from, mut to) = (0, 0);
    while let Some(&byte) = buffer.get(from) {
        if let Chunk::Data { left } = state {
            let length = (buffer.len() - from).min(usize::try_from(*left).unwrap_or(usize::MAX));
            buffer.copy_within(from..from + length, to);
            (from, to) = (from + length, to + length);
            *left -= length as u64;
            if *left == 0 {
                *state = Chunk::DataEnd;
            }
            continue;
        }
        from += 1;
        *state = match (*state, byte) {
            (Chunk::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                // Fifteen digits are more than anybody has.
                if digits >= 15 {
                    return Err(bad());
                }
                Chunk::Size { value: value * 16 + u64::from(digit), digits: digits + 1 }
            }
            (Chunk::Size { digits: 0, .. }, _) => return Err(bad()),
            (Chunk::Size { value: 0, .. } | Chunk::SizeEnd { value: 0 }, b'\n') => Chunk::Trailer { empty: true },
            (Chunk::Size { value, .. } | Chunk::SizeEnd { value }, b'\n') => Chunk::Data { left: value },
            (Chunk::Size { value, .. } | Chunk::SizeEnd { value }, _) => Chunk::SizeEnd { value },
            (Chunk::DataEnd, b'\r') => Chunk::DataEnd,
            (Chunk::DataEnd, b'\n') => Chunk::START,
            (Chunk::DataEnd | Chunk::Data { .. }, _) => return Err(bad()),
            (Chunk::Trailer { empty: true }, b'\n') => Chunk::Done,
            (Chunk::Trailer { empty }, b'\r') => Chunk::Trailer { empty },
            (Chunk::Trailer { .. }, b) => Chunk::Trailer { empty: b == b'\n' },
            (Chunk::Done, _) => break,
        };
    }
    Ok(to)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let read = |size: usize| {
        let (mut head, mut buffer, mut out) = (None, BytesMut::new(), Vec::new());
        for piece in data.chunks(size) {
            buffer.extend_from_slice(piece);
            if head.is_none() {
                let Some((_, headers)) = take_head(&mut buffer).ok()? else { continue };
                head = Some(Body { framing: Framing::of(&headers).ok()?, buffer: BytesMut::new() });
            }
            if let Some(body) = &mut head {
                body.buffer.unsplit(buffer.split());
                out.extend(body.take().ok()?);
            }
        }
        Some((head?.framing, out))
    };
    let whole = read(data.len().max(1));
    assert!(whole.as_ref().is_none_or(|(_, out)| out.len() <= data.len()));
    if whole.is_some() {
        assert_eq!(read(1), whole);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt, TryStreamExt};
    use proptest::prelude::*;

    use super::*;

    fn read(raw: &[u8], framing: Framing) -> Result<Vec<u8>, Failure> {
        let body = Body { framing, buffer: BytesMut::new() };
        let all = pieces(raw, body).map_ok(|b| b.to_vec()).try_concat();
        all.now_or_never().expect("nothing to wait for")
    }

    const CHUNKS: Framing = Framing::Chunks(Chunk::START);

    fn chunked(parts: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for part in parts {
            out.extend(format!("{:x};ext=1\r\n", part.len()).bytes());
            out.extend(part);
            out.extend(b"\r\n");
        }
        out.extend(b"0\r\nTrailer: x\r\n\r\n");
        out
    }

    proptest! {
        #[test]
        fn however_it_arrives_the_data_is_the_same(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 0..12),
            cuts in prop::collection::vec(1usize..40, 1..20),
        ) {
            let raw = chunked(&parts);
            let (mut state, mut out, mut rest) = (Chunk::START, Vec::<u8>::new(), &raw[..]);
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                let mut piece = piece.to_vec();
                let length = unchunk(&mut state, &mut piece).unwrap();
                out.extend(&piece[..length]);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(&out, &parts.concat());
            prop_assert_eq!(state, Chunk::Done);
            prop_assert_eq!(read(&raw, CHUNKS).unwrap(), out);
        }

        #[test]
        fn a_cut_is_told_from_an_end(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 1..4), at in 0.0..1.0) {
            let raw = chunked(&parts);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the length")]
            let at = (raw.len() as f64 * at) as usize;
            let e = read(&raw[..at], CHUNKS).unwrap_err();
            prop_assert!(matches!(e, Failure::Connection(_)), "{:?}", e);
        }
    }

    #[test]
    fn other_framings() {
        assert_eq!(read(b"abc", Framing::ToTheEnd).unwrap(), b"abc");
        assert_eq!(read(b"abcd", Framing::Length(3)).unwrap(), b"abc");
        assert!(read(b"ab", Framing::Length(3)).is_err());
        assert!(read(b"\r\n", CHUNKS).is_err());
        assert!(read(b"fffffffffffffffff\r\n", CHUNKS).is_err());
    }

    #[test]
    fn many_chunks_of_one_read_are_one_piece() {
        let raw = chunked(&[b"a\n".to_vec(), b"b\n".to_vec()]);
        let body = Body { framing: CHUNKS, buffer: BytesMut::new() };
        let mut all = Box::pin(pieces(&raw[..], body));
        assert_eq!(all.next().now_or_never().unwrap().unwrap().unwrap(), "a\nb\n");
        assert!(all.next().now_or_never().unwrap().is_none());
    }
}
