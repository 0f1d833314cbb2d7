"""Methods for benchmarks of tests, at the top of a module so that processes find them."""

import os
import signal
from pathlib import Path

from emdn.benchmark.filters import BASELINES


def cheap(dose_range):  # noqa: ARG001
    """Return three filters that take no time."""
    return {name: BASELINES[name] for name in ("unfiltered", "Gaussian", "median")}


def deadly(dose_range):
    """Return the same, the last of which kills its process, the first time it is called."""
    flag = Path(os.environ["EMDN_TEST_FLAG"])

    def median_or_death(noisy, counts):
        if flag.exists():
            flag.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return BASELINES["median"](noisy, counts)

    return {**cheap(dose_range), "median": median_or_death}
