//! One file into the cache: resumed, checked, and unpacked while it arrives.
//!
//! Three parties, joined by bounded channels: the caller's future reads the network, a thread hashes and writes the
//! file, and for an archive a second thread unpacks. The file is kept while it grows, so that whatever ends this
//! process, the next one goes on from there. When the future is dropped, the threads notice, tidy up and end; they
//! hold the lock until then.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::mpsc::{SyncSender, sync_channel},
    thread::JoinHandle,
};

use bytes::Bytes;
use futures_util::future::join_all;
use reqwest::header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    digest::Digest,
    disk,
    http::{self, FailedAttempt, Http, download_failed, shown},
    lock::Lock,
    manifest::{Origin, Source, Wanted, file_name},
    pieces::Pieces,
    progress::Share,
    record::FileRecord,
    retry::{Answer, Ended, answer},
    unpack,
};
use crate::{
    call,
    error::{Error, ErrorCode, Result},
    progress::Phase,
};

/// Pieces under way between two threads. A piece is what the connection gave at once, up to some 400 KiB.
const QUEUE: usize = 8;
/// An archive's contents are about so many times its size; for the check of the disk, before anyone knows.
const UNPACKED: u64 = 4;

/// What to fetch, and where to.
pub struct Job<'a> {
    pub http: &'a Http,
    pub origin: &'a Origin,
    pub wanted: &'a Wanted,
    /// One directory for each digest lies in it.
    pub cache: &'a Path,
    /// Unpack into a temporary directory in here.
    pub unpack_in: Option<&'a Path>,
    pub share: Share,
    /// Held until the last thread has ended.
    pub lock: Lock,
}

#[derive(Debug)]
pub struct Fetched {
    /// Where it came from, or was when it came.
    pub source: String,
    pub sha256: Digest,
    pub size: u64,
    /// In the cache.
    pub file: PathBuf,
    pub unpacked: Option<Unpacked>,
}

/// Removed again when dropped, unless it has been moved to its place.
#[derive(Debug)]
pub struct Unpacked {
    pub dir: TempDir,
    pub files: Vec<FileRecord>,
}

/// The cache's file of this digest.
pub fn cached(cache: &Path, sha256: &Digest, name: &str) -> PathBuf {
    cache.join(sha256.as_str()).join(name)
}

/// Fetches all at once. When one fails, the others stop and keep the bytes they have. Their threads have ended when this
/// returns.
pub async fn fetch_all(jobs: &[Job<'_>]) -> Result<Vec<Fetched>> {
    let stop = CancellationToken::new();
    let results = join_all(jobs.iter().map(async |job| {
        let result = fetch(job, &stop).await;
        if result.is_err() {
            stop.cancel();
        }
        result
    }));
    let stopped = |r: &Result<_>| r.as_ref().is_err_and(|e: &Error| e.code() == ErrorCode::Aborted);
    // What failed comes first: the others were only stopped by it.
    let (stopped, ended): (Vec<_>, Vec<_>) = results.await.into_iter().partition(stopped);
    ended.into_iter().chain(stopped).collect()
}

/// From the cache, or from the first source that has it.
async fn fetch(job: &Job<'_>, stop: &CancellationToken) -> Result<Fetched> {
    for source in &job.wanted.sources {
        if let Some(fetched) = from_cache(job, source).await? {
            return Ok(fetched);
        }
    }
    let mut worst: Option<Error> = None;
    for source in &job.wanted.sources {
        let url = job.origin.rewrite(&source.url);
        match download(job, source, &url, stop).await {
            Ok(fetched) => return Ok(fetched),
            // Only what lies with the source is a reason to try another one.
            Err(e) if matches!(e.code(), ErrorCode::DownloadFailed | ErrorCode::ChecksumMismatch) => {
                tracing::warn!(error = %e, "source failed");
                // Wrong bytes are the worse news, whatever the other sources say.
                let keep = worst
                    .as_ref()
                    .is_none_or(|w| w.code() == ErrorCode::DownloadFailed && e.code() == ErrorCode::ChecksumMismatch);
                if keep {
                    worst = Some(e);
                }
            }
            Err(e) => return Err(e),
        }
    }
    Err(worst.unwrap_or_else(|| Error::internal("a manifest entry without sources")))
}

async fn unless_stopped<T>(stop: &CancellationToken, work: impl Future<Output = Result<T>>) -> Result<T> {
    stop.run_until_cancelled(work).await.unwrap_or_else(|| Err(call::aborted()))
}

async fn from_cache(job: &Job<'_>, source: &Source) -> Result<Option<Fetched>> {
    let sha256 = &source.sha256;
    let Some(name) = file_name(&source.url) else { return Ok(None) };
    let file = cached(job.cache, sha256, name);
    let Ok(meta) = fs::metadata(&file) else { return Ok(None) };
    job.share.say(Phase::Verify, format!("Checking {} in the cache", job.wanted.part.title()));
    job.share.total(meta.len());
    let intake = Intake::start(Target {
        file: file.clone(),
        complete: file.clone(),
        sha256: sha256.clone(),
        unpack_in: job.unpack_in.map(Path::to_owned),
        lock: job.lock.clone(),
    });
    match intake.finish().await {
        Ok(Taken { size, unpacked }) => {
            job.share.at(size);
            let source = shown(&source.url);
            Ok(Some(Fetched { source, sha256: sha256.clone(), size, file, unpacked }))
        }
        // Rotten on the disk; it has been removed.
        Err(e) if e.code() == ErrorCode::ChecksumMismatch => Ok(None),
        Err(e) => Err(e),
    }
}

async fn download(job: &Job<'_>, source: &Source, url: &Url, stop: &CancellationToken) -> Result<Fetched> {
    let name = file_name(&source.url).unwrap_or_default();
    let complete = cached(job.cache, &source.sha256, name);
    let mut transfer = Transfer {
        job,
        source,
        url,
        part: complete.with_file_name(format!("{name}.part")),
        note: complete.with_file_name(format!("{name}.part.json")),
        complete,
        have: 0,
        resumed: false,
        checked: false,
        intake: None,
    };
    match transfer.run(stop).await {
        // The first bytes came in an earlier run: they may be of another file, or damaged on the disk.
        Err(e) if e.code() == ErrorCode::ChecksumMismatch && transfer.resumed => transfer.run(stop).await,
        done => done,
    }
}

/// What a later process must know to go on.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Note {
    url: String,
    etag: Option<String>,
    last_modified: Option<String>,
    total: Option<u64>,
}

