//! How much a test does: all of it where there is time, less in CI.

/// All of it: `CI` is not set, or `AFFLUENT_TEST_FULL` is.
pub(crate) fn is_full() -> bool {
    std::env::var_os("AFFLUENT_TEST_FULL").is_some() || std::env::var_os("CI").is_none()
}
