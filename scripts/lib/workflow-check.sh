#!/usr/bin/env bash
# Checks the GitHub workflows: actionlint (syntax, expressions, their shell) and zizmor (permissions, pins, injections).
#   scripts/lib/workflow-check.sh
# Needs Go for actionlint. Without shellcheck actionlint skips the scripts in the workflows.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
# shellcheck source=scripts/lib/prerequisites.sh
source "$root/scripts/lib/prerequisites.sh"
tools=${CARGO_TARGET_DIR:-$root/target}/tools

ensure_tool "$root" zizmor
if [ ! -x "$tools/bin/actionlint" ]; then
  GOBIN="$tools/bin" go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.7
fi
"$tools/bin/actionlint"
# Offline: the online audits need a token, and fail with GitHub's rate limit.
zizmor --offline --no-progress --quiet .github