impl Note {
    /// What `If-Range` takes: a weak ETag does not promise the same bytes.
    fn validator(&self) -> Option<&str> {
        self.etag.as_deref().filter(|e| e.starts_with('"')).or(self.last_modified.as_deref())
    }
}

struct Transfer<'a> {
    job: &'a Job<'a>,
    source: &'a Source,
    url: &'a Url,
    part: PathBuf,
    note: PathBuf,
    complete: PathBuf,
    /// Bytes on the disk or on their way to it.
    have: u64,
    /// Some of them are from before this run.
    resumed: bool,
    /// The free space was compared with what is still to come.
    checked: bool,
    /// Made with the first byte, so that a source that sends none leaves no file.
    intake: Option<Intake>,
}

/// Why a request ended before the last byte.
enum Interrupted {
    Failed(FailedAttempt),
    /// The other end of the channel has gone: its thread knows why.
    Gone,
    Final(Error),
}

impl From<FailedAttempt> for Interrupted {
    fn from(failed: FailedAttempt) -> Self {
        Self::Failed(failed)
    }
}

impl Transfer<'_> {
    async fn run(&mut self, stop: &CancellationToken) -> Result<Fetched> {
        self.have = fs::metadata(&self.part).map_or(0, |m| m.len());
        let note: Note = disk::read_json(&self.note).unwrap_or_default();
        let total = self.source.size.or(note.total);
        if self.have > total.unwrap_or(self.job.wanted.most(self.source)) {
            disk::remove(&self.part)?;
            self.have = 0;
        }
        self.resumed = self.have > 0;
        self.job.share.at(self.have);
        if let Some(total) = total {
            self.expect(total)?;
        }
        if self.resumed {
            // What is there is read while the connection is made.
            self.intake();
        }
        if let Err(e) = unless_stopped(stop, self.requests(total)).await {
            if let Some(intake) = self.intake.take() {
                intake.stop().await;
            }
            return Err(e);
        }
        self.intake();
        let intake = self.intake.take().expect("it was just made");
        let Taken { size, unpacked } = intake.finish().await.map_err(|e| e.detail("url", shown(self.url)))?;
        disk::remove(&self.note)?;
        self.job.share.finished(size);
        let sha256 = self.source.sha256.clone();
        Ok(Fetched { source: shown(self.url), sha256, size, file: self.complete.clone(), unpacked })
    }

    fn intake(&mut self) -> &Intake {
        self.intake.get_or_insert_with(|| {
            Intake::start(Target {
                file: self.part.clone(),
                complete: self.complete.clone(),
                sha256: self.source.sha256.clone(),
                unpack_in: self.job.unpack_in.map(Path::to_owned),
                lock: self.job.lock.clone(),
            })
        })
    }

    /// One after the other, until the last byte is there.
    async fn requests(&mut self, total: Option<u64>) -> Result<()> {
        let mut failures = 0;
        // A process that died behind the last byte left nothing to ask for.
        while self.have == 0 || Some(self.have) != total {
            let before = self.have;
            match self.attempt().await {
                Ok(()) | Err(Interrupted::Gone) => break,
                Err(Interrupted::Final(e)) => return Err(e),
                Err(Interrupted::Failed(failed)) => {
                    failures = if self.have > before { 0 } else { failures + 1 };
                    self.job.http.pause(failed, failures).await?;
                }
            }
        }
        Ok(())
    }

    /// Beside this future: it waits for the disk, and an abort must not.
    async fn write_note(&self, note: Note) -> Result<()> {
        let path = self.note.clone();
        let write = move || {
            if let Some(dir) = path.parent() {
                disk::create_dir(dir)?;
            }
            disk::write_json(&path, &note)
        };
        self.job.lock.blocking(write).await
    }

    /// The file's length is known: tells the progress, and compares the free space with what is still to come.
    fn expect(&mut self, total: u64) -> Result<()> {
        self.job.share.total(total);
        // Once: what is unpacked later is then no longer missing.
        if std::mem::replace(&mut self.checked, true) {
            return Ok(());
        }
        let unpacked = if self.job.unpack_in.is_some() { total.saturating_mul(UNPACKED) } else { 0 };
        let ours = total.saturating_sub(self.have).saturating_add(unpacked);
        disk::check_space(self.job.cache, ours.saturating_add(self.job.share.others_lack()))
    }

    /// One request, to the end of its body.
    async fn attempt(&mut self) -> Result<(), Interrupted> {
        let note: Note = disk::read_json(&self.note).unwrap_or_default();
        let mut headers = HeaderMap::new();
        if self.have > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.have));
            headers.insert(RANGE, range.map_err(|e| Interrupted::Final(Error::internal(e.to_string())))?);
            // Another address of the same digest has the same bytes: the digest will tell, if not.
            let validator = (note.url == shown(self.url)).then(|| note.validator()).flatten();
            if let Some(Ok(value)) = validator.map(HeaderValue::from_str) {
                headers.insert(IF_RANGE, value);
            }
        }
        let mut response = self.job.http.get(self.url, headers).await?;
        let total = match answer(http::head(&response), self.have) {
            Answer::Continue { total } if note.total.is_none() || total.is_none() || total == note.total => total,
            // Another file under the old name.
            Answer::Continue { .. } | Answer::AskWithoutRange => {
                drop(response);
                self.restart().await?;
                return Box::pin(self.attempt()).await;
            }
            Answer::FromStart { total } => {
                if self.have > 0 {
                    self.restart().await?;
                }
                // A length that cannot be is not remembered: the next process would make room for it.
                self.possible(total)?;
                let text =
                    |name: HeaderName| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
                let note = Note { url: shown(self.url), etag: text(ETAG), last_modified: text(LAST_MODIFIED), total };
                self.write_note(note).await.map_err(Interrupted::Final)?;
                total
            }
            // Its last answer named a length it does not have.
            Answer::Whole => return Ok(()),
            Answer::Ended(Ended::Refused) => {
                let message = format!("{} answered with a part of the file nobody asked for", shown(self.url));
                return Err(FailedAttempt { ended: Ended::Refused, error: download_failed(self.url, message) }.into());
            }
            Answer::Ended(_) => return Err(http::refused(self.url, &response).into()),
        };
        self.possible(total)?;
        let most = self.job.wanted.most(self.source);
        let total = self.source.size.or(total);
        if let Some(total) = total {
            self.expect(total).map_err(Interrupted::Final)?;
        }
        while let Some(chunk) = self.job.http.chunk(self.url, &mut response).await? {
            let length = chunk.len() as u64;
            // Not one byte more is taken than the file has, or than any of its kind has.
            if self.have + length > total.unwrap_or(most) {
                return Err(Interrupted::Final(self.wrong_size(self.have + length, total.unwrap_or(most))));
            }
            self.intake().send(Message::Data(chunk)).await?;
            self.have += length;
            self.job.share.received(length);
        }
        match total {
            Some(total) if self.have < total => {
                let message = format!("{} ended after {} of {total} bytes", shown(self.url), self.have);
                Err(FailedAttempt { ended: Ended::Connection, error: download_failed(self.url, message) }.into())
            }
            _ => Ok(()),
        }
    }

    /// Whether the file may have the length that the server says it has.
    fn possible(&self, total: Option<u64>) -> Result<(), Interrupted> {
        let most = self.job.wanted.most(self.source);
        match total.filter(|t| *t > most || self.source.size.is_some_and(|size| size != *t)) {
            Some(actual) => Err(Interrupted::Final(self.wrong_size(actual, most))),
            None => Ok(()),
        }
    }

    fn wrong_size(&self, actual: u64, expected: u64) -> Error {
        let what = shown(self.url);
        let (problem, hint) = if self.source.size.is_some() {
            (format!("should have {expected}"), MISMATCH)
        } else {
            (format!("no more than {expected} are taken"), "Give the source its size in the manifest.")
        };
        Error::new(ErrorCode::ChecksumMismatch, format!("{what} has {actual} bytes, and {problem}"))
            .detail("url", what)
            .detail("expected", expected)
            .detail("actual", actual)
            .hint(hint)
    }

    async fn restart(&mut self) -> Result<(), Interrupted> {
        self.intake().send(Message::Restart).await?;
        self.have = 0;
        self.resumed = false;
        self.job.share.at(0);
        Ok(())
    }
}

