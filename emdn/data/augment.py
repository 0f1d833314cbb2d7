"""Changes of magnification, contrast and sharpness, which widen what a network learns."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from emdn.noise import NoisyPair, add_shot_noise
from emdn.scaling import Scaling

INVERTED, BLURRED, PARTIAL, MISTOLD = 0.25, 0.25, 0.5, 0.2  # shares of augmented crops
GRAINY = 0.5  # and of those with grain in the truth
GRAIN = (0.002, 0.03)  # its deviation, where the brightest pixel of an image is 1
SYMMETRIES = 8  # of the square: four rotations, each mirrored or not


def augmented(
    crop: NDArray[np.float32], side: int, scale: float, rng: np.random.Generator
) -> NoisyPair:
    """Make a pair of a crop whose magnification, contrast and sharpness are changed.

    It is resized, bent by a gamma, sometimes inverted or blurred, and for half of the
    pairs fills only a part of the range, as a tile of a large image does. Micrographs have
    a noise of their own, which counts as truth here; random scenes and what was resized
    have none, so half of the pairs get some. For a fifth of the pairs the gain is off by
    20 % or so, as a measured gain is.

    Parameters
    ----------
    crop : (h, h) array
        Of any size, in any units.
    side : int
        Of the pair.
    scale : float
        Counts at the brightest pixel of the image that the crop stands for.
    rng : numpy.random.Generator
        Source of randomness.
    """
    image: Any = Image.fromarray(Scaling.of_range(crop).apply(crop))
    if crop.shape != (side, side):
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    clean = np.clip(np.asarray(image), 0, 1) ** np.exp(rng.normal(0, 0.3))
    if rng.random() < INVERTED:
        clean = 1 - clean
    if rng.random() < BLURRED:
        clean = gaussian_filter(clean, rng.uniform(0.3, 1.5))
    clean = Scaling.of_range(clean).apply(clean)
    if rng.random() < PARTIAL:
        span = rng.uniform(0.15, 1)
        clean = clean * span + rng.uniform(0, 1 - span)
    if rng.random() < GRAINY:
        clean = clean + _grain(clean.shape, rng)
    clean = np.clip(clean, 0, 1)
    counts = add_shot_noise(clean, scale, rng)
    # The whole image's brightest pixel lies about so far above what is expected there.
    brightest = max(counts.max(), scale + rng.uniform(1, 4) * math.sqrt(scale))
    unit = np.float32(brightest if rng.random() < PARTIAL else counts.max() or 1)
    told = float(unit) * (math.exp(rng.normal(0, 0.2)) if rng.random() < MISTOLD else 1.0)
    return NoisyPair(counts / unit, (clean * (scale / unit)).astype(np.float32), 1 / told)


def _grain(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.floating]:
    """Draw noise of the strengths that real micrographs have, white or nearly so."""
    noise = rng.standard_normal(shape)
    if rng.random() < 0.5:
        noise = gaussian_filter(noise, rng.uniform(0.3, 0.8))
    return noise * (math.exp(rng.uniform(*np.log(GRAIN))) / noise.std())


def symmetric(image: NDArray, number: int) -> NDArray:
    """Turn an image by a quarter `number % 4` times, and mirror it from 4 on.

    Examples
    --------
    >>> [symmetric(np.array([[0, 1], [2, 3]]), n).ravel().tolist() for n in (0, 1, 4)]
    [[0, 1, 2, 3], [1, 3, 0, 2], [1, 0, 3, 2]]
    """
    turned = np.rot90(image, number % 4)
    return turned[:, ::-1] if number >= 4 else turned
