//! One SSH connection, made when it is needed and made again when it is lost.

use std::{
    path::Path,
    pin::Pin,
    sync::{Arc, OnceLock, Weak},
    task::{Context, Poll},
    time::Duration,
};

use russh::{
    AlgorithmKind, ChannelMsg, Disconnect, Preferred, cipher, client,
    keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate, ssh_key},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::target::SshTarget;
use crate::{
    call,
    error::{Error, ErrorCode, Result},
    mutex, task,
};

pub(super) type Handle = client::Handle<Client>;
pub(super) type Channel = russh::Channel<client::Msg>;

/// The time limit for reaching sshd, logging in and the first command. A guest that builds an image on slow processors was seen
/// to take 18 s; a dead one refuses at once. Half of what most calls have, so that they still tell what is wrong.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A silent guest is probed after this long, and given up after three probes (docs/reference/ssh.md#dead-connections).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// The current connection. Callers that arrive while it is being made wait for it.
#[derive(Default)]
pub(super) struct Link {
    slot: Mutex<Option<Arc<Handle>>>,
    /// Ends the logins that are under way.
    closing: mutex::Mutex<CancellationToken>,
}

impl Link {
    pub(super) async fn get(&self, target: &SshTarget) -> Result<Arc<Handle>, ConnectError> {
        let closing = self.closing.lock().clone();
        closing.run_until_cancelled(self.get_open(target)).await.unwrap_or_else(|| {
            Err(Error::new(ErrorCode::VmNotRunning, "The connection to the guest was closed").into())
        })
    }

    async fn get_open(&self, target: &SshTarget) -> Result<Arc<Handle>, ConnectError> {
        // Who waits longer waits for one who fails, and would fail after him.
        let Ok(mut slot) = tokio::time::timeout(CONNECT_TIMEOUT, self.slot.lock()).await else {
            return Err(silent(target).into());
        };
        if let Some(handle) = slot.as_ref().filter(|h| !h.is_closed()) {
            return Ok(handle.clone());
        }
        *slot = None;
        let handle = Arc::new(connect(target).await?);
        *slot = Some(handle.clone());
        Ok(handle)
    }

    pub(super) fn is_up(&self) -> bool {
        // The lock is taken while somebody connects.
        self.slot.try_lock().map_or(true, |slot| slot.as_ref().is_some_and(|h| !h.is_closed()))
    }

    /// Stops giving out `dead`; a newer connection stays.
    pub(super) async fn forget(&self, dead: &Arc<Handle>) {
        let mut slot = self.slot.lock().await;
        if slot.as_ref().is_some_and(|h| Arc::ptr_eq(h, dead)) {
            *slot = None;
        }
    }

    /// Ends the logins that are under way, with an error for who waits.
    pub(super) fn cancel(&self) {
        std::mem::take(&mut *self.closing.lock()).cancel();
    }

    pub(super) async fn close(&self) {
        let handle = self.slot.lock().await.take();
        if let Some(handle) = handle {
            _ = handle.disconnect(Disconnect::ByApplication, "", "").await;
        }
    }
}

/// Connections for streams, one for each socket and each command that may print for long: on a shared one, a stream that nobody
/// reads would stall the others (docs/reference/ssh.md#one-unread-channel).
pub(super) struct Streams {
    /// Those that carry none now.
    idle: mutex::Mutex<Vec<Arc<Handle>>>,
    /// Rings when there is one more of them.
    freed: Notify,
    /// Those of sockets.
    used: mutex::Mutex<Vec<Weak<Handle>>>,
    /// Turns to log in. Sockets have their own: calls wait for them.
    for_sessions: Arc<Semaphore>,
    for_sockets: Arc<Semaphore>,
    /// When the last of them was let in.
    let_in: mutex::Mutex<Option<Instant>>,
}

/// So many wait for the next streams; to log in anew takes longer than to open one.
const MAX_IDLE: usize = 4;
/// More at once only make each take longer, on a slow guest until none comes in time (docs/reference/ssh.md#logins).
const MAX_LOGINS: usize = 3;
const MAX_SOCKET_LOGINS: usize = 2;

impl Default for Streams {
    fn default() -> Self {
        Self {
            idle: mutex::Mutex::default(),
            freed: Notify::new(),
            used: mutex::Mutex::default(),
            for_sessions: Arc::new(Semaphore::new(MAX_LOGINS)),
            for_sockets: Arc::new(Semaphore::new(MAX_SOCKET_LOGINS)),
            let_in: mutex::Mutex::default(),
        }
    }
}

