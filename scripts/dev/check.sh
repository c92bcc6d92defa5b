#!/usr/bin/env bash
# What to run before a commit, cheapest first: format, lints, build, tests, then every script of scripts/ in its
# smoke form. With --full, or where CI is set, the quickstart is run whole as well. Stops at the first failure.
#   scripts/dev/check.sh [--full]
set -euo pipefail
cd "$(dirname "$0")/../.."

full=${CI:+yes}
case ${1:-} in
    --full) full=yes ;;
    "") ;;
    *) echo "usage: scripts/dev/check.sh [--full]" >&2; exit 2 ;;
esac

scratch=$(mktemp -d)
times=()
current=""

finish() {
    local code=$?
    [ "$code" -eq 0 ] || echo "FAILED: $current (exit code $code)"
    printf '\n%8s  %s\n' seconds step
    for line in "${times[@]}"; do printf '%8s  %s\n' "${line%% *}" "${line#* }"; done
    # The last thing on the screen is what the tests said.
    [ ! -f "$scratch/tests.log" ] || grep '^test result:' "$scratch/tests.log" || true
    rm -rf "$scratch"
    exit "$code"
}
trap finish EXIT

step() { # name, command...
    current=$1
    shift
    echo "== $current"
    local start=$SECONDS code=0
    "$@" || code=$?
    times+=("$((SECONDS - start)) $current")
    return "$code"
}

tests() {
    cargo test --release --locked --no-fail-fast 2>&1 | tee "$scratch/tests.log"
}

# Scripts run in a folder of their own that sees tests/ and stdlib/, so that runs/ here is left alone. Prints the
# output of a script that fails.
script() { # file, options...
    local file=$PWD/$1 program=$PWD/target/release/llmore
    shift
    if ! (cd "$scratch" && "$program" run "$file" --quiet "$@") >"$scratch/script.log" 2>&1; then
        cat "$scratch/script.log"
        return 1
    fi
}

# A report in a browser; where there is none, a line says so.
report() {
    if ! command -v python3 >/dev/null; then
        echo "SKIPPED, the report was opened in no browser: no python3"
        return
    fi
    python3 scripts/dev/check_report.py target/release/llmore
}

# The short commands of the README.
commands() {
    local program=target/release/llmore list
    "$program" -c 'encoder("tiny-clip").tokens'
    "$program" check scripts/quickstart.rhai
    "$program" docs trainer >"$scratch/docs.txt"
    for list in models datasets benchmarks recipes runs; do "$program" ls "$list" >"$scratch/list.txt"; done
    printf 'let x = 40;\nx + 2\n' | "$program" repl
}

step "format" cargo fmt --check
step "clippy" cargo clippy --release --locked --all-targets -- -D warnings
step "build" cargo build --release --locked
step "test" tests
step "README commands" commands
step "report in a browser" report
# The packages take 6 GB: where they are not there yet, only CI and --full fetch them.
if [ -n "$full" ] || [ -e target/compat-pinned/stamp ]; then
    step "files of other libraries" scripts/dev/compat.sh
else
    echo "SKIPPED, files of other libraries: scripts/dev/compat.sh --install fetches what they need"
fi
ln -s "$PWD/tests" "$PWD/stdlib" "$scratch"
for file in scripts/*.rhai; do
    step "smoke $file" script "$file" --set smoke=true
done
if [ -n "$full" ]; then
    step "reruns of every script" scripts/dev/rerun_all.sh target/release/llmore
    step "whole scripts/quickstart.rhai" script scripts/quickstart.rhai
    tail -n 12 "$scratch/script.log"
fi
