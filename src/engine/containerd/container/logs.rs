//! What containers print: nerdctl's log files, read in the guest. `nerdctl logs` knows no rotated file, and loses the
//! end of what it follows (docs/reference/nerdctl.md#logs-command).

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};
use serde::Deserialize;

use super::super::prelude::*;
use super::{
    find::{end as container_end, find, invalid_state, runs},
    logger,
};
use crate::process::{Chunk, Exit, KEPT, Lines};

/// The log of a container: rotated files (`.1` is the newest of them), then the current one. Where the container has
/// ended (`$4`), its logger may still be writing, or the shell around it: they hold the locks as long.
const READ: &str = r#"f=$1; n=1; [ -z "$4" ] || for l in "$2" "$3"; do [ ! -e "$l" ] || flock -w 10 -s "$l" true; done
while [ -e "$f.$n" ]; do n=$((n+1)); done
while [ $n -gt 1 ]; do n=$((n-1)); cat -- "$f.$n"; done; if [ -e "$f" ]; then cat -- "$f"; fi"#;

/// First how many bytes there are now, on a line; then all of them and what comes. The locks are held as long as
/// something is written (docs/reference/nerdctl.md#log-files): when they are free, everything is in the file, and tail
/// reads it to its end once more.
const FOLLOW: &str = r#"f=$1; l=$2; m=$3; n=1; sum=0
while [ -e "$f.$n" ]; do sum=$((sum+$(wc -c <"$f.$n"))); n=$((n+1)); done
if [ -e "$f" ]; then sum=$((sum+$(wc -c <"$f"))); fi; echo "$sum"
[ -e "$l" ] || l=/dev/null
(flock -s "$l" true; [ ! -e "$m" ] || flock -s "$m" true) </dev/null >/dev/null 2>&1 & w=$!
while [ $n -gt 1 ]; do n=$((n-1)); cat -- "$f.$n"; done
tail -s 0.05 -c +1 --pid=$w -F -- "$f" 2>/dev/null & t=$!
wait $w; wait $t"#;

/// How long a log may be silent after its container's end: a logger can hang (nerdctl before 2.3.4 waits for a task that is
/// gone for ever, containerd/nerdctl#5006).
const SILENCE: Duration = Duration::from_secs(10);

pub(crate) async fn logs(c: &Containerd, id: &str, options: &LogOptions) -> Result<BoxStream<OutputChunk>> {
    let container = find(c, id).await?;
    if let Some(driver) = labels::other_log_driver(&container) {
        return Err(invalid_state(id, &format!("has the log driver {driver}: its output is elsewhere")));
    }
    let dir = c.files.state_dir(&container).await?;
    let log = format!("{dir}/{}-json.log", container.id);
    let locks = ["logger-lock", logger::LOCK].map(|name| format!("{dir}/{name}"));
    let lives = c.api.task(&container.id).await?.is_some_and(|t| t.exit_code.is_none());
    let follow = options.follow && lives;
    let ended = if lives { "" } else { "ended" };
    let mut command = c.command(["sh", "-c", READ, "sh", &log, &locks[0], &locks[1], ended]);
    if follow {
        command.argv[2] = FOLLOW.into();
    }
    let mut process = c.guest().spawn(command).await?;
    process.stdin = None;
    let mut select = Select::new(options, if follow { None } else { Some(u64::MAX) });
    let c = c.clone();
    Ok(task::stream(move |out| async move {
        let mut stderr = BytesMut::new();
        // The logger need not notice that its daemon is gone: it lives as long as the container does.
        let mut end = std::pin::pin!(async {
            if follow { container_end(&c, &container.id).await } else { std::future::pending().await }
        });
        let (mut over, mut hangs) = (false, false);
        loop {
            let chunk = tokio::select! {
                chunk = process.next() => chunk,
                ended = &mut end, if !over => {
                    over = true;
                    ended?;
                    continue;
                }
                () = tokio::time::sleep(SILENCE), if over => {
                    hangs = true;
                    break;
                }
            };
            let Some(chunk) = chunk else { break };
            let data = match chunk {
                Chunk::Stdout(data) => data,
                Chunk::Stderr(data) => {
                    if stderr.len() < 4096 {
                        stderr.extend_from_slice(&data);
                    }
                    continue;
                }
            };
            for chunk in select.feed(&data)? {
                out.put(chunk).await?;
            }
        }
        for chunk in select.rest() {
            out.put(chunk).await?;
        }
        if hangs {
            return Ok(());
        }
        match process.exit().await? {
            _ if over => Ok(()),
            // A quiet end would look like the container's own.
            _ if follow => still_there(&c, &container.id).await,
            Exit::Code(0) => Ok(()),
            exit => {
                let words = String::from_utf8_lossy(&stderr).trim().to_owned();
                Err(Error::new(ErrorCode::EngineError, format!("Reading the log ended with {exit}: {words}")))
            }
        }
    }))
}