impl Streams {
    /// A connection that carries nothing, and whether it is new.
    async fn take(self: &Arc<Self>, target: &SshTarget, turns: &Arc<Semaphore>) -> Result<(Arc<Handle>, bool)> {
        let since = Instant::now();
        loop {
            // Before the look, so that it hears of what is freed after it.
            let freed = self.freed.notified();
            if let Some(handle) = self.free() {
                return Ok((handle, false));
            }
            let turn = tokio::select! {
                biased;
                // First: those who failed give their turns away at the same moment.
                () = self.nobody_let_in(since) => return Err(silent(target)),
                () = freed => continue,
                turn = turns.clone().acquire_owned() => turn.ok(),
            };
            return match self.free() {
                Some(handle) => Ok((handle, false)),
                None => Ok((self.log_in(target, turn).await?, true)),
            };
        }
    }

    fn free(&self) -> Option<Arc<Handle>> {
        let mut idle = self.idle.lock();
        idle.retain(|handle| !handle.is_closed());
        idle.pop()
    }

    /// Goes on when its caller has left: begun anew for each who comes, no login would ever end on a slow guest.
    async fn log_in(self: &Arc<Self>, target: &SshTarget, turn: Option<OwnedSemaphorePermit>) -> Result<Arc<Handle>> {
        let (done, made) = oneshot::channel();
        let (this, target) = (self.clone(), target.clone());
        task::spawn(async move {
            let made = connect(&target).await.map(Arc::new);
            if made.is_ok() {
                *this.let_in.lock() = Some(Instant::now());
            }
            drop(turn);
            if let Err(Ok(handle)) = done.send(made) {
                this.keep(handle);
            }
        });
        made.await.unwrap_or_else(|_| Err(Error::internal("the task that logs in is gone").into())).map_err(Error::from)
    }

    /// Resolves when none of those who wait was let in for as long as one login may take: the guest does not answer.
    async fn nobody_let_in(&self, since: Instant) {
        let mut since = since;
        loop {
            tokio::time::sleep_until(since + CONNECT_TIMEOUT).await;
            match *self.let_in.lock() {
                Some(last) if last > since => since = last,
                _ => return,
            }
        }
    }

    /// A session with `line` running in it, unless the caller is `gone` before it is asked for.
    pub(super) async fn session(
        self: &Arc<Self>,
        target: &SshTarget,
        line: &[u8],
        gone: &CancellationToken,
    ) -> Result<(Arc<Handle>, Channel)> {
        loop {
            let (handle, is_new) = tokio::select! {
                taken = self.take(target, &self.for_sessions) => taken?,
                () = gone.cancelled() => return Err(call::aborted()),
            };
            match handle.channel_open_session().await {
                Ok(channel) => {
                    channel.exec(true, line).await.map_err(lost)?;
                    return Ok((handle, channel));
                }
                Err(e) if is_new => return Err(lost(e)),
                // It was lost, unnoticed until now, or has sessions that do not end.
                Err(_) => {}
            }
        }
    }

    /// A socket of the guest.
    pub(super) async fn socket(self: &Arc<Self>, target: &SshTarget, path: &str) -> Result<SocketStream> {
        loop {
            let (handle, is_new) = self.take(target, &self.for_sockets).await?;
            match handle.channel_open_direct_streamlocal(path).await {
                Ok(channel) => return Ok(SocketStream::new(channel, handle, self.clone())),
                Err(russh::Error::ChannelOpenFailure(reason)) => {
                    self.keep(handle);
                    let text = format!("The guest cannot open {path}: {reason:?}");
                    return Err(Error::new(ErrorCode::ContainerdNotReady, text).detail("path", path));
                }
                Err(e) if is_new => return Err(lost(e)),
                // It was lost, unnoticed until now.
                Err(_) => {}
            }
        }
    }

    /// For the next stream.
    pub(super) fn keep(&self, handle: Arc<Handle>) {
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE && !handle.is_closed() {
            idle.push(handle);
            self.freed.notify_one();
        }
    }

    fn note(&self, handle: &Arc<Handle>) {
        let mut used = self.used.lock();
        used.retain(|known| known.strong_count() > 0);
        used.push(Arc::downgrade(handle));
    }

