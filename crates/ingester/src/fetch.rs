//! Fetches pages of users from the random-user API within its rate limit.

pub mod circuit_breaker;
pub mod fetch_loop;
pub mod page_slots;
pub mod rate_window;
mod request_limiter;
pub mod retrying_fetcher;
pub mod user_api;
