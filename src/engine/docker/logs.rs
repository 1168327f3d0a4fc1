//! Logs, and the taking apart of Docker's multiplexed streams.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt};
use hyper::HeaderMap;

use super::{
    api::{self, Api, bare},
    containers, download,
    error::{Failure, ResultExt},
    refusal::About,
};
use crate::{
    engine::{BoxStream, time, types::*},
    error::Result,
};

pub(super) async fn logs(api: Api, id: &str, options: &LogOptions) -> Result<BoxStream<OutputChunk>> {
    let (pieces, framing) = open(&api, id, options).await?;
    let log = demultiplex(pieces, framing, id.to_owned());
    if !options.follow {
        return Ok(log);
    }
    let (id, options) = (id.to_owned(), options.clone());
    let tail = options.tail;
    let again = move |tail| {
        let (api, id) = (api.clone(), id.clone());
        let options = LogOptions { follow: false, tail, ..options.clone() };
        async move {
            let (pieces, framing) = open(&api, &id, &options).await?;
            let mut log = demultiplex(pieces, framing, id);
            let (mut chunks, mut length) = (Vec::new(), 0);
            while let Some(chunk) = log.try_next().await? {
                length += chunk.data.len();
                chunks.push(chunk);
                if length > REREAD {
                    break;
                }
            }
            Ok(chunks)
        }
    };
    Ok(completed(log, again, tail))
}

async fn open(api: &Api, id: &str, options: &LogOptions) -> Result<(Pieces, Framing)> {
    let flag = |on: bool| u8::from(on).to_string();
    let mut query = vec![
        ("stdout", flag(options.stdout)),
        ("stderr", flag(options.stderr)),
        ("follow", flag(options.follow)),
        ("timestamps", flag(options.timestamps)),
        ("tail", options.tail.map_or_else(|| "all".to_owned(), |n| format!("{n:.0}"))),
    ];
    if let Some(since) = options.since {
        query.push(("since", time::query(since)));
    }
    let path = format!("containers/{}/logs", api::encode(bare(id)));
    let (headers, pieces) = download::get(api, &path, &query).await.about(About::Container(id))?;
    let framing = framing(api, id, &headers).await?;
    Ok((pieces.boxed(), framing))
}

type Pieces = futures_util::stream::BoxStream<'static, Result<Bytes, Failure>>;

/// Most bytes of a log that are read again. A log of up to half as many is read whole: it may have grown.
const REREAD: usize = 16 << 20;
/// Lines from the end of a log too long to be read again. dockerd cuts them at 16 KiB, so they are at most [`REREAD`].
const LAST_LINES: f64 = 1000.0;
/// How many of a stream's last bytes are kept, to find in the log where it ended.
const TAIL: usize = 4096;

/// The log with the end that follow may miss (docs/reference/docker.md#end-of-a-followed-log). So when follow has
/// ended, `again` reads the log's end once more, by a number of lines, and what had not come is given.
fn completed<A, L>(follow: BoxStream<OutputChunk>, again: A, tail: Option<f64>) -> BoxStream<OutputChunk>
where
    A: Fn(Option<f64>) -> L + Send + 'static,
    L: Future<Output = Result<Vec<OutputChunk>>> + Send,
{
    enum State<A> {
        Following(BoxStream<OutputChunk>, [Seen; 2], A),
        Missed(std::vec::IntoIter<OutputChunk>),
    }
    let state = State::Following(follow, Default::default(), again);
    futures_util::stream::unfold(state, move |state| async move {
        let mut missed = match state {
            State::Following(mut follow, mut seen, again) => match follow.next().await {
                Some(Ok(chunk)) => {
                    seen[chunk.stream as usize].note(&chunk.data);
                    return Some((Ok(chunk), State::Following(follow, seen, again)));
                }
                Some(Err(e)) => return Some((Err(e), State::Missed(Vec::new().into_iter()))),
                // A container that is gone has no end to read.
                None => missed(&seen, again, tail).await.unwrap_or_default().into_iter(),
            },
            State::Missed(missed) => missed,
        };
        missed.next().map(|chunk| (Ok(chunk), State::Missed(missed)))
    })
    .boxed()
}

/// What has come of one stream.
#[derive(Default)]
struct Seen {
    length: usize,
    /// Its last bytes: [`TAIL`], or all when there are fewer.
    end: Vec<u8>,
}

