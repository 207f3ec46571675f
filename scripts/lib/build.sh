# shellcheck shell=bash
# Builds the packages that a script runs, and shows the progress. Sourced by the scripts. AFFLUENT_BINARIES is a folder of
# binaries to run instead of building them. testkit uses the folder above as the target folder, for servers and logs.

# Builds the given packages and sets `bin` to the folder of their binaries.
# build ROOT PACKAGE...
build() {
  local root=$1 package packages=()
  shift
  for package in "$@"; do
    packages+=(--package "$package")
  done
  # shellcheck disable=SC2034 # read by the scripts that source this file
  bin="${AFFLUENT_BINARIES:-${CARGO_TARGET_DIR:-$root/target}/release}"
  [ -z "${AFFLUENT_BINARIES:-}" ] || return 0
  # Cargo's progress bar counts the crates. Without a terminal it is off by default.
  [ -t 2 ] || export CARGO_TERM_PROGRESS_WHEN=always CARGO_TERM_PROGRESS_WIDTH=80
  cargo build --release --locked "${packages[@]}" --manifest-path "$root/Cargo.toml"
}
