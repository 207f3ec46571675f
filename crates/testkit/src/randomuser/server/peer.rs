//! The client of a connection, whose connection can end with a reset. Knows nothing of HTTP.

use std::io;
use std::net::{SocketAddr, TcpStream as Socket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::{TcpListener, TcpStream};

/// The client of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(super) address: SocketAddr,
    /// A duplicate of the connection's socket; `None` without a free file descriptor.
    socket: Option<Arc<OwnedFd>>,
}

impl Peer {
    /// Makes the end of the connection a reset.
    pub(super) fn reset_at_end(&self) {
        let reset = || {
            let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
            TcpStream::from_std(Socket::from(socket.try_clone()?))?.set_zero_linger()
        };
        if let Err(error) = reset() {
            tracing::warn!(%error, "failed to reset a connection");
        }
    }
}

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        let socket = stream.io().as_fd().try_clone_to_owned();
        Self {
            address: *stream.remote_addr(),
            socket: socket.ok().map(Arc::new),
        }
    }
}
