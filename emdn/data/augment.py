"""Changes of magnification, contrast and sharpness, which widen what a network learns.

crop of a micrograph --magnify, bend, invert, blur, dim, grain--> truth --shot noise--> pair
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from emdn.noise import NoisyPair, add_shot_noise
from emdn.scaling import Scaling

SYMMETRIES = 8  # of the square: four rotations, each mirrored or not
LEAST_MAGNIFIED, MOST_MAGNIFIED = 0.5, 1.5  # sides of a pair in sides of its crop
GRAIN_BLUR = (0.3, 0.8)  # standard deviation in pixels of the blur of half of the grains
PEAK = (1.0, 4.0)  # how far noise lifts the brightest pixel of an image, in deviations


@dataclass(frozen=True)
class Augmentation:
    """What is changed at random in crops for training, how often and how much.

    The values are choices, tried on validation pairs of the shipped network; the paper has
    no augmentation but the symmetries of the square.

    Parameters
    ----------
    magnification : float
        Standard deviation of the logarithm of the magnification, which stays between 1/2
        and 3/2.
    gamma : float
        Standard deviation of the logarithm of the exponent that bends the grey levels.
    inverted : float
        Share of crops whose bright and dark are exchanged.
    blurred : float
        Share of crops that are blurred.
    blur : tuple of 2 float
        Least and largest standard deviation of a Gaussian blur, in pixels.
    partial : float
        Share of crops that fill only a part of the grey levels, as a tile of a large image
        does; and of pairs in which a pixel outside of the tile is the brightest.
    span : tuple of 2 float
        Least and largest part of the grey levels that such a crop fills.
    grained : float
        Share of truths that get a grain. Micrographs have a noise of their own, which
        counts as truth here; random scenes and what was resized have none.
    grain : tuple of 2 float
        Least and largest standard deviation of the grain, where the brightest pixel of an
        image is 1. Its logarithm is uniform between them.
    misjudged : float
        Share of pairs whose gain is off, as a measured gain is.
    misjudgement : float
        Standard deviation of the logarithm of how much it is off.
    """

    magnification: float = 0.4
    gamma: float = 0.3
    inverted: float = 0.25
    blurred: float = 0.25
    blur: tuple[float, float] = (0.3, 1.5)
    partial: float = 0.5
    span: tuple[float, float] = (0.15, 1.0)
    grained: float = 0.5
    grain: tuple[float, float] = (0.002, 0.03)
    misjudged: float = 0.2
    misjudgement: float = 0.2

    def __post_init__(self) -> None:
        for name in ("inverted", "blurred", "partial", "grained", "misjudged"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"{name} must be a share from 0 to 1, got {getattr(self, name)}"
                )
        for name in ("magnification", "gamma", "misjudgement"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name, most in (("blur", math.inf), ("span", 1.0), ("grain", 1.0)):
            low, high = getattr(self, name)
            if not 0 < low <= high <= most or high == math.inf:
                raise ValueError(
                    f"{name} must be two numbers, 0 < least <= largest"
                    f"{'' if most == math.inf else f' <= {most:g}'}, got {(low, high)}"
                )

    def crop_side(self, side: int, available: int, rng: np.random.Generator) -> int:
        """Draw the side of a crop that is to become one of another side, in pixels.

        Parameters
        ----------
        side : int
            Side of the crop after it was magnified, in pixels.
        available : int
            Shorter side of the image, in pixels; at least `side`.
        rng : numpy.random.Generator
            Source of randomness.
        """
        largest = min(available, side / LEAST_MAGNIFIED)
        drawn = side * np.exp(rng.normal(0, self.magnification))
        return int(np.clip(drawn, side / MOST_MAGNIFIED, largest))


def augmented(
    crop: NDArray[np.float32],
    side: int,
    scale: float,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> NoisyPair:
    """Make a pair of a crop whose magnification, contrast and sharpness are changed.

    Parameters
    ----------
    crop : (h, h) array
        A square part of a micrograph, of any side and in any units.
    side : int
        Side of the pair in pixels, to which the crop is magnified.
    scale : float
        Counts expected at the brightest pixel of the image that the crop is a part of.
    augmentation : Augmentation
        What is changed, how often and how much.
    rng : numpy.random.Generator
        Source of randomness.
    """
    clean = _changed(_magnified(crop, side), augmentation, rng)
    counts = add_shot_noise(clean, scale, rng)
    peak = max(counts.max(), scale + rng.uniform(*PEAK) * math.sqrt(scale))
    brightest = np.float32(
        peak if rng.random() < augmentation.partial else counts.max() or 1
    )
    off = 1.0
    if rng.random() < augmentation.misjudged:
        off = math.exp(rng.normal(0, augmentation.misjudgement))
    truth = (clean * (scale / brightest)).astype(np.float32)
    return NoisyPair(counts / brightest, truth, 1 / (float(brightest) * off))


def symmetric(image: NDArray, number: int) -> NDArray:
    """Turn an image by a quarter `number % 4` times, and mirror it from 4 on.

    Examples
    --------
    >>> [symmetric(np.array([[0, 1], [2, 3]]), n).ravel().tolist() for n in (0, 1, 4)]
    [[0, 1, 2, 3], [1, 3, 0, 2], [1, 0, 3, 2]]
    """
    turned = np.rot90(image, number % 4)
    return turned[:, ::-1] if number >= 4 else turned


def _magnified(crop: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Stretch a crop to [0, 1] and resize it."""
    image: Any = Image.fromarray(Scaling.of_range(crop).apply(crop))
    if crop.shape != (side, side):
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(image), 0, 1)


def _changed(
    clean: NDArray[np.floating], augmentation: Augmentation, rng: np.random.Generator
) -> NDArray[np.floating]:
    """Bend, invert, blur and dim an image in [0, 1], and give it a grain."""
    clean = clean ** np.exp(rng.normal(0, augmentation.gamma))
    if rng.random() < augmentation.inverted:
        clean = 1 - clean
    if rng.random() < augmentation.blurred:
        clean = gaussian_filter(clean, rng.uniform(*augmentation.blur))
    clean = Scaling.of_range(clean).apply(clean)
    if rng.random() < augmentation.partial:
        span = rng.uniform(*augmentation.span)
        clean = clean * span + rng.uniform(0, 1 - span)
    if rng.random() < augmentation.grained:
        clean = clean + _grain(clean.shape, augmentation.grain, rng)
    return np.clip(clean, 0, 1)


def _grain(
    shape: tuple[int, ...], deviations: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.floating]:
    """Draw noise of the strengths that real micrographs have, white or nearly so."""
    noise = rng.standard_normal(shape)
    if rng.random() < 0.5:
        noise = gaussian_filter(noise, rng.uniform(*GRAIN_BLUR))
    return noise * (math.exp(rng.uniform(*np.log(deviations))) / noise.std())
