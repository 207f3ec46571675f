//! How much a test does: shortened in the gate, all of it in `scripts/test --full`.

/// Whether `AFFLUENT_TEST_FULL` is set.
pub(crate) fn is_full() -> bool {
    std::env::var_os("AFFLUENT_TEST_FULL").is_some()
}
