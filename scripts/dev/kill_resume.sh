#!/usr/bin/env bash
# Kills a training run with SIGKILL at random moments, resumes it each time, and compares the final weights with those of
# an uninterrupted run, byte for byte.
#   scripts/dev/kill_resume.sh [KILLS]
set -euo pipefail
cd "$(dirname "$0")/../.."

kills=${1:-5}
program=$PWD/target/release/llmore
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
ln -s "$PWD/tests" "$scratch"

cat >"$scratch/train.rhai" <<'SCRIPT'
let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
let t = trainer(m, dataset("tiny-instruct"), #{
    train: #{ projector: 1e-3, llm: 2e-3 }, batch: 16, micro_batch: 8, steps: 60, save_every_steps: 3, seed: 7, out: args[0] });
if args.len() > 1 { t.resume(args[0]); }
t.fit();
SCRIPT

cd "$scratch"
"$program" run train.rhai --quiet -- whole
echo "uninterrupted run: $(sha256sum whole/checkpoint-60/model.safetensors | cut -c1-16)"

done_kills=0
while [ ! -d killed/checkpoint-60 ]; do
    resume=""
    compgen -G 'killed/checkpoint-*' >/dev/null && resume=yes
    # A run that was killed before its first checkpoint starts again.
    [ -n "$resume" ] || rm -rf killed
    "$program" run train.rhai --quiet -- killed $resume &
    pid=$!
    if [ "$done_kills" -lt "$kills" ]; then
        sleep "$(awk -v seed="$RANDOM" 'BEGIN { srand(seed); printf "%.2f", 0.3 + 1.5 * rand() }')"
        if kill -9 "$pid" 2>/dev/null; then
            done_kills=$((done_kills + 1))
            echo "kill $done_kills: $(ls killed 2>/dev/null | grep '^checkpoint' | tail -n 1 || true)"
        fi
    fi
    wait "$pid" 2>/dev/null || true
done

echo "after $done_kills kills:  $(sha256sum killed/checkpoint-60/model.safetensors | cut -c1-16)"
cmp whole/checkpoint-60/model.safetensors killed/checkpoint-60/model.safetensors
cmp whole/checkpoint-60/optimizer.safetensors killed/checkpoint-60/optimizer.safetensors
echo "1 passed, 0 failed"