    fn all(&self) -> Vec<Arc<Handle>> {
        self.used.lock().iter().filter_map(Weak::upgrade).chain(self.idle.lock().iter().cloned()).collect()
    }

    pub(super) fn is_up(&self) -> bool {
        self.all().iter().any(|handle| !handle.is_closed())
    }

    pub(super) fn close(&self) {
        for handle in self.all() {
            // One that is stalled takes no message before its socket goes.
            task::spawn(async move { handle.disconnect(Disconnect::ByApplication, "", "").await });
        }
        self.idle.lock().clear();
    }
}

/// Why no connection was made.
pub(super) enum ConnectError {
    /// No other program would get one either.
    Final(Error),
    /// The library does not support what this guest or its key needs; the ssh program may.
    Unsupported(Error),
}

impl From<ConnectError> for Error {
    fn from(refusal: ConnectError) -> Self {
        match refusal {
            ConnectError::Final(e) | ConnectError::Unsupported(e) => e,
        }
    }
}

impl From<Error> for ConnectError {
    fn from(e: Error) -> Self {
        ConnectError::Final(e)
    }
}

pub(super) struct Client {
    pinned: PublicKey,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        Ok(self.pinned.key_data() == key.key_data())
    }
}

fn config() -> Arc<client::Config> {
    static CONFIG: OnceLock<Arc<client::Config>> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            Arc::new(client::Config {
                // Without it each small request waits 40 ms for a delayed acknowledgement (docs/reference/ssh.md#nagle).
                nodelay: true,
                keepalive_interval: Some(KEEPALIVE_INTERVAL),
                keepalive_max: 3,
                preferred: Preferred {
                    // AES-GCM is fastest; the library's default list does not offer it (docs/reference/ssh.md#ciphers).
                    cipher: vec![cipher::AES_128_GCM, cipher::AES_256_GCM, cipher::CHACHA20_POLY1305].into(),
                    // Only one kind, so that the server always offers the pinned key. Every current sshd supports it.
                    key: vec![Algorithm::Ed25519].into(),
                    ..Preferred::default()
                },
                ..client::Config::default()
            })
        })
        .clone()
}

pub(super) async fn connect(target: &SshTarget) -> Result<Handle, ConnectError> {
    tokio::time::timeout(CONNECT_TIMEOUT, log_in(target)).await.unwrap_or_else(|_| Err(silent(target).into()))
}

fn silent(target: &SshTarget) -> Error {
    let text = format!("The guest's SSH server did not answer within {} s", CONNECT_TIMEOUT.as_secs());
    Error::new(ErrorCode::VmNotRunning, text).detail("sshPort", target.port)
}

async fn log_in(target: &SshTarget) -> Result<Handle, ConnectError> {
    let identity = read(&target.identity, "reading").await?.unwrap_or_default();
    let identity = key(&identity).map_err(|e| {
        let text = format!("{} is no usable SSH key: {e}", target.identity.display());
        ConnectError::Unsupported(Error::new(ErrorCode::VmBroken, text).source(e))
    })?;
    let Some(pinned) = read(&target.pin, "reading").await? else {
        let text = "The host key of the VM is not known: it was not started by us";
        return Err(Error::new(ErrorCode::VmNotRunning, text).hint("Restart the VM.").into());
    };
    let pinned = PublicKey::from_openssh(pinned.trim()).map_err(|e| {
        let text = format!("{} does not hold a host key: {e}", target.pin.display());
        Error::new(ErrorCode::VmBroken, text).source(e).hint("Restart the VM.")
    })?;
    let mut handle = match client::connect(config(), (target.host, target.port), Client { pinned }).await {
        Ok(handle) => handle,
        Err(e) => return Err(connect_error(target, e)),
    };
    let key = PrivateKeyWithHashAlg::new(Arc::new(identity), None);
    if !handle.authenticate_publickey(&target.user, key).await.map_err(|e| unreachable(target, e))?.success() {
        let text = format!("The guest does not let the user {} in", target.user);
        let e = Error::new(ErrorCode::VmBroken, text).hint("The VM's SSH settings were changed. Recreate the VM.");
        return Err(ConnectError::Unsupported(e));
    }
    warm_up(&handle).await?;
    Ok(handle)
}