/// The log's writer has ended: with the container, or without it.
async fn still_there(c: &Containerd, id: &str) -> Result<()> {
    if runs(c, id).await? {
        // The logger ends a little before the task is known to have.
        c.api.wait(id).await?;
    }
    Ok(())
}

/// A line of nerdctl's json-file.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    log: std::borrow::Cow<'a, str>,
    stream: OutputName,
    #[serde(default)]
    time: &'a str,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum OutputName {
    Stdout,
    Stderr,
}

/// What of the log is wanted.
struct Select {
    stdout: bool,
    stderr: bool,
    timestamps: bool,
    /// Nanoseconds since the epoch.
    since: Option<i128>,
    /// Only the last lines of what is there at the beginning.
    tail: Option<usize>,
    /// How much is still to come of what was there at the beginning; not known before the first line.
    before: Option<u64>,
    partial: Lines,
    /// With each entry, whether it begins a line.
    kept: VecDeque<(bool, OutputChunk)>,
    lines: usize,
    /// Bytes in `kept`.
    size: usize,
    /// Whether the last entry of a stream ended its line: stdout, stderr.
    ended: [bool; 2],
}

impl Select {
    fn new(options: &LogOptions, before: Option<u64>) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked: whole, in range")]
        Self {
            stdout: options.stdout,
            stderr: options.stderr,
            timestamps: options.timestamps,
            since: options.since.map(|s| (s * 1e9) as i128),
            tail: options.tail.map(|n| n as usize),
            before,
            partial: Lines::default(),
            kept: VecDeque::new(),
            lines: 0,
            size: 0,
            ended: [true; 2],
        }
    }

    /// An error when a container has written what nobody can keep in memory.
    fn feed(&mut self, data: &[u8]) -> Result<Vec<OutputChunk>> {
        self.partial.push(data);
        let mut out = Vec::new();
        while let Some(line) = self.partial.line() {
            let Some(before) = self.before else {
                self.before = Some(String::from_utf8_lossy(&line).trim().parse().unwrap_or(0));
                if self.before == Some(0) {
                    out.extend(self.rest());
                }
                continue;
            };
            let early = before > 0;
            if before != u64::MAX {
                self.before = Some(before.saturating_sub(line.len() as u64));
            }
            // Half a line, from a logger that was killed, is no entry. What is not UTF-8 is not Go's.
            match serde_json::from_slice::<Line>(&line) {
                Ok(entry) => self.take(&entry, early, &mut out),
                Err(_) => {
                    if let Ok(entry) = serde_json::from_str(&String::from_utf8_lossy(&line)) {
                        self.take(&entry, early, &mut out);
                    }
                }
            }
            if early && self.before == Some(0) {
                out.extend(self.rest());
            }
            if self.size > KEPT {
                return Err(Error::too_large("What `tail` asks for", KEPT).hint("Ask for fewer lines."));
            }
        }
        if self.partial.rest().len() > KEPT {
            return Err(Error::too_large("A line of the container's log", KEPT));
        }
        Ok(out)
    }

    fn take(&mut self, entry: &Line, early: bool, out: &mut Vec<OutputChunk>) {
        let stream = if entry.stream == OutputName::Stdout { OutputStream::Stdout } else { OutputStream::Stderr };
        let ended = &mut self.ended[usize::from(stream == OutputStream::Stderr)];
        let begins = std::mem::replace(ended, entry.log.ends_with('\n'));
        let wanted = if stream == OutputStream::Stdout { self.stdout } else { self.stderr };
        let late = self.since.is_none_or(|since| time::parse_nanos(entry.time).is_none_or(|t| t >= since));
        if !wanted || !late {
            return;
        }
        let data = if self.timestamps && begins {
            Bytes::from(format!("{} {}", nine_digits(entry.time), entry.log))
        } else {
            Bytes::copy_from_slice(entry.log.as_bytes())
        };
        let chunk = OutputChunk { stream, data };
        let Some(tail) = self.tail.filter(|_| early) else {
            // Many small lines are one piece for the reader.
            match out.last_mut() {
                Some(last) if last.stream == stream && last.data.len() < 16 * 1024 => {
                    last.data = [&last.data[..], &chunk.data[..]].concat().into();
                }
                _ => out.push(chunk),
            }
            return;
        };
        self.lines += usize::from(begins);
        self.size += chunk.data.len();
        self.kept.push_back((begins, chunk));
        while self.lines > tail && !self.kept.is_empty() {
            self.drop_first();
            while self.kept.front().is_some_and(|(begins, _)| !begins) {
                self.drop_first();
            }
            self.lines -= 1;
        }
    }

    fn drop_first(&mut self) {
        self.size -= self.kept.pop_front().map_or(0, |(_, chunk)| chunk.data.len());
    }

    /// What `tail` has kept, when the beginning is over.
    fn rest(&mut self) -> Vec<OutputChunk> {
        (self.lines, self.size) = (0, 0);
        self.kept.drain(..).map(|(_, chunk)| chunk).collect()
    }
}

