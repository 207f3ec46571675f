//! The offline random-user API.

use testkit::randomuser::{Options, RandomUserApi};

/// Starts an API with the defaults.
pub(crate) async fn start_api() -> RandomUserApi {
    RandomUserApi::start(Options::default()).await.unwrap()
}
