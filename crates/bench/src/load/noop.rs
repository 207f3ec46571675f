//! An HTTP route that reads a body and does nothing: the upper bound of load generator and HTTP server on this machine.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use clap::Args;
use tokio::net::TcpListener;

/// Options of the no-op server.
#[derive(Debug, Clone, Args)]
pub struct NoopOptions {
    /// Address to listen on
    #[arg(long)]
    pub listen: SocketAddr,
}

/// A bound no-op server.
pub struct NoopServer {
    listener: TcpListener,
}

impl NoopServer {
    /// Binds the server and returns its address.
    pub async fn bind(address: SocketAddr) -> std::io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((Self { listener }, address))
    }

    /// Serves until the process ends.
    pub async fn serve(self) -> std::io::Result<()> {
        let route = async |body: Bytes| {
            drop(body);
            "{}"
        };
        let router = Router::new().fallback(route).layer(DefaultBodyLimit::disable());
        axum::serve(self.listener, router).await
    }
}
