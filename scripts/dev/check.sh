#!/usr/bin/env bash
# What to run before a commit, cheapest first: format, lints, build, tests, then every script of scripts/ in its
# smoke form. With --full, or where CI is set, the quickstart is run whole and every run is made again, and what depends on
# nothing but the build goes side by side. Stops at the first failure; stages that run side by side are all waited for.
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
beside=()

finish() {
    local code=$? line
    [ "$code" -eq 0 ] || echo "FAILED: $current (exit code $code)"
    # Whatever still runs in the background is a process group of its own.
    for line in "${beside[@]}"; do kill -- "-${line%% *}" 2>/dev/null || true; done
    printf '\n%8s  %s\n' seconds step
    for line in "${times[@]}"; do printf '%8s  %s\n' "${line%% *}" "${line#* }"; done
    printf '%8s  %s\n' "$SECONDS" "all of it"
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

# Starts a step in the background and keeps its output until `together` prints it.
aside() { # name, command...
    local log="$scratch/aside-${#beside[@]}" name=$1
    shift
    echo "-- started: $name"
    set -m
    (
        start=$SECONDS code=0
        "$@" >"$log.out" 2>&1 || code=$?
        echo "$((SECONDS - start)) $code" >"$log.end"
    ) &
    set +m
    beside+=("$! $log $name")
}

# Waits for what `aside` started, in that order, and fails with the names of all that failed.
together() {
    local line pid log name seconds code failed=0 names=()
    for line in "${beside[@]}"; do
        read -r pid log name <<<"$line"
        current=$name
        wait "$pid" || true
        seconds=0 code=1
        [ ! -f "$log.end" ] || read -r seconds code <"$log.end"
        echo "== $name"
        cat "$log.out"
        times+=("$seconds $name (beside others)")
        if [ "$code" -ne 0 ]; then
            names+=("$name")
            failed=$code
        fi
    done
    beside=()
    current=$(IFS=,; echo "${names[*]}")
    return "$failed"
}

# One call for the program, the tests of the library and the integration tests: what they share is compiled once, and
# one is compiled while the other is linked.
build() {
    cargo test --release --locked --no-run && cargo build --release --locked
}

lints() {
    cargo clippy --release --locked --all-targets -- -D warnings
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

quickstart() {
    script scripts/quickstart.rhai && tail -n 12 "$scratch/script.log"
}

# A report in a browser; where there is none, a line says so. .ci/run installs both in the background, holding the lock.
report() {
    local python=python3
    [ ! -e target/browser.lock ] || flock target/browser.lock true
    [ ! -x target/browser-venv/bin/python3 ] || python=target/browser-venv/bin/python3
    if ! command -v "$python" >/dev/null; then
        echo "SKIPPED, the report was opened in no browser: no python3"
        return
    fi
    "$python" scripts/dev/check_report.py target/release/llmore
}

# The short commands of the README.
commands() {
    local program=target/release/llmore list
    "$program" -c 'encoder("tiny-clip").tokens' || return
    "$program" check scripts/quickstart.rhai || return
    "$program" docs trainer >"$scratch/docs.txt" || return
    for list in models datasets benchmarks recipes runs; do "$program" ls "$list" >"$scratch/list.txt" || return; done
    printf 'let x = 40;\nx + 2\n' | "$program" repl
}

step "format" cargo fmt --check
[ -n "$full" ] || step "clippy" lints
step "build" build
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
if [ -n "$full" ]; then
    # None of these asks for the time: each leaves cores idle by itself. The tests do ask, so they had the machine alone.
    # The reruns begin with the smoke form of every script.
    aside "clippy" lints
    aside "whole scripts/quickstart.rhai" quickstart
    aside "smoke and reruns of every script" scripts/dev/rerun_all.sh target/release/llmore
    together
else
    for file in scripts/*.rhai; do
        step "smoke $file" script "$file" --set smoke=true
    done
fi
