#!/usr/bin/env bash
# Ends training runs, evaluations, studies and saves at random moments: most by SIGKILL, some by SIGTERM or SIGHUP. After each
# of them what is on disk must be usable, and what goes on from there must end with the bytes of an undisturbed run.
#   scripts/dev/kill_resume.sh [--program FILE] [--training N] [--evaluation N] [--study N] [--save N]
set -euo pipefail
cd "$(dirname "$0")/../.."

program=target/release/llmore training=200 evaluation=50 study=20 save=20
while [ $# -gt 0 ]; do
    case $1 in
        --program | --training | --evaluation | --study | --save) declare "${1#--}=$2" ;;
        *) sed -n '2,4s/^# *//p' "$0" >&2; exit 2 ;;
    esac
    shift 2
done
program=$(realpath "$program")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
ln -s "$PWD/tests" "$scratch"
cd "$scratch"
export XDG_CACHE_HOME=$scratch/cache

cat >train.rhai <<'SCRIPT'
let saving = if args[1] == "steps" { #{ save_every_steps: 2 } } else { #{ save_every_minutes: 0.002 } };
let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
let t = trainer(m, dataset("tiny-instruct"), saving, #{
    train: #{ projector: 1e-3, llm: 2e-3 }, batch: 4, micro_batch: 2, steps: 24, keep: 3, seed: 7,
    moments: args[2], out: args[0] });
if args.len() > 3 { t.resume(args[0]); }
t.fit();
SCRIPT
cat >open.rhai <<'SCRIPT'
for folder in args {
    load(folder);
    tensors(`${folder}/optimizer.safetensors`);
}
SCRIPT
echo 'load(args[0]);' >load.rhai
cat >answer.rhai <<'SCRIPT'
benchmark("tiny-vqa", #{ limit: 60 }).run(vlm("tiny-llava"), #{ out: args[0], batch: 1 });
SCRIPT
cat >study.rhai <<'SCRIPT'
study(#{ seeds: [0, 1], limit: 6, stage: #{ steps: 6, batch: 2, save_every_steps: 1 }, out: args[0] }).run();
SCRIPT
cat >save.rhai <<'SCRIPT'
let models = [vlm("tiny-llava"), vlm(encoder("tiny-clip"), projector("linear"), llm("tiny-llama", #{ seed: 3 }))];
if args.len() > 1 { for i in 0..args.len() { models[i % 2].save(args[i]); } }
else { loop { for m in models { m.save(args[0]); } } }
SCRIPT

unusable=0 different=0 opened=0
# Below `nohup` the program ignores SIGHUP, as it should.
hangup=HUP
grep -q '^SigIgn:.*[13579bdf]$' /proc/self/status 2>/dev/null && hangup=TERM

# Reports something that cannot be used, with what the program said.
broken() {
    unusable=$((unusable + 1))
    echo "UNUSABLE: $1"
    cat said.log
}

other() {
    different=$((different + 1))
    echo "DIFFERENT: $1"
}

run() { # script, arguments...
    local script=$1
    shift
    "$program" run "$script" --quiet -- "$@" >said.log 2>&1
}

now_until() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.3f", to - from }'; }

# Starts a script and sends it a signal at a random moment between two times. Sets `how` to the signal, or to `end` where it came
# to its end before.
disturbed() { # from, to, script, arguments...
    local from=$1 to=$2 script=$3 pause pid code=0
    shift 3
    "$program" run "$script" --quiet -- "$@" >said.log 2>&1 &
    pid=$!
    case $((RANDOM % 10)) in 0 | 1) how=TERM ;; 2) how=$hangup ;; *) how=KILL ;; esac
    pause=$(awk -v seed="$RANDOM$RANDOM" -v from="$from" -v to="$to" \
        'BEGIN { srand(seed); printf "%.3f", from + (to - from) * rand() }')
    sleep "$pause"
    kill "-$how" "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || code=$?
    case $how:$code in
        *:0) how=end ;;
        KILL:137 | TERM:99 | HUP:99) ;;
        # Before it listened.
        TERM:143 | HUP:129) ;;
        *) broken "exit code $code of $script after $how at $pause s" ;;
    esac
}

# Every checkpoint that is there must be whole.
open_all() {
    local folders
    folders=$(compgen -G "$1/checkpoint-*" || true)
    [ -n "$folders" ] || return 0
    # shellcheck disable=SC2086
    run open.rhai $folders || broken "a checkpoint of $1 after $how"
    opened=$((opened + $(wc -w <<<"$folders")))
}