const MISMATCH: &str = "Nothing was installed. Try again; if it stays, the manifest or the mirror is wrong.";

/// The network's end of the thread that writes.
struct Intake {
    send: mpsc::Sender<Message>,
    thread: tokio::task::JoinHandle<Result<Taken>>,
}

enum Message {
    Data(Bytes),
    /// Forget what came: the file starts again.
    Restart,
    Finish,
}

struct Target {
    /// Grows; what it holds at first is part of it.
    file: PathBuf,
    /// Where it goes when its digest is right.
    complete: PathBuf,
    sha256: Digest,
    unpack_in: Option<PathBuf>,
    lock: Lock,
}

struct Taken {
    size: u64,
    unpacked: Option<Unpacked>,
}

impl Intake {
    fn start(target: Target) -> Self {
        let (send, receive) = mpsc::channel(QUEUE);
        Self { send, thread: tokio::task::spawn_blocking(move || take(&target, receive)) }
    }

    async fn send(&self, message: Message) -> Result<(), Interrupted> {
        self.send.send(message).await.map_err(|_| Interrupted::Gone)
    }

    /// What came stays for another time. The threads are waited for, so that nothing of theirs is left.
    async fn stop(self) {
        drop(self.send);
        let _ = self.thread.await;
    }

    async fn finish(self) -> Result<Taken> {
        // When the thread has ended before, its result says why.
        let _ = self.send.send(Message::Finish).await;
        match self.thread.await {
            Ok(result) => result,
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(_) => Err(call::aborted()),
        }
    }
}

