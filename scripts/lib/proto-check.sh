#!/usr/bin/env bash
# Lints the contracts in proto-schema/ and examples/, and rejects changes of proto-schema/ that break the merge base with
# main or the last release tag.
# Needs npx (Node.js). AFFLUENT_SKIP_BUF=1 skips the check on a machine without it. AFFLUENT_BASE is a commit to compare with
# in place of the merge base: after a push to main, the commit that main was at before.
set -euo pipefail

readonly BUF="@bufbuild/buf@1.75.0"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if ! command -v npx >/dev/null; then
  if [[ "${AFFLUENT_SKIP_BUF:-}" == 1 ]]; then
    echo "proto-check: SKIPPED, npx is not installed and AFFLUENT_SKIP_BUF=1" >&2
    exit 0
  fi
  echo "proto-check: npx is not installed, so the contract cannot be checked." >&2
  echo "Install Node.js (Debian: apt-get install npm), or set AFFLUENT_SKIP_BUF=1 to skip the check." >&2
  exit 1
fi

buf() { npx --yes "$BUF" "$@"; }

# The commits to compare with: the merge base, and the last tag before this commit, since a release is no base of itself.
bases() {
  merge_base || true
  git describe --tags --abbrev=0 --match 'v*' HEAD^ 2>/dev/null | xargs -r git rev-list -n 1 || true
}

# $AFFLUENT_BASE, if the clone has it, or else where this branch left main. On main itself, without either, the parent.
merge_base() {
  local main
  if [ -n "${AFFLUENT_BASE:-}" ] && git rev-parse --quiet --verify "$AFFLUENT_BASE^{commit}"; then return; fi
  for main in origin/main main; do
    git rev-parse --quiet --verify "$main^{commit}" >/dev/null || continue
    if [ "$(git rev-parse "$main")" = "$(git rev-parse HEAD)" ]; then
      git rev-parse --quiet --verify HEAD^
    else
      git merge-base "$main" HEAD
    fi
    return
  done
}

buf lint proto-schema
# An example imports the options of proto-schema/. Its folder is not that of its package.
buf lint examples/orders --config '{"version": "v2", "modules": [{"path": "proto-schema"},
  {"path": "examples/orders", "lint": {"use": ["STANDARD"], "except": ["PACKAGE_DIRECTORY_MATCH"]}}]}'
echo "proto-check: lint is clean"

compared=false
while read -r base; do
  # A commit from before the contract has nothing to compare with.
  if git cat-file -e "$base:proto-schema/buf.yaml" 2>/dev/null; then
    buf breaking proto-schema --against ".git#ref=$base,subdir=proto-schema"
    echo "proto-check: nothing breaks compared with $base"
    compared=true
  fi
done < <(bases | sort -u)
$compared || echo "proto-check: no earlier contract to compare with"
