"""What the cases of compat.sh share: running llmore, declaring a case, telling how it ended.

A case is a function that writes a file with a library and compares what llmore makes of it. It returns a figure (the
largest difference, or a sentence), or raises `Refused` with llmore's message; what it is declared to end with is
`right`, `refused` or `differs`, and any other end fails the run.
"""

import contextlib
import dataclasses
import json
import pathlib
import shutil
import subprocess
import time

import torch
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[3]
TOKENIZER = ROOT / "tests/fixtures/training/checkpoint/tokenizer.json"
PICTURE = ROOT / "tests/fixtures/images/rgb-137x191.png"
# DESIGN.md, section 6: hidden states and logits in f32.
CLOSE = 1e-4


class Refused(Exception):
    """llmore ended with an error of its own."""


class Wrong(Exception):
    """Not what it should be."""


@dataclasses.dataclass
class Case:
    libraries: str
    what: str
    run: callable
    ends: str
    says: str
    why: str


CASES: list[Case] = []


def case(libraries: str, what: str, ends: str = "right", says: str = "", why: str = "", **options):
    """Declares a case; `libraries` names packages whose versions belong to it, `says` a word that a refusal has to name,
    `why` what a reader of the table needs."""

    def declare(function):
        run = (lambda folder: function(folder, **options)) if options else function
        CASES.append(Case(libraries, what, run, ends, says, why))
        return function

    return declare


class Llmore:
    """The program under test."""

    def __init__(self, binary: str):
        self.binary = binary

    def __call__(self, folder: pathlib.Path, script: str) -> str:
        """Runs a script inside a folder; its output."""
        file = folder / "compat.rhai"
        file.write_text(script)
        done = subprocess.run(
            [self.binary, "run", "compat.rhai", "--quiet"], cwd=folder, capture_output=True, text=True, timeout=60
        )
        if done.returncode == 1:
            raise Refused(first_lines(done.stderr))
        if done.returncode != 0:
            raise Wrong(f"exit code {done.returncode}: {done.stderr[-400:]}")
        return done.stdout


llmore: Llmore = None  # set by run.py


def first_lines(stderr: str) -> str:
    """The message and the help of llmore's printed error."""
    lines = [line.strip() for line in stderr.splitlines()]
    kept = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")][:1]
    kept += [line.removeprefix("= help: ") for line in lines if line.startswith("= help: ")][:1]
    return "; ".join(kept) or stderr[-300:]


def tensors(folder: pathlib.Path, script: str) -> dict[str, torch.Tensor]:
    """What a script puts into `out`, a map of tensors."""
    llmore(folder, f"let out = #{{}};\n{script}\nsave_tensors(out, \"out.safetensors\");")
    return load_file(folder / "out.safetensors")


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest one; shapes have to agree."""
    if ours.shape != theirs.shape:
        raise Wrong(f"shape {list(ours.shape)}, expected {list(theirs.shape)}")
    return (ours.float() - theirs.detach().float()).abs().max().item()


def close(ours: torch.Tensor, theirs: torch.Tensor, most: float = CLOSE) -> str:
    apart = difference(ours, theirs)
    if not apart <= most:
        raise Wrong(f"off by {apart:.2g}")
    return f"{apart:.0e}"


def equal(ours, theirs) -> str:
    if ours != theirs:
        raise Wrong(f"{shorten(ours)}, expected {shorten(theirs)}")
    return "equal"


def shorten(value) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else text[:200] + "..."


@dataclasses.dataclass
class Outcome:
    case: Case
    ended: str
    figure: str
    seconds: float

    @property
    def as_declared(self) -> bool:
        return self.ended == self.case.ends and self.case.says.lower() in self.figure.lower()


def run_case(case: Case, folder: pathlib.Path) -> Outcome:
    folder.mkdir(parents=True)
    start = time.monotonic()
    try:
        ended, figure = "right", str(case.run(folder))
    except Refused as refusal:
        ended, figure = "refused", str(refusal)
    except Wrong as wrong:
        ended, figure = "differs", str(wrong)
    except Exception as error:  # a library that changed its interface is told as one line, the others go on
        ended, figure = "broken", f"{type(error).__name__}: {error}"
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)
    return Outcome(case, ended, figure.replace(str(folder), "."), time.monotonic() - start)
