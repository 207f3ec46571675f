# shellcheck shell=bash
# Builds the packages that a script runs, and shows the progress. Sourced by the scripts.

# Builds the given packages and sets `bin` to the folder of their binaries.
# build ROOT PACKAGE...
build() {
  local root=$1 package packages=()
  shift
  for package in "$@"; do
    packages+=(--package "$package")
  done
  # shellcheck disable=SC2034 # read by the scripts that source this file
  bin="${CARGO_TARGET_DIR:-$root/target}/release"
  # Cargo's progress bar counts the crates. Without a terminal it is off by default.
  [ -t 2 ] || export CARGO_TERM_PROGRESS_WHEN=always CARGO_TERM_PROGRESS_WIDTH=80
  cargo build --release --locked "${packages[@]}" --manifest-path "$root/Cargo.toml"
}
