//! `ssh://`: the user's own ssh program runs `docker system dial-stdio` on the host, as the docker CLI does it
//! (docs/reference/docker.md#engine-over-ssh), so that their keys, agent, jump hosts and known hosts all count.

/// `ssh://[user@]host[:port][/socket]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshAddress {
    pub user: Option<String>,
    pub host: String,
    pub port: Option<u16>,
    /// Of the engine, on the other machine, where it is not the one that the docker program there takes.
    pub socket: Option<String>,
}

impl SshAddress {
    /// What ssh needs to log in there. `--` ends the options: a host that begins with a dash stays a host.
    #[cfg(any(unix, test))]
    pub(super) fn login(&self) -> Vec<String> {
        let mut args: Vec<String> =
            ["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"].map(str::to_owned).to_vec();
        if let Some(user) = &self.user {
            args.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            args.extend(["-p".to_owned(), port.to_string()]);
        }
        args.extend(["--", self.host.as_str()].map(str::to_owned));
        args
    }

    #[cfg(any(unix, test))]
    fn args(&self) -> Vec<String> {
        let mut args = self.login();
        args.push("docker".to_owned());
        if let Some(socket) = &self.socket {
            args.extend(["--host".to_owned(), word(&format!("unix://{socket}"))]);
        }
        args.extend(["system", "dial-stdio"].map(str::to_owned));
        args
    }
}

/// The shell at the other end reads the command as one text. What means nothing to it stays as the CLI writes it: a host may
/// allow that command alone.
#[cfg(any(unix, test))]
fn word(text: &str) -> String {
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "/:._-+@".contains(c)) {
        text.to_owned()
    } else {
        crate::shell::quoted(text)
    }
}

#[cfg(unix)]
pub(super) use unix::{connect, program};

#[cfg(not(unix))]
pub(super) async fn connect(_: &SshAddress) -> std::io::Result<tokio::io::DuplexStream> {
    Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "ssh:// endpoints are not supported on Windows yet"))
}

#[cfg(unix)]
mod unix {
    use std::{
        io,
        os::fd::OwnedFd,
        pin::Pin,
        process::{Child, Command, Stdio},
        sync::Arc,
        task::{Context, Poll, ready},
    };

    use rustix::process::Pid;
    use tokio::{
        io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
        net::{UnixStream, unix::pipe},
    };

    use super::SshAddress;
    use crate::{env_vars, mutex::Mutex, process, task};

    /// ssh's standard input and output are one socket, so that shutting down our half is the end of its input.
    pub(in super::super) struct SshStream {
        socket: UnixStream,
        child: Arc<Mutex<Child>>,
        errors: tokio::task::JoinHandle<String>,
        /// What `errors` gave, which it gives once.
        why: Option<String>,
        answered: bool,
    }

    pub(in super::super) async fn connect(target: &SshAddress) -> io::Result<SshStream> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        tracing::debug!(what = "ssh", "a program starts");
        let mut child = Command::new(program()?)
            .args(target.args())
            .stdin(OwnedFd::from(theirs.try_clone()?))
            .stdout(OwnedFd::from(theirs))
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("cannot run ssh: {e}")))?;
        let (pid, stderr) = (Pid::from_child(&child), child.stderr.take());
        let child = Arc::new(Mutex::new(child));
        let reaped = child.clone();
        let errors = task::spawn(async move {
            let mut text = Vec::new();
            if let Some(Ok(stderr)) = stderr.map(|pipe| pipe::Receiver::from_owned_fd(pipe.into())) {
                _ = stderr.take(64 * 1024).read_to_end(&mut text).await;
            }
            if process::ended(pid).await.is_ok() {
                let exit = reaped.lock().wait();
                tracing::debug!(what = "ssh", ?exit, "a program ended");
            }
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        Ok(SshStream { socket: UnixStream::from_std(ours)?, child, errors, why: None, answered: false })
    }

    pub(in super::super) fn program() -> io::Result<std::path::PathBuf> {
        let program = env_vars::program("ssh");
        program.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no program ssh"))
    }

    impl Drop for SshStream {
        fn drop(&mut self) {
            // Not when the reaper holds it: the process has ended then.
            if let Some(mut child) = self.child.try_lock() {
                let _ = child.kill();
            }
        }
    }

    impl SshStream {
        /// Before its first byte, ssh's end is no connection: why stands on its standard error. May be asked again.
        fn poll_why(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
            if self.why.is_none() {
                let text = ready!(Pin::new(&mut self.errors).poll(cx)).unwrap_or_default();
                self.why = Some(if text.is_empty() { "ssh ended without a word".to_owned() } else { text });
            }
            Poll::Ready(io::Error::new(io::ErrorKind::ConnectionAborted, self.why.clone().unwrap_or_default()))
        }
    }

    impl AsyncRead for SshStream {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let before = buf.filled().len();
            let outcome = ready!(Pin::new(&mut self.socket).poll_read(cx, buf));
            self.answered |= buf.filled().len() > before;
            // A process that ends without reading its input resets the connection.
            if self.answered { Poll::Ready(outcome) } else { self.poll_why(cx).map(Err) }
        }
    }

    impl AsyncWrite for SshStream {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, buf)) {
                Err(_) if !self.answered => self.poll_why(cx).map(Err),
                outcome => Poll::Ready(outcome),
            }
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.socket).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.socket).poll_shutdown(cx)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_like_a_flag_stays_a_host() {
        let t = SshAddress { user: Some("me".into()), host: "-oProxyCommand=x".into(), port: Some(2222), socket: None };
        let args = t.args();
        let dashes = args.iter().position(|a| a == "--").unwrap();
        assert_eq!(args[dashes + 1], "-oProxyCommand=x");
        assert!(args[..dashes].windows(2).any(|w| w == ["-p", "2222"]));
    }

    #[test]
    fn the_socket_is_one_word_for_the_other_shell() {
        let command = |socket: &str| {
            let target = SshAddress { user: None, host: "h".into(), port: None, socket: Some(socket.into()) };
            target.args().into_iter().skip_while(|a| a != "docker").collect::<Vec<_>>().join(" ")
        };
        assert_eq!(command("/path/docker.sock"), "docker --host unix:///path/docker.sock system dial-stdio");
        assert_eq!(command("/a b/$(x)'.sock"), r"docker --host 'unix:///a b/$(x)'\''.sock' system dial-stdio");
    }
}