/// Proves that commands run, and makes sshd turn Nagle's algorithm off, which it does only with a connection's first
/// command (docs/reference/ssh.md#nagle).
async fn warm_up(handle: &Handle) -> Result<()> {
    let mut channel = handle.channel_open_session().await.map_err(lost)?;
    channel.exec(true, "true").await.map_err(lost)?;
    let mut ran = false;
    while let Some(message) = channel.wait().await {
        ran |= matches!(message, ChannelMsg::ExitStatus { exit_status: 0 });
    }
    _ = channel.close().await;
    if ran { Ok(()) } else { Err(Error::new(ErrorCode::VmNotRunning, "The guest lets us in but runs no commands")) }
}

/// `None` when there is no such file.
async fn read(path: &Path, doing: &str) -> Result<Option<String>> {
    match tokio::fs::read_to_string(path).await {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(e, doing, path)),
    }
}

/// A key without a passphrase, as ssh-keygen writes it for Lima (docs/reference/ssh.md#formats-of-keys). Other formats are
/// left to the ssh program.
fn key(text: &str) -> Result<PrivateKey, ssh_key::Error> {
    let key = PrivateKey::from_openssh(text)?;
    if key.is_encrypted() { Err(ssh_key::Error::Encrypted) } else { Ok(key) }
}

/// The error for a server at the VM's port that has not yet proved to be our VM. Its answer may come from somebody else, so
/// it leads to the ssh program for one reason only: that program may know a cipher we do not.
fn connect_error(target: &SshTarget, e: russh::Error) -> ConnectError {
    use russh::Error::{NoCommonAlgo, UnknownKey, WrongServerSig};
    match e {
        // We accept only the kind of host key that our guests have.
        UnknownKey | WrongServerSig | NoCommonAlgo { kind: AlgorithmKind::Key, .. } => {
            let text = format!("The server at port {} is not our VM: its host key is another", target.port);
            let hint = "Another program may have taken the VM's SSH port. Restart the VM.";
            Error::new(ErrorCode::VmNotRunning, text).hint(hint).detail("sshPort", target.port).into()
        }
        // Without quoting the server, whose text may be of any length.
        NoCommonAlgo { kind, .. } => {
            let text = format!("The server at port {} knows no {kind:?} algorithm that we know", target.port);
            ConnectError::Unsupported(Error::new(ErrorCode::VmNotRunning, text).detail("sshPort", target.port))
        }
        e => unreachable(target, e).into(),
    }
}

fn unreachable(target: &SshTarget, e: russh::Error) -> Error {
    let text = format!("The guest's SSH server at port {} does not answer: {e}", target.port);
    Error::new(ErrorCode::VmNotRunning, text).source(e).detail("sshPort", target.port)
}

/// The connection was lost, perhaps unnoticed until now.
pub(super) fn lost(e: russh::Error) -> Error {
    Error::new(ErrorCode::VmNotRunning, format!("The connection to the guest was lost: {e}")).source(e)
}

/// A channel as a stream. The library closes the channel in `drop` by spawning a task, so `drop` must run inside the
/// runtime; JavaScript's finalizers do not (docs/reference/ssh.md#closing-a-channel).
pub(super) struct SocketStream {
    stream: Option<russh::ChannelStream<client::Msg>>,
    /// Carries this socket alone.
    connection: Option<Arc<Handle>>,
    streams: Arc<Streams>,
    runtime: tokio::runtime::Handle,
}

impl SocketStream {
    fn new(channel: Channel, connection: Arc<Handle>, streams: Arc<Streams>) -> Self {
        streams.note(&connection);
        let runtime = tokio::runtime::Handle::current();
        Self { stream: Some(channel.into_stream()), connection: Some(connection), streams, runtime }
    }

    fn get(self: Pin<&mut Self>) -> Pin<&mut russh::ChannelStream<client::Msg>> {
        // Only `drop()` takes it.
        Pin::new(self.get_mut().stream.as_mut().expect("present until dropped"))
    }
}

impl Drop for SocketStream {
    fn drop(&mut self) {
        let _runtime = self.runtime.enter();
        self.stream = None;
        if let Some(connection) = self.connection.take() {
            self.streams.keep(connection);
        }
    }
}

impl AsyncRead for SocketStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        self.get().poll_read(cx, buf)
    }
}

impl AsyncWrite for SocketStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.get().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.get().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.get().poll_shutdown(cx)
    }
}
