"""A folder of micrographs, and one benchmark of them."""

import numpy as np
import pytest
from helpers.cheap_methods import CHEAP

from emdn.benchmark.instances import BenchmarkConfig
from emdn.benchmark.run import run_benchmark
from emdn.data.corpus import Entry, write_manifest
from emdn.io import write_micrograph
from emdn.specimens.micrographs import micrograph


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Make six micrographs of three sources, four of them to test on."""
    path = tmp_path_factory.mktemp("micrographs")
    rng = np.random.default_rng(0)
    entries = []
    for number, source in enumerate("aabbcc"):
        file = f"{number}.tif"
        write_micrograph(path / file, micrograph((40 + 8 * number, 64), rng))
        split = "val" if source == "c" else "test"
        entries.append(Entry(file, source, split, f"kind {source}"))
    write_manifest(path, entries)
    return path


@pytest.fixture(scope="session")
def config(folder):
    return BenchmarkConfig(folder, instances=5, crop=48)


@pytest.fixture(scope="session")
def whole(config, tmp_path_factory):
    """Run the benchmark once without any accident."""
    return run_benchmark(config, tmp_path_factory.mktemp("whole") / "rows.csv", CHEAP)


@pytest.fixture
def scores(whole, tmp_path):
    """Return a copy of the whole benchmark to damage."""
    path = tmp_path / "rows.csv"
    path.write_bytes(whole.read_bytes())
    path.with_suffix(".json").write_bytes(whole.with_suffix(".json").read_bytes())
    return path
