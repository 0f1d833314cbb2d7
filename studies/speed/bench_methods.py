"""Time and memory of every method, each in a fresh process of its own.

    python studies/speed/bench_methods.py                        # all but peers
    python studies/speed/bench_methods.py --peers --sides 512
    python studies/speed/bench_methods.py --methods emdn wavelet-vst

Prints a Markdown table and writes ``emdn/benchmark/results/methods.csv``. The time is the
median of five calls after one that is not counted, on a synthetic micrograph of low dose,
by one thread unless more are wanted.
The memory is the peak of what the process held in memory at any moment: of all libraries,
of weights, and of what compiled code allocates behind Python's back. What it held before
the first call stands beside it, so that the difference is the method's own;
libraries that only the first call loads, as those of peers are, count to the method.
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from backends import processor  # beside this script

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "emdn" / "benchmark" / "results" / "methods.csv"
CALLS = 5
SCALE = 80.0  # counts at the brightest pixel
FIELDS = ("method", "side", "seconds", "first", "peak_mb", "before_mb", "threads")
FIELDS += ("processor",)
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


def memory(*, peak: bool) -> float:
    """Return the resident memory of this process now, or its peak so far, in MB."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not `resource`, which on Linux starts from what the parent held.
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM" if peak else "VmRSS"].split()[0]) / 1e3
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def forget_peak() -> None:
    """Let the peak begin from now, where Linux can."""
    switch = Path("/proc/self/clear_refs")
    if switch.is_file():
        switch.write_text("5")


def measure(name: str, side: int) -> dict[str, float]:
    """Measure a method in this process."""
    import numpy as np

    from emdn.benchmark.methods import METHODS
    from emdn.noise import noisy_pair
    from emdn.specimens.micrographs import membranes

    rng = np.random.default_rng(0)
    noisy, _, gain = noisy_pair(membranes((side, side), rng), SCALE, rng)
    method = METHODS[name].at("low")
    before = memory(peak=False)
    forget_peak()
    seconds = []
    for _ in range(1 + CALLS):
        begun = time.perf_counter()
        method(noisy, gain)
        seconds.append(time.perf_counter() - begun)
    return {
        "seconds": float(np.median(seconds[1:])),
        "first": seconds[0],
        "peak_mb": max(before, memory(peak=True)),
        "before_mb": before,
    }


def measure_apart(name: str, side: int, threads: int) -> dict[str, str | float]:
    """Measure a method in a new process."""
    command = [sys.executable, __file__, "--one", name, "--sides", str(side)]
    environment = os.environ | dict.fromkeys(THREADS, str(threads))
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    measured = json.loads(done.stdout.splitlines()[-1])
    told = {"threads": threads, "processor": processor()}
    return {"method": name, "side": side, **measured, **told}


def table(rows: list[dict]) -> str:
    """Return rows as Markdown, a line a method."""
    sides = list(dict.fromkeys(row["side"] for row in rows))
    titles = [f"{side} px, s | peak MB | of it before" for side in sides]
    lines = [f"| method | {' | '.join(titles)} |", "|---" * (1 + 3 * len(sides)) + "|"]
    for name in dict.fromkeys(row["method"] for row in rows):
        cells = [
            f"{row['seconds']:.3g} | {row['peak_mb']:.0f} | {row['before_mb']:.0f}"
            for row in rows
            if row["method"] == name
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure methods, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=[])
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.sides[0])))
        return
    from emdn.benchmark.methods import choose

    rows = []
    for method in choose(arguments.methods, with_peers=arguments.peers):
        for side in arguments.sides:
            rows.append(measure_apart(method.name, side, arguments.threads))
            print(rows[-1], file=sys.stderr, flush=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    print(table(rows))


if __name__ == "__main__":
    main()