/// Go leaves zeros at the end of a fraction away; Docker prints nine digits.
fn nine_digits(time: &str) -> String {
    let Some(zone) = time.get(19..).and_then(|rest| rest.find(['Z', '+', '-'])).map(|at| at + 19) else {
        return time.to_owned();
    };
    let (fraction, zone) = (time.get(20..zone).unwrap_or(""), &time[zone..]);
    format!("{}.{fraction:0<9}{zone}", &time[..19])
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let (&kind, data) = data.split_first().unwrap_or((&0, &[]));
    let options = LogOptions {
        stdout: kind & 1 == 0,
        timestamps: kind & 2 != 0,
        since: (kind & 4 != 0).then_some(1_700_000_000.0),
        tail: (kind & 8 != 0).then_some(f64::from(kind >> 4)),
        ..LogOptions::default()
    };
    let read = |size: usize| {
        let mut select = Select::new(&options, None);
        let mut out: Vec<_> = data.chunks(size).flat_map(|piece| select.feed(piece).unwrap_or_default()).collect();
        out.extend(select.rest());
        let of = |stream| out.iter().filter(|c| c.stream == stream).flat_map(|c| c.data.to_vec()).collect::<Vec<u8>>();
        (of(OutputStream::Stdout), of(OutputStream::Stderr))
    };
    assert_eq!(read(1), read(data.len().max(1)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(log: &str, stream: &str, second: u32) -> String {
        format!(
            "{}\n",
            serde_json::json!({ "log": log, "stream": stream, "time": format!("1970-01-01T00:00:{second:02}.5Z") })
        )
    }

    fn text(chunks: &[OutputChunk]) -> String {
        chunks.iter().map(|c| String::from_utf8_lossy(&c.data).into_owned()).collect()
    }

    #[test]
    fn tail_counts_whole_lines_and_passes_what_comes_later() {
        let options = LogOptions { tail: Some(1.0), ..LogOptions::default() };
        let old = line("one\n", "stdout", 1) + &line("tw", "stdout", 2) + &line("o\n", "stdout", 3);
        let mut select = Select::new(&options, None);
        let all = format!("{}\n{old}{}", old.len(), line("three\n", "stdout", 4));
        // In pieces of one byte, as a network may deliver it.
        let out: Vec<_> = all.as_bytes().chunks(1).flat_map(|b| select.feed(b).unwrap()).collect();
        assert_eq!(text(&out), "two\nthree\n");
    }

    #[test]
    fn what_is_too_much_to_keep_is_an_error() {
        // A container that writes no newline; within a minute only if each byte is looked at once.
        let mut select = Select::new(&LogOptions::default(), Some(u64::MAX));
        let piece = vec![b'x'; 64 << 10];
        let fed = (0..).find_map(|i| select.feed(&piece).err().map(|e| (i, e)));
        assert_eq!(fed.map(|(i, e)| (i * piece.len(), e.code())), Some((KEPT, ErrorCode::TooLarge)));
        // As many lines as anybody may ask for.
        let options = LogOptions { tail: Some(f64::from(u32::MAX)), ..LogOptions::default() };
        let mut select = Select::new(&options, Some(u64::MAX));
        let long = line(&"x".repeat(1 << 20), "stdout", 1);
        let fed = (0..).find_map(|i| select.feed(long.as_bytes()).err().map(|e| (i, e)));
        assert_eq!(fed.map(|(i, e)| (i, e.code())), Some((64, ErrorCode::TooLarge)));
        assert!(select.feed(line("x", "stdout", 1).as_bytes()).is_err());
    }

    #[test]
    fn streams_times_and_half_lines() {
        let all = line("out\n", "stdout", 1) + &line("err\n", "stderr", 2) + "{\"log\":\"lo";
        let select = |options: LogOptions| {
            let mut select = Select::new(&options, Some(u64::MAX));
            let mut out = select.feed(all.as_bytes()).unwrap();
            out.extend(select.rest());
            text(&out)
        };
        assert_eq!(select(LogOptions { stdout: false, ..LogOptions::default() }), "err\n");
        assert_eq!(select(LogOptions { since: Some(2.0), ..LogOptions::default() }), "err\n");
        let stamped = select(LogOptions { timestamps: true, stderr: false, ..LogOptions::default() });
        assert_eq!(stamped, "1970-01-01T00:00:01.500000000Z out\n");
    }
}