impl Seen {
    fn note(&mut self, data: &[u8]) {
        self.length = self.length.saturating_add(data.len());
        self.end.extend_from_slice(&data[data.len().saturating_sub(TAIL)..]);
        let excess = self.end.len().saturating_sub(TAIL);
        self.end.drain(..excess);
    }

    /// How many bytes of `log` have come already. Where `log` is `whole`, it begins where it began for us, and the count of
    /// bytes decides: lines may repeat. Else it is the last place where the kept bytes are, so that nothing is given twice.
    fn within(&self, log: &[u8], whole: bool) -> usize {
        if whole && log.get(..self.length).is_some_and(|came| came.ends_with(&self.end)) {
            return self.length;
        }
        memchr::memmem::rfind(log, &self.end).map_or(log.len(), |at| at + self.end.len())
    }
}

async fn missed<L: Future<Output = Result<Vec<OutputChunk>>>>(
    seen: &[Seen; 2],
    again: impl Fn(Option<f64>) -> L,
    tail: Option<f64>,
) -> Result<Vec<OutputChunk>> {
    let came = seen[0].length.saturating_add(seen[1].length);
    let whole = tail.is_none() && came <= REREAD / 2;
    let mut out = Vec::new();
    if came > 0 || tail.is_none() {
        let log = again((!whole).then_some(LAST_LINES)).await?;
        let mut skip = [OutputStream::Stdout, OutputStream::Stderr].map(|stream| {
            let seen = &seen[stream as usize];
            match tail {
                // Whether its lines are among those asked for is seen below.
                Some(_) if seen.length == 0 => usize::MAX,
                None if seen.length == 0 => 0,
                _ => seen.within(&of(stream, &log), whole),
            }
        });
        for OutputChunk { stream, mut data } in log {
            let skip = &mut skip[stream as usize];
            let known = data.len().min(*skip);
            *skip -= known;
            data.advance(known);
            if !data.is_empty() {
                out.push(OutputChunk { stream, data });
            }
        }
    }
    // A stream that was silent has written since what the last lines now have of it.
    if let Some(lines) = tail.filter(|&n| n > 0.0)
        && seen.iter().any(|s| s.length == 0)
    {
        let log = again(Some(lines.min(LAST_LINES))).await?;
        out.extend(log.into_iter().filter(|chunk| seen[chunk.stream as usize].length == 0));
    }
    Ok(out)
}

fn of(stream: OutputStream, chunks: &[OutputChunk]) -> Vec<u8> {
    chunks.iter().filter(|c| c.stream == stream).flat_map(|c| &c.data[..]).copied().collect()
}

/// How a stream tells standard output from standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// A header before each piece.
    Multiplexed,
    /// A terminal has one output.
    Raw,
}

/// From API 1.42 on the answer's head says it; before, the container must be asked.
pub(super) async fn framing(api: &Api, id: &str, headers: &HeaderMap) -> Result<Framing> {
    match headers.get(hyper::header::CONTENT_TYPE).map(hyper::header::HeaderValue::as_bytes) {
        Some(b"application/vnd.docker.multiplexed-stream") => Ok(Framing::Multiplexed),
        // Older engines say "raw-stream" of both (docs/reference/docker.md#streams-of-a-container).
        Some(b"application/vnd.docker.raw-stream") if api.version() >= api::ApiVersion(1, 42) => Ok(Framing::Raw),
        _ => {
            let raw = containers::raw(api, id).await?;
            let tty = raw["Config"]["Tty"].as_bool().unwrap_or_default();
            Ok(if tty { Framing::Raw } else { Framing::Multiplexed })
        }
    }
}

