#!/usr/bin/env bash
# The full simulation behind docs/statistics.md: coverage of the intervals over 10,000 repetitions, family-wise error of a
# null grid over 2,000. Takes minutes; `cargo test` runs a small one.
#   scripts/dev/statistics.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
exec cargo test --release --locked --test tests statistics -- --ignored --nocapture
