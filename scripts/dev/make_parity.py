#!/usr/bin/env python3
"""Makes the parity fixtures: tiny seeded models of every architecture, and what transformers computes with them.

    python -m venv target/parity-venv
    target/parity-venv/bin/pip install torch==2.15.0 transformers==4.49.0 pillow safetensors
    target/parity-venv/bin/python scripts/dev/make_parity.py [group[/case]...]

A case is a function `make(folder)` in `parity/<group>.py` that fills `tests/fixtures/parity/<group>/<case>/` with a
checkpoint in Hugging Face layout and `expected.safetensors`: the inputs and the outputs of the reference in f32.
Without arguments everything is made again.
"""

import importlib
import pathlib
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "parity"
GROUPS = ["encoders", "families", "llms", "lora", "models", "projectors", "ropes"]


def main(wanted: list[str]) -> int:
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    made = 0
    for group in GROUPS:
        # A group may need another version of transformers than the one that is there.
        if wanted and all(name.split("/")[0] != group for name in wanted):
            continue
        cases = importlib.import_module(f"parity.{group}").CASES
        for case, make in cases.items():
            if wanted and group not in wanted and f"{group}/{case}" not in wanted:
                continue
            folder = FIXTURES / group / case
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            make(folder)
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            print(f"{group}/{case}: {size / 1024:.0f} KiB")
            made += 1
    if not made:
        print(f"no case is named {' '.join(wanted)}", file=sys.stderr)
    return 0 if made else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
