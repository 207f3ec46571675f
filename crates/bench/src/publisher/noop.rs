//! A route that reads a body and does nothing with it: what a load generator and an HTTP server can do on this machine
//! at most.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use clap::Args;
use tokio::net::TcpListener;

/// Where the no-op route listens.
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
    /// Binds it; tells where it listens.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn bind(address: SocketAddr) -> std::io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((Self { listener }, address))
    }

    /// Answers for ever.
    ///
    /// # Errors
    /// When accepting fails for good.
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
    /// Answers until it is killed.
    ///
    /// # Errors
    /// When the address can't be had, or accepting fails for good.
    pub async fn run(&self) -> std::io::Result<()> {
        let (noop, _) = Noop::bind(self.listen).await?;
        noop.serve().await
    }
}