/// The pieces in their order. Neighbours of one stream that arrived together are one piece: a log of short lines has
/// millions of them.
pub(super) fn demultiplex(
    source: impl Stream<Item = Result<Bytes, Failure>> + Send + Unpin + 'static,
    framing: Framing,
    id: String,
) -> BoxStream<OutputChunk> {
    let state = (source, Demux::default(), VecDeque::<Result<OutputChunk>>::new(), id, false);
    futures_util::stream::unfold(state, move |(mut source, mut demux, mut ready, id, mut done)| async move {
        loop {
            if let Some(chunk) = ready.pop_front() {
                return Some((chunk, (source, demux, ready, id, done)));
            }
            if done {
                return None;
            }
            let next = source.next().await;
            let outcome = match (next, framing) {
                (Some(Ok(data)), Framing::Raw) => {
                    ready.push_back(Ok(OutputChunk { stream: OutputStream::Stdout, data }));
                    Ok(())
                }
                (Some(Ok(data)), Framing::Multiplexed) => demux.feed(data, &mut ready),
                (Some(Err(e)), _) => Err(e),
                (None, _) => {
                    done = true;
                    demux.end()
                }
            };
            if let Err(e) = outcome {
                done = true;
                ready.push_back(Err(e.about(About::Container(&id))));
            }
        }
    })
    .boxed()
}

const HEADER: usize = 8;

