# shellcheck shell=bash
# Builds what the scripts run, when its sources have changed, and says where it is. Sourced by the scripts.

# Sets `testbed` to the path of the built binary. The argument is the repository's root.
build_testbed() {
  build "$1" --package testbed
}

# The same, and the three services beside it.
build_binaries() {
  build "$1" --workspace --bins
}

build() {
  local root=$1
  shift
  testbed="${CARGO_TARGET_DIR:-$root/target}/release/testbed"
  if [ ! -x "$testbed" ]; then
    echo "building; the first build takes a few minutes" >&2
  fi
  cargo build --release --locked --quiet "$@" --manifest-path "$root/Cargo.toml"
}
