"""Damage small files of every format and read them: what comes of it, counted.

    nice python studies/io/fuzz.py --mutations 20000 -o fuzz.json
    nice python studies/io/fuzz.py --every-byte velox.emd ncem.emd a.hspy -o bytes.json

A file is read as `read_micrograph` and `list_images` do, by a worker that this script
starts anew after a crash and ends when a file takes too long. Expected of every file: its
pixels, or one `MicrographError` of one line that names file, fault and remedy. The child
process that reads HDF5 and DM has its limits beside (`emdn.io.child.Limits`); its largest
memory is sampled. With one seed the same files are made again; `--keep` keeps the bad ones.
"""

import argparse
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[2] / "tests"
sys.path.insert(0, str(TESTS))

IMAGE = np.arange(2 * 24 * 40, dtype=np.uint16).reshape(2, 24, 40) * 7
WORKER_MEMORY = 4 * 1024**3  # bytes of address space: a file that wants more is told so
OUTCOMES = ("ok", "refused", "badly told", "other exception", "over time", "crash")


def write_seeds(folder: Path) -> None:
    """Write one whole file of each kind."""
    import mrcfile
    import rsciio.emd
    import rsciio.hspy
    import tifffile
    from helpers.formats import (
        signal,
        write_berkeley,
        write_dm,
        write_ser,
        write_velox,
        write_zspy,
    )
    from PIL import Image

    grey: dict = {"photometric": "minisblack"}
    size = {"resolution": (2e7, 2e7), "resolutionunit": "CENTIMETER", "metadata": None}
    tiffs = {
        "plain.tif": size,
        "imagej.tif": {"imagej": True, "resolution": (2, 2), "metadata": {"unit": "nm"}},
        "ome.tif": {"ome": True, "metadata": {"axes": "TYX", "PhysicalSizeX": 0.5}},
        "big.tiff": {**size, "bigtiff": True},
        "tiles.tif": {**size, "tile": (16, 16), "compression": "zlib"},
        "lzw.tif": {**size, "compression": "lzw", "predictor": True},
    }
    for name, options in tiffs.items():
        tifffile.imwrite(folder / name, IMAGE, **grey, **options)
    for name in ("a.png", "a.bmp", "a.jpg"):
        Image.fromarray(IMAGE[0].astype(np.uint8)).save(folder / name)
    Image.fromarray(IMAGE[0]).save(folder / "16.png")
    np.save(folder / "a.npy", IMAGE)
    for name, image in {"a.mrc": IMAGE, "f.mrc": IMAGE.astype(np.float32)}.items():
        with mrcfile.new(folder / name, image) as file:
            file.voxel_size = 5.0
    tags = {
        "Microscope Info": {"Voltage": 2e5, "Name": "a"},
        "DataBar": {"Signal Name": "BF"},
    }
    for name in ("a.dm3", "a.dm4"):
        thumbnail = IMAGE[0, :8, :8]
        write_dm(folder / name, thumbnail, IMAGE, pixel_size=0.5, thumbnail=0, tags=tags)
    write_ser(folder / "a.ser", IMAGE, pixel_size=5e-10)
    write_velox(folder / "velox.emd", IMAGE, pixel_size=5e-10)
    rsciio.emd.file_writer(str(folder / "ncem.emd"), signal(IMAGE, pixel_size=0.5))
    write_berkeley(folder / "a.h5", IMAGE[0], [("Y", "n_m", 0.5), ("X", "n_m", 0.5)])
    for name in ("a.hspy", "a.hdf5"):
        whole = signal(IMAGE, pixel_size=0.5)
        rsciio.hspy.file_writer(str(folder / name), whole, compression="gzip")
    write_zspy(folder / "a.zspy", IMAGE, pixel_size=0.5)


