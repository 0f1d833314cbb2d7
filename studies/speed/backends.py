"""Compare what can run the networks: time, memory, and the share of the processor's peak.

    python studies/speed/backends.py --rounds 3

Each candidate has a process of its own, so that its first call and its memory are its own.
The processes take turns, image by image, so that a busy machine is as unkind to one as to
another; processor time tells more there than the wall's. The peak is that of NumPy's
product of two float32 matrices of 2048 x 2048, on one thread, which takes its turn as well.
By Winograd's algorithm ncnn needs fewer operations than are counted, so that its share may
exceed one. So may TensorFlow's in bfloat16, which it uses where the processor has it. ncnn
is compared where it is installed: `pip install "emdn[fast,train]"`.
"""

import argparse
import csv
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

RESULT = Path(__file__).parents[1] / "results" / "backends.csv"
SIDES = (256, 512, 1024, 2048)  # pixels
GEMM = 2048  # side of the matrices whose product shows the peak
SCALE = 60.0  # counts at the brightest pixel


class Candidate(NamedTuple):
    """What runs a network, or multiplies matrices, and by how many threads."""

    network: str
    backend: str
    precision: str
    threads: int


def work(candidate: Candidate, pipe: Any) -> None:
    """Take the sides of images, and answer with what denoising them takes."""
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "OPENBLAS_NUM_THREADS")
    os.environ |= dict.fromkeys(names, str(candidate.threads))
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    import numpy as np

    rng = np.random.default_rng(0)
    run = None
    while side := pipe.recv():
        if candidate.backend == "sgemm":
            matrix = rng.normal(size=(GEMM, GEMM)).astype(np.float32)
            pipe.send(timed(lambda m=matrix: m @ m))
            continue
        image = rng.poisson(SCALE, size=(side, side)).astype(np.float32)

        def denoise(image: Any = image) -> Any:
            nonlocal run
            if run is None:  # which is part of the first call
                from emdn import Denoiser

                _, backend, precision, _ = candidate
                chosen: Any = {"backend": backend, "precision": precision}
                run = Denoiser(candidate.network, progress=False, **chosen).denoise
            return run(image, gain=1.0)

        pipe.send(timed(denoise))


def timed(call: Any) -> dict[str, float]:
    """Return what a call takes: seconds, those of the processor, and memory in MB."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return {
        "wall": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,  # Linux: kB
    }


@contextmanager
def started(candidates: list[Candidate]) -> Iterator[dict[Candidate, Any]]:
    """Start a process for each candidate, and give the pipes to them."""
    context, pipes, processes = multiprocessing.get_context("spawn"), {}, []
    for candidate in candidates:
        pipes[candidate], theirs = context.Pipe()
        processes.append(context.Process(target=work, args=(candidate, theirs)))
        processes[-1].start()
    yield pipes
    for pipe in pipes.values():
        pipe.send(0)
    for process in processes:
        process.join()


def candidates(threads: list[int]) -> list[Candidate]:
    """Return the ways to run the gain-aware networks that are compared here."""
    from emdn.weights.backends import choose_precision, has_ncnn

    ways = [("auto", "onnx", "float32"), ("auto", "tensorflow", "float32")]
    if has_ncnn():
        ways.append(("auto", "ncnn", "float32"))
    if choose_precision("auto", tensorflow=True) == "bfloat16":
        ways.append(("auto", "tensorflow", "bfloat16"))
    ways.append(("compact", "onnx", "float32"))
    return [Candidate(*way, number) for number in threads for way in ways]


def processor() -> str:
    """Return the name of the processor, as Linux tells it, or as Python does."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} threads"


def main() -> None:
    """Measure, print a table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3, help="warm calls of each")
    arguments = parser.parse_args()

    gemm = Candidate("", "sgemm", "float32", 1)
    networks = candidates(arguments.threads)
    rows = []
    with started([gemm, *networks]) as pipes:
        # Only now, since Linux counts the memory of a process to those that it starts.
        from emdn.networks.inference import count_macs
        from emdn.weights import read_model

        operations = {  # multiplications a pixel
            name: count_macs(read_model(name), (512, 512)) / 512**2
            for name in {each.network for each in networks}
        }

        def ask(candidate: Candidate, side: int) -> dict[str, float]:
            pipes[candidate].send(side)
            return pipes[candidate].recv()

        ask(gemm, GEMM)
        first = {each: ask(each, arguments.sides[0])["wall"] for each in networks}
        for side in arguments.sides:
            taken = {each: [] for each in (gemm, *networks)}
            for _ in range(arguments.rounds):
                for each, calls in taken.items():
                    calls.append(ask(each, side))
            middle = {
                each: {key: statistics.median(c[key] for c in calls) for key in calls[0]}
                for each, calls in taken.items()
            }
            peak = GEMM**3 / middle[gemm]["processor"]
            for each in networks:
                found = middle[each]
                rows.append(
                    {
                        **each._asdict(),
                        "side": side,
                        "first_call_s": round(first[each], 2),
                        "wall_s": round(found["wall"], 3),
                        "processor_s": round(found["processor"], 3),
                        "s_per_megapixel": round(found["processor"] / side**2 * 1e6, 3),
                        "share_of_peak": round(
                            operations[each.network] * side**2 / found["processor"] / peak,
                            3,
                        ),
                        "memory_mb": round(taken[each][-1]["memory"]),
                        "peak_gmac_s": round(peak / 1e9, 1),
                        "load": round(os.getloadavg()[0], 1),
                        "processor": processor(),
                    }
                )
                print(*rows[-1].values(), sep="\t", flush=True)
    with RESULT.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
