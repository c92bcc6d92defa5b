"""Runs llmore_bench and torch_peer.py in turn on this machine and prints their ratio as a Markdown table.

    python3 benches/compare.py [--only NAME]... [--rounds 4] [--attempts 12] [--threads 2] [--write]

Needs cargo, and pip with access to PyPI on the first run: torch goes into target/bench-venv (about 5 GB, because
PyPI's torch for x86-64 is the CUDA build and refuses to start without NVIDIA's libraries).
"""

import argparse
import datetime
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / "target/bench-venv"
INPUTS = ROOT / "target/bench-inputs"
NAMES = ["llama-step", "toy-stage1", "toy-stage2", "small-stage1", "small-stage2", "encoder", "preprocess", "decode"]
# Only for compiling and for driving a GPU.
UNNEEDED = ("triton", "cuda-bindings")
# The share of the machine's CPU time that others may take during a run before the run is repeated.
DISTURBED = 0.04


def environment():
    """The Python of the virtual environment, made on first use."""
    python = VENV / "bin/python"
    ready = VENV / "ready"
    if ready.exists():
        return python
    venv.create(VENV, with_pip=True, clear=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "torch"], check=True)
    listed = "import importlib.metadata as m; print(*m.requires('torch'), sep='\\n')"
    lines = subprocess.run([python, "-c", listed], check=True, capture_output=True, text=True).stdout.splitlines()
    needed = [line for line in lines if "extra ==" not in line and not line.startswith(UNNEEDED)]
    subprocess.run([*pip, *needed, "transformers", "safetensors", "pillow", "numpy"], check=True)
    ready.touch()
    return python


def build():
    """The bench program, and the inputs that both sides read."""
    command = ["cargo", "bench", "--no-run", "--bench", "llmore_bench", "--message-format=json"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    artifacts = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    program = next(a["executable"] for a in artifacts if a.get("target", {}).get("name") == "llmore_bench")
    subprocess.run([program, "export", "--inputs", INPUTS], cwd=ROOT, check=True)
    return program


def busy_seconds():
    """CPU seconds that anybody has used on this machine, time stolen by the hypervisor included."""
    fields = [int(field) for field in open("/proc/stat").readline().split()[1:9]]
    user, nice, system, _idle, _wait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(limit=60):
    """Returns when the machine was idle for a second, or after `limit` seconds."""
    for _ in range(limit):
        busy = busy_seconds()
        time.sleep(1)
        if busy_seconds() - busy < DISTURBED * os.cpu_count():
            return


def run(command):
    """The measurements a command prints, and the share of the machine that others took meanwhile."""
    wait_for_quiet()
    children = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    start, busy, own = time.monotonic(), busy_seconds(), children()
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    others = (busy_seconds() - busy) - (children() - own)
    share = max(others, 0.0) / ((time.monotonic() - start) * os.cpu_count())
    return [json.loads(line) for line in done.stdout.splitlines()], share


def compare(name, commands, options):
    """Alternates both programs until `rounds` pairs were left in peace, or `attempts` pairs were run."""
    pairs = []
    while len(pairs) < max(options.rounds, options.attempts or 3 * options.rounds):
        pair = [run([*command, name, "--threads", str(options.threads), "--inputs", INPUTS]) for command in commands]
        pairs.append((max(share for _, share in pair), [measurements for measurements, _ in pair]))
        print(f"{name}: round {len(pairs)}, others took {pairs[-1][0]:.0%} of the machine", file=sys.stderr)
        if sum(share <= DISTURBED for share, _ in pairs) >= options.rounds:
            break
    pairs.sort(key=lambda pair: pair[0])
    pairs = pairs[:options.rounds]
    return pairs[-1][0], [row(which, [pair for _, pair in pairs]) for which in range(len(pairs[0][1][0]))]


def row(which, pairs):
    """One measurement over all rounds."""
    sides = [[measurements[side][which] for measurements in pairs] for side in (0, 1)]
    for ours, theirs in zip(*sides):
        assert ours["name"] == theirs["name"], (ours["name"], theirs["name"])
        for a, b in zip(ours["losses"], theirs["losses"]):
            assert abs(a - b) <= 2e-3 * abs(b), f"{ours['name']}: losses {a} and {b} are not of the same work"
    seconds = [statistics.median(m["median"] for m in side) for side in sides]
    ratios = sorted(ours["median"] / theirs["median"] for ours, theirs in zip(*sides))
    memory = [statistics.median(m["peak_rss_mb"] for m in side) for side in sides]
    losses = [abs(a - b) for o, t in zip(*sides) for a, b in zip(o["losses"], t["losses"])]
    return {
        "name": sides[0][0]["name"],
        "item": sides[0][0]["item"],
        "seconds": seconds,
        "ratio": seconds[0] / seconds[1],
        "spread": (ratios[0], ratios[-1]),
        "memory": memory,
        "libraries": statistics.median(m["libraries_mb"] for m in sides[1]),
        "loss_difference": max(losses) if losses else None,
    }


def table(rows):
    lines = [
        "| measurement | llmore | torch | llmore / torch (rounds) | peak memory | ratio | without torch's libraries | losses differ by | others |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for share, r in rows:
        ours, theirs = r["memory"]
        low, high = r["spread"]
        loss = "" if r["loss_difference"] is None else f"{r['loss_difference']:.0e}"
        lines.append(
            f"| {r['name']} | {duration(r['seconds'][0])} | {duration(r['seconds'][1])} per {r['item']} "
            f"| **{r['ratio']:.2f}** ({low:.2f} to {high:.2f}) | {ours:.0f} / {theirs:.0f} MB | **{ours / theirs:.2f}** "
            f"| {ours / max(theirs - r['libraries'], 1):.2f} | {loss} | {share:.0%} |"
        )
    return "\n".join(lines)


def duration(seconds):
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def machine(python, options):
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    versions = "import torch, transformers as t; print(f'torch {torch.__version__}, transformers {t.__version__}')"
    peer = subprocess.run([python, "-c", versions], check=True, capture_output=True, text=True).stdout.strip()
    rustc = subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    cpu = model.group(1) if model else platform.processor()
    return (f"{datetime.date.today()}, {cpu}, {os.cpu_count()} cores, {options.threads} threads each, "
            f"{options.rounds} rounds; {peer}, {rustc}, release build with runtime dispatch.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=NAMES, help="may be given more than once")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--attempts", type=int, help="rounds at most, disturbed ones included (default: 3 x rounds)")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count()))
    parser.add_argument("--write", action="store_true", help="write benches/results.md")
    options = parser.parse_args()
    python, program = environment(), build()
    commands = [[program], [python, ROOT / "benches/torch_peer.py"]]
    rows = []
    for name in options.only or NAMES:
        share, measured = compare(name, commands, options)
        rows += [(share, row) for row in measured]
        for row in measured:
            ours, theirs = (duration(seconds) for seconds in row["seconds"])
            print(f"{row['name']}: {ours} against {theirs}, ratio {row['ratio']:.2f}", file=sys.stderr)
    text = f"{machine(python, options)}\n\n{table(rows)}\n"
    print(text)
    if options.write:
        (ROOT / "benches/results.md").write_text(f"# Results of compare.py\n\n{text}")


if __name__ == "__main__":
    main()
