"""Compare `Denoiser` with one plain `model.predict` per tile, on 2048 x 2048 pixels.

    pytest studies/speed/bench_denoiser.py
    pytest studies/speed/bench_denoiser.py -k auto    # for its own peak memory

The table's brackets hold the ratio of medians. Below it stands the largest memory that the
process has held, TensorFlow included; it only grows, so the first benchmark has its own.
"""

import resource
import sys

import numpy as np
import pytest

from emdn.denoiser import Denoiser
from emdn.noise import noisy_pair
from emdn.specimens.micrographs import membranes
from emdn.tiling import Tiling, merge, split
from emdn.weights import read_model

SHAPE = (2048, 2048)
ROUNDS = 5


@pytest.fixture(scope="module")
def noisy():
    """Make a micrograph of low dose in [0, 1]."""
    rng = np.random.default_rng(0)
    return noisy_pair(membranes(SHAPE, rng), 80.0, rng).noisy


@pytest.fixture(autouse=True)
def peak_memory(capsys):
    """Print the largest resident memory of the process so far."""
    yield
    unit = 1e6 if sys.platform == "darwin" else 1e3  # macOS counts bytes, Linux kB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    with capsys.disabled():
        print(f"\npeak memory of the process so far: {peak:.0f} MB")


@pytest.mark.parametrize("dose", ["low", "auto"])
def test_denoiser(dose, benchmark, noisy):
    """Scale, tile, denoise and merge with folded batch norms and a compiled graph."""
    denoise = Denoiser(dose, progress=False).denoise
    benchmark.pedantic(denoise, (noisy,), rounds=ROUNDS, warmup_rounds=1)


def test_predict_per_tile(benchmark, noisy):
    """Run the trained Keras model as it was saved on the paper's tiles, one by one."""
    model = read_model("low")
    tiling = Tiling(SHAPE, size=(512, 512), overlap=25)

    def predict():
        tiles = split(noisy, tiling)[..., np.newaxis]
        done = [model.predict(tile[np.newaxis], verbose=0)[0, ..., 0] for tile in tiles]
        return merge(np.stack(done), tiling)

    benchmark.pedantic(predict, rounds=ROUNDS, warmup_rounds=1)
