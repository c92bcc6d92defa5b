#!/usr/bin/env bash
# Files of today's libraries against llmore: tiny models, adapters, tables, GGUF files and predictions are written by the
# libraries themselves, and what llmore makes of each is compared with what they make of it (scripts/dev/compat/).
#   scripts/dev/compat.sh [--newest] [--install] [--only WORD] [BINARY]
# Pinned versions are the default and write docs/compat.md; --newest takes the newest of each and only prints. --install
# stops once the packages are there (6 GB with PyTorch's CUDA libraries, which its wheel needs to be imported).
set -euo pipefail
cd "$(dirname "$0")/../.."

newest="" install="" only="" binary=target/release/llmore
while [ $# -gt 0 ]; do
    case $1 in
        --newest) newest=yes ;;
        --install) install=yes ;;
        --only) only=$2; shift ;;
        -*) echo "usage: scripts/dev/compat.sh [--newest] [--install] [--only WORD] [BINARY]" >&2; exit 2 ;;
        *) binary=$1 ;;
    esac
    shift
done

from=scripts/dev/compat
venv=target/compat-${newest:+newest}
[ -n "$newest" ] || venv=target/compat-pinned
mkdir -p target
# One install at a time: whoever comes second waits and finds it done.
exec 9>"$venv.lock"
flock 9
stamp=$(cat $from/*.txt | sha256sum)
if [ -n "$newest" ] || [ "$(cat "$venv/stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check uv
    packages() { # file
        if [ -n "$newest" ]; then sed 's/==.*//' "$1"; else cat "$1"; fi | grep -v '^#'
    }
    uv() { "$venv/bin/uv" pip install --quiet --no-cache --python "$venv/bin/python" "$@"; }
    # shellcheck disable=SC2046
    uv $(packages $from/pinned.txt) $(packages $from/lmms_eval_needs.txt)
    # shellcheck disable=SC2046
    uv --no-deps $(packages $from/lmms_eval.txt)
    echo "$stamp" >"$venv/stamp"
fi
flock -u 9
"$venv/bin/python" - <<'PY'
import importlib.metadata as metadata
names = ["torch", "transformers", "tokenizers", "peft", "datasets", "pyarrow", "pandas", "polars", "duckdb", "pillow", "gguf", "lmms-eval"]
print(", ".join(f"{name} {metadata.version(name)}" for name in names))
PY
[ -z "$install" ] || exit 0

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
write=()
[ -n "$newest$only${CI:-}" ] || write=(--write docs/compat.md)
exec "$venv/bin/python" -W ignore -m scripts.dev.compat.run "$binary" --only "$only" "${write[@]}"
