//! Servers, stubs, processes and a browser that the tests share.

pub(crate) mod browser;
pub(crate) mod ingester_process;
pub(crate) mod ingester_service;
pub(crate) mod offline_api;
pub(crate) mod pipeline;
pub(crate) mod publisher_stack;
pub(crate) mod recording_proxy;
pub(crate) mod stub_api;
pub(crate) mod stub_publisher;
pub(crate) mod stub_status;
pub(crate) mod token_file;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;

/// Upper bound for a cold JVM on a busy machine; no test waits for it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// Serves the router on a free port until the test ends. Returns the address.
pub(crate) async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    address
}
