#!/usr/bin/env bash
# Every script of scripts/ in its smoke form, then `llmore rerun` of each run and study that it made: it has to come out the same,
# and no byte of what was there may change.
#   scripts/dev/rerun_all.sh [llmore]          3 minutes on 2 cores; without an argument target/release/llmore
set -euo pipefail
cd "$(dirname "$0")/../.."

program=$(realpath "${1:-target/release/llmore}")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
ln -s "$PWD/tests" "$PWD/stdlib" "$scratch"

# A hash of every file but those of reruns.
bytes() {
    find runs -type f -not -path '*-rerun-*' -print0 | sort -z | xargs -0 sha256sum
}

# Studies as a whole, and the runs that are in none.
runs_made() {
    find runs -name study.toml -not -path '*-rerun-*' -printf '%h\n' | sort >studies
    cat studies
    find runs -name run.lock -not -path '*-rerun-*' -printf '%h\n' | sort | while read -r run; do
        grep -qxF "${run%/cells/*}" studies || echo "$run"
    done
}

failed=0
for file in scripts/*.rhai; do
    script=$PWD/$file
    cd "$scratch"
    rm -rf runs
    "$program" run "$script" --set smoke=true --quiet >log 2>&1 || { cat log; failed=1; }
    bytes >before
    runs_made >made
    while read -r run; do
        if ! "$program" rerun "$run" --quiet >log 2>&1; then
            echo "FAILED: $file, $run"
            cat log
            failed=1
        fi
    done <made
    bytes | diff before - >log || { echo "CHANGED by a rerun: $file"; cat log; failed=1; }
    echo "$file: $(wc -l <made) runs and studies"
    cd - >/dev/null
done
exit "$failed"
