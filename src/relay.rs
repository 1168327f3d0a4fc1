//! Joins what connects to a socket of this computer with one that is somewhere else.

use std::{io, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};

use crate::{error::Result, guest::Socket, task};

/// Takes connections until it is dropped; those it has taken go on to their ends. One for which `connect` finds no other end
/// is closed. `name` is for the log.
pub(crate) async fn serve<S, A, C>(name: &'static str, accept: impl Fn() -> A, connect: impl Fn() -> C)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Future<Output = io::Result<S>>,
    C: Future<Output = Result<Socket>> + Send + 'static,
{
    loop {
        match accept().await {
            Ok(mut stream) => {
                let connecting = connect();
                task::spawn(async move {
                    match connecting.await {
                        Ok(mut other) => _ = copy_bidirectional(&mut stream, &mut other).await,
                        Err(e) => tracing::debug!(%e, "nobody answers behind {name}"),
                    }
                });
            }
            Err(e) => {
                // Too many files are open: each connection that ends makes room.
                tracing::warn!(%e, "{name} takes no connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
