#!/usr/bin/env bash
# Mutated inputs for every reader of files and texts (tests/fuzz.rs), for as long as one likes: other inputs in every run, none
# is kept. The seed is printed, and with it, a reader and an index, each input can be made again. Ends with a table, and fails
# where a reader panicked, ended its process, took over 2 s or over 1 GB.
#   scripts/dev/fuzz.sh [SECONDS] [READER...]     for all readers together; 600 seconds, all readers
#   LLMORE_FUZZ_INPUTS=1000000 scripts/dev/fuzz.sh 36000      so many of each reader, in 10 hours at most
#   LLMORE_FUZZ_SEED=7 LLMORE_FUZZ_INDEX=123 scripts/dev/fuzz.sh 1 png      one input again; LLMORE_FUZZ_KEEP=FILE writes it
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=${1:-600}
case $seconds in
    *[!0-9]* | "") echo "usage: scripts/dev/fuzz.sh [SECONDS] [READER...]: \`$seconds\` is no number of seconds" >&2; exit 2 ;;
esac
shift || true
readers=$(IFS=,; echo "$*")

cargo test --release --locked --test tests --no-run
RUST_BACKTRACE=${RUST_BACKTRACE:-1} LLMORE_FUZZ_SECONDS=$seconds LLMORE_FUZZ_READER=${LLMORE_FUZZ_READER:-$readers} \
    nice -n 19 cargo test --release --locked --test tests -- --exact --nocapture fuzz::every_mutated_input_is_read_or_refused
