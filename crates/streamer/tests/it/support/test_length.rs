//! Test length: short by default, full with `scripts/test --full`.

/// Returns whether `AFFLUENT_TEST_FULL` is set.
pub(crate) fn is_full() -> bool {
    testkit::workspace::is_full_test_run()
}
