#!/usr/bin/env bash
# Every script of scripts/ in its smoke form, then `llmore rerun` of each run that it made: the run has to come out the same,
# and no byte of what was there may change.
#   scripts/dev/rerun_all.sh [llmore]          4 minutes on 2 cores; without an argument target/release/llmore
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

failed=0
for file in scripts/*.rhai; do
    script=$PWD/$file
    cd "$scratch"
    rm -rf runs
    "$program" run "$script" --set smoke=true --quiet >log 2>&1 || { cat log; failed=1; }
    bytes >before
    while read -r lock; do
        run=$(dirname "$lock")
        if ! "$program" rerun "$run" --quiet >log 2>&1; then
            echo "FAILED: $file, $run"
            cat log
            failed=1
        fi
    done < <(find runs -name run.lock -not -path '*-rerun-*' | sort)
    bytes | diff before - >log || { echo "CHANGED by a rerun: $file"; cat log; failed=1; }
    echo "$file: $(find runs -name run.lock -not -path '*-rerun-*' | wc -l) runs"
    cd - >/dev/null
done
exit "$failed"
