# shellcheck shell=bash
# Builds the testbed's binary when its sources have changed and says where it is. Sourced by the scripts.

# Sets `testbed` to the path of the built binary. The argument is the repository's root.
build_testbed() {
  testbed="${CARGO_TARGET_DIR:-$1/target}/release/testbed"
  if [ ! -x "$testbed" ]; then
    echo "building the testbed; the first build takes a few minutes" >&2
  fi
  cargo build --release --quiet --package testbed --manifest-path "$1/Cargo.toml"
}