fn take(target: &Target, receive: mpsc::Receiver<Message>) -> Result<Taken> {
    let result = take_all(target, receive);
    if let Err(e) = &result {
        match e.code() {
            // These bytes are of no use to anyone; and a full disk gets its space back.
            ErrorCode::ChecksumMismatch | ErrorCode::ArchiveUnsafe | ErrorCode::DiskFull => {
                disk::remove(&target.file)?;
                if let Some(dir) = target.file.parent() {
                    disk::remove(dir)?;
                }
            }
            _ => {}
        }
    }
    result
}

fn take_all(target: &Target, mut receive: mpsc::Receiver<Message>) -> Result<Taken> {
    let path = &target.file;
    if let Some(dir) = path.parent() {
        disk::create_dir(dir)?;
    }
    let mut file = disk::open_regular(OpenOptions::new().read(true).write(true).create(true).truncate(false), path)
        .map_err(|e| disk::write_error(e, path, 0))?;
    let mut hasher = Sha256::new();
    let mut size = 0;
    let start = || target.unpack_in.as_deref().map(|dir| Unpacker::start(dir, &target.lock)).transpose();
    let mut unpacker = start()?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let n = file.read(&mut buffer).map_err(|e| Error::io(e, "Cannot read", path))?;
        if n == 0 {
            break;
        }
        if receive.is_closed() {
            return Err(call::aborted());
        }
        hasher.update(&buffer[..n]);
        if let Some(unpacker) = &mut unpacker {
            unpacker.feed(Bytes::copy_from_slice(&buffer[..n]));
        }
        size += n as u64;
    }
    drop(buffer);
    loop {
        match receive.blocking_recv() {
            Some(Message::Data(data)) => {
                file.write_all(&data).map_err(|e| disk::write_error(e, path, data.len() as u64))?;
                hasher.update(&data);
                size += data.len() as u64;
                if let Some(unpacker) = &mut unpacker {
                    unpacker.feed(data);
                }
            }
            Some(Message::Restart) => {
                drop(unpacker);
                file.rewind().and_then(|()| file.set_len(0)).map_err(|e| disk::write_error(e, path, 0))?;
                hasher = Sha256::new();
                size = 0;
                unpacker = start()?;
            }
            Some(Message::Finish) => break,
            None => return Err(call::aborted()),
        }
    }
    let actual = Digest::of(&hasher.finalize());
    if actual != target.sha256 {
        let name = target.complete.file_name().unwrap_or_default().to_string_lossy();
        return Err(Error::new(ErrorCode::ChecksumMismatch, format!("{name} is not the file the manifest names"))
            .detail("expected", target.sha256.as_str())
            .detail("actual", actual.as_str())
            .detail("size", size)
            .hint(MISMATCH));
    }
    let done = unpacker.map(Unpacker::finish).transpose()?;
    if *path != target.complete {
        let commit = || -> io::Result<()> {
            // An archive is unpacked already, and checked again whenever it is used.
            if done.is_none() {
                disk::sync_file(&file)?;
            }
            fs::rename(path, &target.complete)
        };
        commit().map_err(|e| disk::write_error(e, &target.complete, 0))?;
    }
    Ok(Taken { size, unpacked: done })
}

