"""Run notebooks, two at a time, each in an empty folder, and list what passed."""

import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

TIMEOUT = 300  # seconds for one cell


def run(path: Path) -> tuple[str, float, str]:
    """Return the name of a notebook, the seconds that it ran, and where it stopped."""
    notebook, begin, fault = nbformat.read(path, 4), time.monotonic(), ""
    with tempfile.TemporaryDirectory() as empty:
        client = NotebookClient(
            notebook, timeout=TIMEOUT, resources={"metadata": {"path": empty}}
        )
        try:
            client.execute()
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            fault = str(error)
    return path.stem, time.monotonic() - begin, fault


def main(folder: Path) -> int:
    """Run the notebooks of a folder; return how many failed."""
    paths = sorted(folder.glob("*.ipynb"))
    begin, faults = time.monotonic(), {}
    with ProcessPoolExecutor(2) as pool:
        for name, seconds, fault in pool.map(run, paths):
            print(f"{name:<20} {seconds:5.0f} s  {'failed' if fault else 'passed'}")
            if fault:
                faults[name] = fault
    for name, fault in faults.items():
        print(f"\n{name}:\n{fault}")
    print(
        f"{len(paths) - len(faults)} of {len(paths)} notebooks passed "
        f"in {time.monotonic() - begin:.0f} s"
    )
    return len(faults)


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1])), 1))
