#!/usr/bin/env bash
# Checks the contract in proto-schema/: its style, and its compatibility with the contract of the previous commit,
# where that had one. Needs npx (Node.js); AFFLUENT_SKIP_BUF=1 goes on without it.
set -euo pipefail

readonly BUF="@bufbuild/buf@1.75.0"
readonly BASE="HEAD~1"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if ! command -v npx >/dev/null; then
  if [[ "${AFFLUENT_SKIP_BUF:-}" == 1 ]]; then
    echo "proto-check: SKIPPED, npx is not installed and AFFLUENT_SKIP_BUF=1" >&2
    exit 0
  fi
  echo "proto-check: npx is not installed, so the contract cannot be checked." >&2
  echo "Install Node.js (Debian: apt-get install npm), or set AFFLUENT_SKIP_BUF=1 to go on without." >&2
  exit 1
fi

buf() { npx --yes "$BUF" "$@"; }

buf lint proto-schema
echo "proto-check: lint is clean"

# The base is HEAD~1 rather than HEAD, so that a commit is judged as well as what is not committed yet.
if git cat-file -e "$BASE:proto-schema/buf.yaml" 2>/dev/null; then
  buf breaking proto-schema --against ".git#ref=$BASE,subdir=proto-schema"
  echo "proto-check: nothing breaks against $BASE"
else
  echo "proto-check: $BASE holds no contract to compare with"
fi