# A training run by steps or minutes with some kind of moments, disturbed this many times.
trained() { # steps or minutes, moments, times
    local saves=$1 moments=$2 times=$3 out="killed-$1" done=0 resume start=$EPOCHREALTIME longest file
    run train.rhai "whole-$saves" "$saves" "$moments" || broken "an undisturbed run"
    # Moments up to half of a whole run: on any machine some lie before the first checkpoint and most behind it.
    longest=$(awk -v whole="$(now_until "$start")" 'BEGIN { print 0.05 + whole / 2 }')
    how=none
    while [ "$done" -lt "$times" ] || [ "$how" != end ]; do
        if [ "$how" = end ]; then rm -rf "$out"; fi
        resume=""
        if compgen -G "$out/checkpoint-*" >/dev/null; then resume=yes; else rm -rf "$out"; fi
        if [ "$done" -lt "$times" ]; then
            # shellcheck disable=SC2086
            disturbed 0.05 "$longest" train.rhai "$out" "$saves" "$moments" $resume
        else
            how=end
            # shellcheck disable=SC2086
            run train.rhai "$out" "$saves" "$moments" $resume || broken "$out does not go on"
        fi
        if [ "$how" != end ]; then
            done=$((done + 1))
            open_all "$out"
            continue
        fi
        for file in model.safetensors optimizer.safetensors; do
            cmp "whole-$saves/checkpoint-24/$file" "$out/checkpoint-24/$file" || other "$file of a run by $saves"
        done
    done
    echo "training by $saves: ended $done times"
}

# Hashes of what an evaluation came to, and of a study.
answer_hashes() { sha256sum <"$1"; }

study_hashes() {
    (cd "$1" && find . -path '*/checkpoint-6/*.safetensors' -o -name 'tiny-*.jsonl' | sort | xargs sha256sum)
}

# An evaluation or a study: what it left is gone on with until it comes to its end.
repeated() { # script, what to compare, times
    local script=$1 hashes=$2 times=$3 done=0 start=$EPOCHREALTIME longest
    run "$script" whole || broken "an undisturbed $script"
    longest=$(now_until "$start")
    how=none
    while [ "$done" -lt "$times" ] || [ "$how" != end ]; do
        if [ "$done" -lt "$times" ]; then
            disturbed 0.02 "$longest" "$script" killed
        else
            how=end
            run "$script" killed || broken "$script does not go on"
        fi
        if [ "$how" = end ]; then
            diff <($hashes whole) <($hashes killed) || other "$script"
            rm -rf killed
        else
            done=$((done + 1))
        fi
    done
    rm -rf whole
    echo "$script: ended $done times"
}

# Saves over and over into one folder. What is there afterwards is one of the two models. With files of other people in the
# folder it may be cut off in the middle: then it says so, and the next save puts it right.
saved() { # times
    local times=$1 done=0 start=$EPOCHREALTIME shortest
    run save.rhai one two || broken "an undisturbed save"
    shortest=$(now_until "$start")
    while [ "$done" -lt "$times" ]; do
        if [ $((done % 4)) -eq 3 ]; then
            mkdir -p model && echo mine >model/notes.txt
        else
            rm -f model/notes.txt
            rmdir model 2>/dev/null || true
        fi
        disturbed "$(awk -v whole="$shortest" 'BEGIN { print whole / 2 }')" \
            "$(awk -v whole="$shortest" 'BEGIN { print whole + 0.5 }')" save.rhai model
        done=$((done + 1))
        # Before its first save.
        if [ ! -d model ]; then continue; fi
        if [ -e model/notes.txt ]; then
            [ "$(cat model/notes.txt)" = mine ] || broken "a file beside the model"
            if [ ! -e model/config.json ]; then
                if [ -e .model.old ] && { run load.rhai model || ! grep -q "a save into it was cut off" said.log; }; then
                    grep -q "a save into it was cut off" said.log || broken "a save that was cut off does not say so"
                fi
                run save.rhai model two || broken "the save after one that was cut off"
            fi
        fi
        run load.rhai model || broken "a saved model after $how"
        (cd model && sha256sum --quiet -c llmore.sha256) || broken "a file of a saved model"
        cmp -s model/model.safetensors one/model.safetensors || cmp -s model/model.safetensors two/model.safetensors ||
            other "a saved model"
    done
    echo "save: ended $done times"
}

# With 0 of a kind it is left out.
if [ "$training" -gt 0 ]; then
    trained steps f32 $((training / 2))
    trained minutes 8bit $((training - training / 2))
fi
[ "$evaluation" -eq 0 ] || repeated answer.rhai answer_hashes "$evaluation"
[ "$study" -eq 0 ] || repeated study.rhai study_hashes "$study"
[ "$save" -eq 0 ] || saved "$save"
echo "$((training + evaluation + study + save)) ended, $opened checkpoints opened: $unusable unusable, $different different"
[ "$unusable$different" = 00 ]
