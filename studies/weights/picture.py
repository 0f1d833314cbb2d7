"""Draw the picture in the README: a noisy, a denoised and the true micrograph.

python studies/weights/picture.py
"""

from pathlib import Path

import numpy as np

from emdn import Denoiser
from emdn.noise import noisy_pair
from emdn.plots import show_images
from emdn.specimens import membranes

PICTURE = Path(__file__).parents[2] / "book" / "_static" / "before_after.png"
SCALE = 60.0  # expected counts at the brightest pixel, which the README tells


def main() -> None:
    """Write the picture."""
    rng = np.random.default_rng(3)
    noisy, clean, _ = noisy_pair(membranes((320, 320), rng), SCALE, rng)
    images = {"noisy": noisy, "denoised": Denoiser().denoise(noisy), "truth": clean}
    figure = show_images(images, enlarge=np.s_[130:194, 130:194])
    figure.savefig(PICTURE, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    main()