/// A thread that unpacks what it is fed.
struct Unpacker {
    /// `None` ends the stream; a channel closed without it means the rest will not come.
    send: Option<SyncSender<Option<Bytes>>>,
    thread: Option<JoinHandle<Result<Unpacked>>>,
}

impl Unpacker {
    fn start(parent: &Path, lock: &Lock) -> Result<Self> {
        let dir = disk::temp_dir_in(parent)?;
        let (send, receive) = sync_channel(QUEUE);
        let lock = lock.clone();
        let thread = std::thread::Builder::new()
            .name("lima-runtime-unpack".into())
            .spawn(move || {
                let _lock = lock;
                let files = unpack::tar_gz(Pieces::new(|| receive.recv().ok()), dir.path(), unpack::LIMITS)?;
                Ok(Unpacked { dir, files })
            })
            .map_err(|e| Error::internal(format!("Cannot start a thread: {e}")))?;
        Ok(Self { send: Some(send), thread: Some(thread) })
    }

    /// An archive found bad early is still read to its end: one flipped bit is a wrong digest, not a bad archive.
    fn feed(&mut self, piece: Bytes) {
        if self.send.as_ref().is_some_and(|s| s.send(Some(piece)).is_err()) {
            self.send = None;
        }
    }

    fn finish(mut self) -> Result<Unpacked> {
        self.end(true).unwrap_or_else(|| Err(Error::internal("unpacked twice")))
    }

    fn end(&mut self, whole: bool) -> Option<Result<Unpacked>> {
        if let Some(send) = self.send.take().filter(|_| whole) {
            let _ = send.send(None);
        }
        let result = self.thread.take()?.join();
        Some(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

impl Drop for Unpacker {
    fn drop(&mut self) {
        // Waited for, so that its directory is gone when the lock is.
        let _ = self.end(false);
    }
}

/// Removes the cache's files that nobody in `keep` needs; the caller holds the lock.
pub fn prune_cache(cache: &Path, keep: impl Fn(&str) -> bool) -> Result<()> {
    for dir in disk::entries(cache) {
        if dir.file_name().and_then(|n| n.to_str()).is_some_and(|name| !keep(name)) {
            disk::remove(&dir)?;
        }
    }
    Ok(())
}

/// Copies `from`, hashing, to the new file `to`: no more than `most` bytes, whatever lies there by now.
pub fn copy_checked(from: &Path, to: &Path, mode: u32, most: u64) -> Result<(Digest, u64)> {
    let source = disk::open_to_read(from).map_err(|e| Error::io(e, "Cannot read", from))?;
    let mut target =
        OpenOptions::new().write(true).create_new(true).open(to).map_err(|e| disk::write_error(e, to, 0))?;
    let copied = disk::hash(source.take(most), |piece| target.write_all(piece)).and_then(|done| {
        unpack::settle(&target, mode)?;
        disk::sync_file(&target)?;
        Ok(done)
    });
    copied.map_err(|e| disk::write_error(e, to, 0))
}