def mutated(whole: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Damage a file as disks, networks and hostile people do."""
    contents = bytearray(whole)
    kind = rng.choice(["bits", "bytes", "cut", "zeros", "copy", "size", "head"])
    at = int(rng.integers(len(contents)))
    length = int(2 ** rng.uniform(0, 10))
    if kind in ("bits", "head"):
        # Headers lie at the start, and most of the rest is pixels.
        end = len(contents) if kind == "bits" else min(len(contents), 2048)
        for place in rng.integers(end, size=rng.integers(1, 9)):
            contents[place] ^= 1 << int(rng.integers(8))
    elif kind == "bytes":
        contents[at] = int(rng.integers(256))
    elif kind == "cut":
        del contents[at:]
    elif kind == "zeros":
        contents[at : at + length] = bytes(len(contents[at : at + length]))
    elif kind == "copy":
        source = int(rng.integers(len(contents)))
        contents[at:at] = contents[source : source + length]
    else:
        width = int(rng.choice([1, 2, 4, 8]))
        values = [
            0,
            1,
            2 ** (8 * width - 1) - 1,
            2 ** (8 * width - 1),
            2 ** (8 * width) - 1,
        ]
        order = "little" if rng.integers(2) else "big"
        contents[at : at + width] = int(rng.choice(np.array(values, object))).to_bytes(
            width, order
        )
    return str(kind), bytes(contents)


def cases(folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, str, bytes]]:
    """Yield the names of seeds, kinds of damage and contents of damaged files."""
    seeds = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    if options.every_byte:
        for name in options.every_byte:
            whole = seeds[name]
            for at in range(0, len(whole), options.step):
                for kind, value in (("zero", 0), ("bit", whole[at] ^ 1 << at % 8)):
                    if value != whole[at]:
                        yield name, kind, whole[:at] + bytes([value]) + whole[at + 1 :]
        return
    names = [name for name in seeds if not options.only or name in options.only]
    for index in range(options.mutations):
        name = names[index % len(names)]
        rng = np.random.default_rng([options.seed, index])
        yield name, *mutated(seeds[name], rng)


# The worker: reads the names of files from its input, writes an outcome for each


def serve(seconds: float) -> None:
    """Read files until there are no more names."""
    from emdn.io import MicrographError, list_images, read_micrograph
    from emdn.io.child import Limits, ask

    # HDF5's endless loops are many: the child's limit is shorter than the default's 30 s.
    for module in ("hdf5", "rosetta"):
        __import__(f"emdn.io.{module}", fromlist="sources").sources.__defaults__ = (
            Limits(seconds=seconds),
        )
    resource.setrlimit(resource.RLIMIT_AS, (WORKER_MEMORY, WORKER_MEMORY))
    warnings.simplefilter("ignore")
    for name in ("hdf5_layouts", "dm_tags"):  # whose imports take the child seconds
        ask(f"emdn.io.{name}:_text", "")
    print("ready", flush=True)
    for line in sys.stdin:
        path = Path(line[:-1])
        text = ""
        try:
            image, _ = read_micrograph(path)
            zlib.crc32(image)
            for source in list_images(path)[1:4]:
                source.read()
            outcome = "ok"
        except MicrographError as fault:
            text = str(fault)
            one_line = text.isprintable() and len(text) < 400 + len(str(path))
            told = text.startswith(f"{path}: ") and "; " in text and one_line
            outcome = "refused" if told else "badly told"
        except BaseException as error:  # noqa: BLE001
            outcome, text = "other exception", f"{type(error).__name__}: {error}"[:300]
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps([outcome, text, memory]), flush=True)


class Worker:
    """A process that reads files, and is started anew when it must be."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start the process, if none runs, and wait until it has imported what it needs."""
        if self.process is not None:
            return
        command = [sys.executable, __file__, "--serve", str(self.seconds)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        self.process = process

    def read(self, path: Path) -> tuple[str, str, int, int]:
        """Return outcome, text, and peak memory of the worker and its child in bytes."""
        process = self.process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        # Twice the child's limit, since what is described is then read, and a start.
        end, child = time.monotonic() + 2 * self.seconds + 20, 0
        while not select.select([process.stdout], [], [], 0.1)[0]:
            child = max(child, peak_below(process.pid))
            if time.monotonic() > end:
                self.stop(kill=True)
                return "over time", "", 0, child
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self.process = None
            return "crash", f"exit code {code}", 0, child
        outcome, text, memory = json.loads(line)
        return outcome, text, memory, child

    def stop(self, *, kill: bool = False) -> None:
        """End the process, at once or when it has nothing more to read."""
        if self.process is None:
            return
        if kill:
            self.process.kill()
        self.process.communicate()
        self.process = None


def peak_below(process: int) -> int:
    """Return the largest peak of memory, in bytes, of a process's children and theirs."""
    peak = 0
    for child in children(process):
        peak = max(peak, peak_below(child))
        try:
            status = Path(f"/proc/{child}/status").read_text()
        except OSError:
            continue
        lines = (line.split() for line in status.splitlines())
        peak = max(
            [peak, *(1024 * int(words[1]) for words in lines if words[0] == "VmHWM:")]
        )
    return peak


def children(process: int) -> list[int]:
    """Return the ids of a process's children."""
    try:
        tasks = Path(f"/proc/{process}/task").iterdir()
        return [
            int(each) for task in tasks for each in (task / "children").read_text().split()
        ]
    except OSError:
        return []


def main() -> None:
    """Make the files, have them read, and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mutations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], help="names of seeds")
    parser.add_argument("--every-byte", nargs="+", default=[], help="names of seeds")
    parser.add_argument("--step", type=int, default=1, help="of --every-byte")
    parser.add_argument("--seconds", type=float, default=5.0, help="for the child, a file")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--keep", type=Path, help="folder for files of bad outcomes")
    parser.add_argument("-o", "--output", type=Path, default=Path("fuzz.json"))
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return

    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        seeds = Path(folder, "seeds")
        seeds.mkdir()
        write_seeds(seeds)
        workers = [Worker(options.seconds) for _ in range(options.workers)]

        def read(case: tuple[int, tuple[str, str, bytes]]) -> None:
            index, (name, kind, contents) = case
            path = Path(folder, f"{index}-{name}")
            path.write_bytes(contents)
            worker = workers.pop()
            worker.start()
            start = time.monotonic()
            found = worker.read(path)
            seconds = time.monotonic() - start
            workers.append(worker)
            path.unlink()
            report.add(name, f"{index}-{name}, {kind}", seconds, *found)
            if found[0] not in ("ok", "refused") and options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / path.name).write_bytes(contents)

        waiting = enumerate(cases(seeds, options))
        with ThreadPoolExecutor(options.workers) as pool:
            while batch := list(islice(waiting, 200)):
                list(pool.map(read, batch))
                print(dict(report.total), file=sys.stderr, flush=True)
        for worker in workers:
            worker.stop()
    found = report.summary(options.seed)
    options.output.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found | {"bad": found["bad"][:10]}, indent=2))


class Report:
    """What came of the files, counted."""

    def __init__(self):
        self.started = time.monotonic()
        self.counts: dict[str, Counter[str]] = {}
        self.ended: dict[str, list[str]] = {}
        self.worker = self.child = 0
        self.slowest = (0.0, "")
        self.bad: list[dict[str, str]] = []

    @property
    def total(self) -> "Counter[str]":
        """Outcomes of all files."""
        return sum(self.counts.values(), Counter())

    def add(
        self,
        name: str,
        case: str,
        seconds: float,
        outcome: str,
        text: str,
        worker: int,
        child: int,
    ) -> None:
        """Count one file: its seed, itself, and what `Worker.read` returned."""
        self.counts.setdefault(name, Counter())[outcome] += 1
        for end in ("took more than", "crashed the library", "needs more memory"):
            if end in text:
                self.ended.setdefault(end, []).append(case)
        self.worker, self.child = max(self.worker, worker), max(self.child, child)
        self.slowest = max(self.slowest, (round(seconds, 1), case))
        if outcome not in ("ok", "refused"):
            self.bad.append({"case": case, "outcome": outcome, "text": text})

    def summary(self, seed: int) -> dict:
        """Return the figures: numbers of files, seconds, and megabytes."""
        total = self.total
        return {
            "files": total.total(),
            "seed": seed,
            "seconds": round(time.monotonic() - self.started),
            "slowest_file": self.slowest,
            "outcomes": {outcome: total[outcome] for outcome in OUTCOMES},
            "refused_since_the_child": {k: len(v) for k, v in self.ended.items()},
            "largest_mb": {"worker": self.worker // 10**6, "child": self.child // 10**6},
            "by_format": {name: dict(each) for name, each in sorted(self.counts.items())},
            "bad": self.bad[:100],
            "ended_in_the_child": {k: v[:100] for k, v in self.ended.items()},
        }


if __name__ == "__main__":
    main()
