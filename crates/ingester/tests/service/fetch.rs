//! Fetching from the API: faults, quirks and versions of its replies.

mod api_faults;
mod api_quirks;
mod api_versions;
mod circuit_breaker;
mod recorded_replies;

use futures::stream::{self, StreamExt as _};
use ingester::config::IngesterSettings;
use ingester::run::report::Report;
use serde_json::Value;

use crate::support::pipeline;
use crate::support::publisher_stack::PublisherStack;
use crate::support::stub_api::{Reply, StubApi};

/// Performs the checks of a test with many faults, four at once. With more, a busy machine would exceed the short request
/// timeout.
async fn perform(checks: impl IntoIterator<Item = impl Future<Output = ()>>) {
    stream::iter(checks).buffer_unordered(4).collect::<()>().await;
}

/// Executes a run with scripted replies. Returns its report, the delivered records and the queries.
async fn run_over(
    replies: Vec<Reply>,
    change: impl FnOnce(&mut IngesterSettings),
) -> (Report, Vec<Value>, Vec<String>) {
    let (api, stack) = (StubApi::start(replies).await, PublisherStack::shared().await);
    let mut settings = pipeline::settings_of(&api.url(), &stack.url());
    change(&mut settings);
    let report = pipeline::run(&settings).await;
    let delivered = stack.records_of(report.run).await;
    (report, delivered, api.queries())
}

/// Returns a change to this number of users.
fn only(users: u64) -> impl FnOnce(&mut IngesterSettings) {
    move |settings| settings.run.users = users
}
