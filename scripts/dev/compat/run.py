#!/usr/bin/env python3
"""Runs every case and prints the table of docs/compat.md; see compat.sh.

    python -m scripts.dev.compat.run BINARY [--write docs/compat.md] [--only WORD]

Ends with 1 when a case did not end as declared.
"""

import argparse
import importlib
import importlib.metadata
import os
import pathlib
import sys
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("LOGURU_LEVEL", "ERROR")  # lmms-eval tells every answer that it doubts
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from . import harness  # noqa: E402

MODULES = ["llms", "towers", "adapters", "data", "gguf_files", "scores"]


def versions(libraries: str) -> str:
    names = [name.strip() for name in libraries.split(",")]
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def table(outcomes) -> str:
    head = ["what | version | llmore | figure or message", "--- | --- | --- | ---"]
    rows = []
    for outcome in outcomes:
        why = f" ({outcome.case.why})" if outcome.case.why else ""
        figure = outcome.figure.replace("|", "\\|").replace("\n", " ")
        ended = outcome.ended if outcome.as_declared else f"**{outcome.ended}**, declared {outcome.case.ends}"
        rows.append(f"{outcome.case.what} | {versions(outcome.case.libraries)} | {ended} | {figure}{why}")
    return "\n".join(f"| {line} |" for line in head + rows)


def page(outcomes, seconds: float) -> str:
    return f"""# Files of other libraries

Made by `scripts/dev/compat.sh` in {seconds:.0f} s: every row is a file that the library wrote, read by llmore and compared with what
the library itself makes of it. "right" comes with the largest difference of logits, hidden states or pixels (at most 1e-4),
"refused" with llmore's message. `scripts/dev/compat.sh --newest` takes the newest versions instead of the pinned ones.

{table(outcomes)}
"""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("--write", type=pathlib.Path)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    harness.llmore = harness.Llmore(str(given.binary.resolve()))
    for module in MODULES:
        importlib.import_module(f"{__package__}.{module}")
    import transformers

    transformers.utils.logging.disable_progress_bar()
    start, outcomes = time.monotonic(), []
    with tempfile.TemporaryDirectory() as scratch:
        for number, case in enumerate(case for case in harness.CASES if given.only in case.what):
            outcome = harness.run_case(case, pathlib.Path(scratch) / str(number))
            mark = "" if outcome.as_declared else f"   <-- declared {case.ends}"
            print(f"{outcome.ended:8} {outcome.seconds:5.1f} s  {case.what}: {outcome.figure[:300]}{mark}", flush=True)
            outcomes.append(outcome)
    wrong = [outcome for outcome in outcomes if not outcome.as_declared]
    seconds = time.monotonic() - start
    print(f"{len(outcomes)} cases, {len(wrong)} not as declared, {seconds:.0f} s")
    if given.write:
        given.write.write_text(page(outcomes, seconds))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
