#!/usr/bin/env bash
# Whether tests would notice: cargo-mutants changes training, evaluation, saving and the order of samples in one place after the
# other and runs tests on each. Those that pass are to be killed by a test, or are no change. By hand: a mutant takes
# half a minute to build, all of them a day.
#   scripts/dev/mutants.sh --list                  what would be changed
#   scripts/dev/mutants.sh                         all of it, with the unit tests and those of the topic
#   scripts/dev/mutants.sh --shard 0/40            a part of it
#   FILES="src/train/schedule.rs" TESTS=train::schedule scripts/dev/mutants.sh
# Results are in target/mutants.out: caught.txt, missed.txt, timeout.txt, unviable.txt.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=27.1.0

read -ra files <<<"${FILES:-src/train/**/*.rs src/eval/**/*.rs src/vlm/save/**/*.rs src/data/order.rs src/data/modality.rs}"
# Words of which a test's name holds one; unit tests and integration tests of the same topics.
read -ra tests <<<"${TESTS:-train:: eval:: vlm:: data:: training resume exchange lora questions scorers results saves statistics}"
read -ra targets <<<"${TARGETS:---lib --test tests}"

if [ "$(cargo mutants --version 2>/dev/null)" != "cargo-mutants $version" ]; then
    cargo install cargo-mutants --version "$version" --locked
fi
# Builds are most of the time; debug information and optimization of this package would make them longer.
export CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=0
exec nice -n 19 cargo mutants --no-shuffle --output target "${files[@]/#/--file=}" "$@" -- "${targets[@]}" -- "${tests[@]}"
