#!/usr/bin/env bash
# Kills a training run with SIGKILL at random moments, opens every checkpoint that is on disk after each kill, resumes,
# and compares the final weights with those of an uninterrupted run, byte for byte. Half of the kills are made to a run
# that saves by steps, half to one that saves by minutes; each has moments of its own.
#   scripts/dev/kill_resume.sh [KILLS] [PROGRAM]
set -euo pipefail
cd "$(dirname "$0")/../.."

kills=${1:-50}
program=$(realpath "${2:-target/release/llmore}")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
ln -s "$PWD/tests" "$scratch"

cat >"$scratch/train.rhai" <<'SCRIPT'
let saving = if args[1] == "steps" { #{ save_every_steps: 2 } } else { #{ save_every_minutes: 0.002 } };
let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
let t = trainer(m, dataset("tiny-instruct"), saving, #{
    train: #{ projector: 1e-3, llm: 2e-3 }, batch: 4, micro_batch: 2, steps: 24, keep: 3, seed: 7,
    moments: args[2], out: args[0] });
if args.len() > 3 { t.resume(args[0]); }
t.fit();
SCRIPT
cat >"$scratch/open.rhai" <<'SCRIPT'
for folder in args {
    load(folder);
    tensors(`${folder}/optimizer.safetensors`);
}
SCRIPT
cd "$scratch"

opened=0
# Every checkpoint that is there must be whole.
open_all() {
    local folders
    folders=$(compgen -G "$1/checkpoint-*" || true)
    [ -n "$folders" ] || return 0
    # shellcheck disable=SC2086
    "$program" run open.rhai --quiet -- $folders >/dev/null
    opened=$((opened + $(wc -w <<<"$folders")))
}

# A run by steps or minutes with some kind of moments, killed this many times.
killed_run() {
    local saves=$1 moments=$2 kills=$3 out="killed-$1" done_kills=0 resume pid pause
    local start=$EPOCHREALTIME longest
    "$program" run train.rhai --quiet -- "whole-$saves" "$saves" "$moments"
    # Moments up to half of a whole run: on any machine some lie before the first checkpoint and most behind it.
    longest=$(awk -v from="$start" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.3f", (to - from) / 2 }')
    while [ ! -d "$out/checkpoint-24" ] || [ "$done_kills" -lt "$kills" ]; do
        if [ -d "$out/checkpoint-24" ]; then
            # It came to the end before all kills were made: once more from the start, after looking at how it ended.
            same "$saves"
            rm -rf "$out"
        fi
        resume=""
        compgen -G "$out/checkpoint-*" >/dev/null && resume=yes
        # A run that was killed before its first checkpoint starts again.
        [ -n "$resume" ] || rm -rf "$out"
        # shellcheck disable=SC2086
        "$program" run train.rhai --quiet -- "$out" "$saves" "$moments" $resume &
        pid=$!
        if [ "$done_kills" -lt "$kills" ]; then
            pause=$(awk -v seed="$RANDOM$RANDOM" -v longest="$longest" \
                'BEGIN { srand(seed); printf "%.3f", 0.05 + longest * rand() }')
            sleep "$pause"
            if kill -9 "$pid" 2>/dev/null; then
                done_kills=$((done_kills + 1))
                wait "$pid" 2>/dev/null || true
                open_all "$out"
                newest=$(compgen -G "$out/checkpoint-*" | sort -t- -k3 -n | tail -n 1 || true)
                echo "$saves, kill $done_kills after $pause s: ${newest:-no checkpoint yet}"
            fi
        fi
        wait "$pid" 2>/dev/null || true
    done
    same "$saves"
    echo "$saves: $done_kills kills, final weights $(sha256sum "$out/checkpoint-24/model.safetensors" | cut -c1-16), as in one go"
}

# The killed run ended like the uninterrupted one.
same() {
    for file in model.safetensors optimizer.safetensors; do
        cmp "whole-$1/checkpoint-24/$file" "killed-$1/checkpoint-24/$file"
    done
}

killed_run steps f32 $((kills / 2))
killed_run minutes 8bit $((kills - kills / 2))
echo "$kills kills, $opened checkpoints opened: 1 passed, 0 failed"