/// Frames: a byte for the stream, three of padding, four for the length (big endian), the payload.
#[derive(Default)]
struct Demux {
    /// The beginning of a header that has not come whole.
    header: BytesMut,
    /// What the frame at hand still lacks.
    current: Option<(Channel, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Channel {
    Output(OutputStream),
    /// The engine's own word that the stream broke.
    Error,
}

impl Demux {
    fn feed(&mut self, mut data: Bytes, out: &mut VecDeque<Result<OutputChunk>>) -> Result<(), Failure> {
        // Pieces of one stream are joined here; the last one is handed out as it lies, without a copy.
        let mut run: Option<(OutputStream, Run)> = None;
        let outcome = loop {
            let Some((channel, left)) = self.current else {
                if data.is_empty() {
                    break Ok(());
                }
                let parsed = if self.header.is_empty() && data.len() >= HEADER {
                    let header: [u8; HEADER] = data[..HEADER].try_into().unwrap_or_default();
                    data.advance(HEADER);
                    Some(header)
                } else {
                    let wanted = (HEADER - self.header.len()).min(data.len());
                    self.header.extend_from_slice(&data.split_to(wanted));
                    let whole = self.header.as_ref().try_into().ok();
                    if whole.is_some() {
                        self.header.clear();
                    }
                    whole
                };
                match parsed.map(channel_of) {
                    None => break Ok(()),
                    Some(Ok(frame)) => self.current = Some(frame),
                    Some(Err(e)) => break Err(e),
                }
                continue;
            };
            if left == 0 {
                self.current = None;
                continue;
            }
            if data.is_empty() {
                break Ok(());
            }
            let piece = data.split_to(left.min(data.len()));
            self.current = Some((channel, left - piece.len()));
            let Channel::Output(stream) = channel else {
                break Err(Failure::in_stream(String::from_utf8_lossy(&piece).trim().to_owned()));
            };
            match &mut run {
                Some((same, run)) if *same == stream => run.push(&piece, data.len()),
                _ => {
                    if let Some((stream, run)) = run.replace((stream, Run::One(piece))) {
                        out.push_back(Ok(OutputChunk { stream, data: run.into_bytes() }));
                    }
                }
            }
        };
        if let Some((stream, run)) = run {
            out.push_back(Ok(OutputChunk { stream, data: run.into_bytes() }));
        }
        outcome
    }

    /// A stream that ends inside a frame was cut.
    fn end(&self) -> Result<(), Failure> {
        if self.header.is_empty() && self.current.is_none_or(|(_, left)| left == 0) {
            return Ok(());
        }
        Err(Failure::from(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the stream was cut")))
    }
}

fn channel_of(header: [u8; HEADER]) -> Result<(Channel, usize), Failure> {
    let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
    let channel = match (header[0], &header[1..4]) {
        // 0 is standard input, echoed by some engines on standard output.
        (0 | 1, [0, 0, 0]) => Channel::Output(OutputStream::Stdout),
        (2, [0, 0, 0]) => Channel::Output(OutputStream::Stderr),
        (3, [0, 0, 0]) => Channel::Error,
        _ => return Err(Failure::strange("a stream without the headers it should have")),
    };
    Ok((channel, length))
}

enum Run {
    One(Bytes),
    Many(BytesMut),
}

impl Run {
    /// `to_come` bounds what may follow: one allocation for each run.
    fn push(&mut self, piece: &Bytes, to_come: usize) {
        match self {
            Self::Many(all) => all.extend_from_slice(piece),
            Self::One(first) => {
                let mut all = BytesMut::with_capacity(first.len() + piece.len() + to_come);
                all.extend_from_slice(first);
                all.extend_from_slice(piece);
                *self = Self::Many(all);
            }
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::One(bytes) => bytes,
            Self::Many(bytes) => bytes.freeze(),
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_frames(data: &[u8]) {
    let demultiplexed = |size: usize| {
        let (mut demux, mut out) = (Demux::default(), VecDeque::new());
        let fed = data.chunks(size).try_for_each(|piece| demux.feed(Bytes::copy_from_slice(piece), &mut out));
        let of = |stream| -> Vec<u8> {
            let pieces = out.iter().flatten().filter(|c: &&OutputChunk| c.stream == stream);
            pieces.flat_map(|c| c.data.to_vec()).collect()
        };
        (of(OutputStream::Stdout), of(OutputStream::Stderr), fed.is_ok() && demux.end().is_ok())
    };
    let whole = demultiplexed(data.len().max(1));
    assert!(whole.0.len() + whole.1.len() <= data.len());
    assert_eq!(demultiplexed(1), whole);
    assert_eq!(demultiplexed(5), whole);
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;
    use proptest::prelude::*;

    use super::*;

    const TOLD: &str = "application/vnd.docker.multiplexed-stream";

    /// An engine whose follow gives `follow` and whose log is `lines`, each of one stream.
    #[cfg(unix)]
    async fn engine(dir: &std::path::Path, follow: Vec<u8>, lines: Vec<(u8, Vec<u8>)>) -> Api {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let socket = dir.join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            while let Ok((mut peer, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(peer.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let body = if head.contains("/_ping") {
                    b"OK".to_vec()
                } else if head.contains("follow=1") {
                    follow.clone()
                } else {
                    let tail = head.split_once("tail=").unwrap().1.split(['&', ' ']).next().unwrap();
                    let from = tail.parse().map_or(0, |n: usize| lines.len().saturating_sub(n));
                    lines[from..].iter().flat_map(|(stream, line)| frame(*stream, line)).collect()
                };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nApi-Version: 1.42\r\nServer: Docker/20.10.24\r\nContent-Type: {TOLD}\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                peer.write_all(&[answer.as_bytes(), &body].concat()).await.unwrap();
            }
        });
        Api::connect(super::super::endpoint::Endpoint::Unix(socket)).await.unwrap()
    }

    /// What a reader gets when follow gave `came` of `lines` and `before` were there already.
    #[cfg(unix)]
    async fn followed(lines: &[(u8, &str)], came: std::ops::Range<usize>, tail: Option<f64>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let follow = lines[came].iter().flat_map(|(stream, line)| frame(*stream, line.as_bytes())).collect();
        let all = lines.iter().map(|(stream, line)| (*stream, line.as_bytes().to_vec())).collect();
        let api = engine(dir.path(), follow, all).await;
        let options = LogOptions { follow: true, tail, ..LogOptions::default() };
        let chunks: Vec<_> = logs(api, "c", &options).await.unwrap().try_collect().await.unwrap();
        chunks.iter().map(|c| String::from_utf8_lossy(&c.data).into_owned()).collect()
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn what_follow_missed_is_given_once_and_nothing_else() {
        let log = [(1, "1\n"), (2, "bad\n"), (1, "1\n"), (1, "1\n"), (2, "worse\n"), (1, "end")];
        let whole: String = log.iter().map(|(_, line)| *line).collect();
        // Wherever follow ended, also among lines that are all the same.
        for came in 0..=log.len() {
            assert_eq!(followed(&log, 0..came, None).await, whole, "{came}");
        }
        // A reader that came late: what was before stays out.
        assert_eq!(followed(&log, 6..6, Some(0.0)).await, "");
        assert_eq!(followed(&log, 4..5, Some(0.0)).await, "worse\n");
        assert_eq!(followed(&log, 3..6, Some(3.0)).await, "1\nworse\nend");
        assert_eq!(followed(&log, 3..5, Some(3.0)).await, "1\nworse\nend");
        assert_eq!(followed(&log, 3..4, Some(3.0)).await, "1\nendworse\n");
        assert_eq!(followed(&log, 6..6, Some(1.0)).await, "end");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_end_of_a_log_too_long_to_read_again_is_found() {
        let line = |i: usize| format!("{i:0>16000}\n");
        let lines: Vec<String> = (0..1100).map(line).collect();
        let log: Vec<(u8, &str)> = lines.iter().map(|line| (1, line.as_str())).collect();
        let text = followed(&log, 0..1097, None).await;
        assert!(text == lines.concat(), "{} bytes of {}", text.len(), lines.concat().len());
    }

    #[test]
    fn without_a_trace_of_what_came_nothing_is_given() {
        let mut seen = Seen::default();
        seen.note(&[b'x'; 3 * TAIL]);
        seen.note(b"end\n");
        assert_eq!((seen.length, seen.end.len()), (3 * TAIL + 4, TAIL));
        // The engine has thrown the beginning away meanwhile.
        assert_eq!(seen.within(b"other\nlines\n", true), 12);
        let mut rotated = seen.end.clone();
        rotated.extend(b"new\n");
        assert_eq!(seen.within(&rotated, true), TAIL);
    }

    use crate::error::ErrorCode;

    fn frame(stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![stream, 0, 0, 0];
        out.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        out.extend(payload);
        out
    }

    fn run(pieces: Vec<Vec<u8>>, framing: Framing) -> Result<Vec<(OutputStream, Vec<u8>)>> {
        let source = futures_util::stream::iter(pieces.into_iter().map(|p| Ok(Bytes::from(p))));
        let chunks = futures_util::FutureExt::now_or_never(
            demultiplex(source, framing, "c".into()).map_ok(|c| (c.stream, c.data.to_vec())).try_collect::<Vec<_>>(),
        );
        chunks.expect("nothing to wait for")
    }

    proptest! {
        #[test]
        fn wherever_it_is_cut_the_bytes_and_their_order_are_the_same(
            frames in prop::collection::vec((1u8..=2, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            cuts in prop::collection::vec(1usize..50, 1..40),
        ) {
            let all: Vec<u8> = frames.iter().flat_map(|(s, p)| frame(*s, p)).collect();
            let mut pieces = Vec::new();
            let (mut rest, mut cuts) = (&all[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                pieces.push(piece.to_vec());
                rest = after;
            }
            let flat = |all: Vec<(OutputStream, Vec<u8>)>| -> Vec<(OutputStream, u8)> {
                all.into_iter().flat_map(|(s, p)| p.into_iter().map(move |b| (s, b))).collect()
            };
            let expected = frames.into_iter().map(|(s, p)| (if s == 1 { OutputStream::Stdout } else { OutputStream::Stderr }, p)).collect();
            prop_assert_eq!(flat(run(pieces, Framing::Multiplexed).unwrap()), flat(expected));
        }
    }

    #[test]
    fn short_lines_of_one_stream_arrive_together() {
        let piece = [frame(1, b"a\n"), frame(1, b"b\n"), frame(2, b"!\n"), frame(1, b"c\n")].concat();
        let out = run(vec![piece], Framing::Multiplexed).unwrap();
        let texts: Vec<_> = out.iter().map(|(_, p)| std::str::from_utf8(p).unwrap()).collect();
        assert_eq!(texts, ["a\nb\n", "!\n", "c\n"]);
    }

    #[test]
    fn a_cut_inside_a_frame_is_an_error_after_what_had_come() {
        let mut piece = frame(1, b"whole");
        piece.extend(&frame(1, b"half")[..10]);
        let source = futures_util::stream::iter([Ok(Bytes::from(piece))]);
        let mut stream = demultiplex(source, Framing::Multiplexed, "c".into());
        let mut next = || futures_util::FutureExt::now_or_never(stream.next()).unwrap();
        assert_eq!(next().unwrap().unwrap().data, "wholeha");
        assert_eq!(next().unwrap().unwrap_err().code(), ErrorCode::EngineUnreachable);
        assert!(next().is_none());
    }

    #[test]
    fn a_terminal_has_no_headers() {
        let out = run(vec![b"\x01\x02".to_vec(), b"x".to_vec()], Framing::Raw).unwrap();
        assert_eq!(out.into_iter().flat_map(|(_, p)| p).collect::<Vec<_>>(), b"\x01\x02x");
    }
}
