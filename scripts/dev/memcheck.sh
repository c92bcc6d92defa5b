#!/usr/bin/env bash
# Runs the unit tests of everything that is unsafe under valgrind's memcheck, which sees reads of memory that was never
# written and reads and writes outside of it. By hand: it takes minutes (Miri would need a component of nightly).
#   scripts/dev/memcheck.sh [FILTER...]     all of the table below, or tests whose names contain a filter
# Every `cargo test` run does a smaller check: unit tests allocate with guard bytes (src/memory/guarded.rs). They are off
# here, as bytes beside a buffer that may be touched are what memcheck is to report.
set -euo pipefail
cd "$(dirname "$0")/../.."

# A file or folder with unsafe code, and the tests that run it; `-` with the reason where none can.
table=(
    "src/nn/ops          nn::ops"
    "src/files.rs        files::"
    "src/image/resize.rs image::resize"
    "src/memory          memory::"
    "src/process.rs      process::"
    "src/sandbox/kernel.rs sandbox::kernel"
    "src/weights/files.rs weights::files weights::hashing"
    "src/weights/quantized.rs weights::quantized"
    "src/cli/say.rs      - asks a pipe whether somebody reads it"
    "src/cli/query.rs    - talks with a terminal"
)
# Tests that take very long here and run the same unsafe code as others (the products of one row, two thousand times).
skipped=(--skip no_damage_panics --skip a_row_does_not_depend_on_the_rows_beside_it)

if ! command -v valgrind >/dev/null; then
    echo "valgrind is missing: apt-get install valgrind (or your system's package of it)" >&2
    exit 1
fi

covered() { # file
    for line in "${table[@]}"; do
        local place=${line%% *}
        case $1 in "$place" | "$place"/*) return 0 ;; esac
    done
    return 1
}
while read -r file; do
    if ! covered "$file"; then
        echo "$file holds unsafe code and is not in the table of $0: name the tests that run it" >&2
        exit 1
    fi
done < <(grep -rlE '^[^"/]*\bunsafe (\{|fn|impl)' src --include='*.rs')
for line in "${table[@]}"; do
    [ -e "${line%% *}" ] || { echo "${line%% *} is in the table of $0 and does not exist" >&2; exit 1; }
done

filters=("$@")
if [ $# = 0 ]; then
    for line in "${table[@]}"; do
        read -r _ tests <<<"$line"
        case $tests in -*) echo "not run: $line" ;; *) filters+=($tests) ;; esac
    done
fi

binary=$(cargo test --locked --lib --no-run 2>&1 | sed -n 's/.*(\(.*\/llmore-[0-9a-f]*\)).*/\1/p')
[ -x "$binary" ] || { echo "the unit tests do not build: cargo test --lib --no-run" >&2; exit 1; }
start=$SECONDS
LLMORE_MEMCHECK=1 RAYON_NUM_THREADS=2 valgrind --tool=memcheck --error-exitcode=99 --leak-check=no --track-origins=no \
    --num-callers=25 "$binary" --test-threads=1 "${skipped[@]}" "${filters[@]}"
echo "memcheck: no errors in ${filters[*]}, $((SECONDS - start)) s"
