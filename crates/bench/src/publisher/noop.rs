//! A no-op HTTP route: the upper bound for a load generator and an HTTP server on this machine.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use clap::Args;
use tokio::net::TcpListener;

/// Options of the no-op route.
#[derive(Debug, Clone, Args)]
pub struct NoopCommand {
    /// The address
    #[arg(long)]
    pub listen: SocketAddr,
}

/// A bound no-op route.
pub struct Noop {
    listener: TcpListener,
}

impl Noop {
    /// Binds the address. Returns the bound address.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub async fn bind(address: SocketAddr) -> std::io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((Self { listener }, address))
    }

    /// Serves forever.
    ///
    /// # Errors
    /// When accepting connections fails.
    pub async fn serve(self) -> std::io::Result<()> {
        let route = async |body: Bytes| {
            drop(body);
            "{}"
        };
        let router = Router::new().fallback(route).layer(DefaultBodyLimit::disable());
        axum::serve(self.listener, router).await
    }
}

impl NoopCommand {
    /// Serves until the process is killed.
    ///
    /// # Errors
    /// When the address can't be bound or accepting connections fails.
    pub async fn run(&self) -> std::io::Result<()> {
        let (noop, _) = Noop::bind(self.listen).await?;
        noop.serve().await
    }
}
