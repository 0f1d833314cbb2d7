"""A network adapted to one's own micrograph, without a truth, or undone if no better.

Counts can be divided: when each electron goes to one of two images by the toss of a coin,
both are of shot noise, and their noise is independent. So a tenth of the counts is held
out. The network learns on the others, which are divided anew at each step: what it makes
of one part must predict the other part. Then the tenth that was held out judges both
networks. The adapted one is kept only if its error there is smaller by two standard errors;
otherwise the one before is.

    counts --thinned--> nine tenths --pairs--> network --judged by the tenth--> kept?
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from emdn.anscombe import anscombe
from emdn.detector import Detector
from emdn.files import sha256, written_whole
from emdn.trust.sound import Sound
from emdn.weights import Network, compile_network, read_model, trained_file
from emdn.weights.backends import require_training

if TYPE_CHECKING:
    import keras

Image = NDArray[np.float32]
Remover = TypeVar("Remover")

# studies/trust/adaptation.py measures what these achieve.
LEARNING_SHARE = 0.9  # of the counts; the rest judges
INPUT_SHARE = 0.8  # of those counts, in a step of learning; the rest is to be predicted
STEPS = 40
LEARNING_RATE = 5e-5  # of Adam
CROP = 192  # pixels, side of what a step learns on
MOST_CROPS = 4  # over which the steps take turns
WINDOW = 512  # pixels, largest side of what is judged in one piece
MOST_WINDOWS = 4  # that are judged, spread evenly over a large image or a stack
ENOUGH = 2.0  # standard errors, by which the adapted network must be better

SMALLEST = 64  # pixels, side of an image below which nothing can be learnt or judged
STRIDE = 16  # pixels, the largest stride of any network
FINE = 4.0  # pixels, deviation of the blur that parts fine structure from coarse
ROUNDING = 0.05  # counts, by which a whole number of counts may be off
SEED = 0  # of the division of the counts, so that adapting again gives the same


class Exposure(NamedTuple):
    """An image that a network is to be adapted to.

    Parameters
    ----------
    image : (H, W) array
        The noisy image; all pixels finite.
    unsound : (H, W) array of bool
        Pixels that are no image and were filled, so they judge nothing.
    detector : Detector or None
        What an electron does to a pixel; None if the image shows no noise.
    """

    image: NDArray[np.floating]
    unsound: NDArray[np.bool_]
    detector: Detector | None


@dataclass(frozen=True)
class Adaptation(Generic[Remover]):
    """What became of adapting a network to an image.

    Parameters
    ----------
    denoiser : Denoiser
        With the adapted network if that was kept, otherwise the one that was to be adapted.
    kept : bool
        Whether the adapted network was found to be better.
    reason : str
        Why it was kept or not, in one line.
    before, after : float
        Mean squared error of the two networks in the counts held out, in squares of counts
        a pixel of the whole exposure. The noise of those counts is subtracted, so that it
        is an unbiased estimate of the true one; NaN where nothing was judged.
    error : float
        Standard error of ``after - before``, which is much smaller than that of either.
    seconds : float
        Time that it took.
    card : dict
        What `save` writes beside the weights: what they come from, and these scores.
    """

    denoiser: Remover
    kept: bool
    reason: str
    before: float = math.nan
    after: float = math.nan
    error: float = math.nan
    seconds: float = 0.0
    card: dict[str, Any] = field(default_factory=dict, repr=False)
    model: "keras.Model | None" = field(default=None, repr=False)

    def save(self, path: Path) -> None:
        """Write the adapted weights, and a card in JSON beside them.

        Parameters
        ----------
        path : Path
            File to write or to replace, ``.keras``. ``Denoiser(path)`` uses it. The card
            takes its name, and ends with ``.json``.

        Raises
        ------
        ValueError
            If the adapted weights were not kept, or the file has another suffix.
        """
        check_weights_path(path)
        if self.model is None:
            raise ValueError(f"{path}: there are no adapted weights to save; {self.reason}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path, beside=f".{path.stem}.part.keras") as temporary:
            self.model.save(temporary)
        card = {**self.card, "weights": path.name, "weights_sha256": sha256(path)}
        with written_whole(path.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(card, indent=1) + "\n")


def check_weights_path(path: Path) -> None:
    """Refuse a file of weights whose suffix is another than ``.keras``."""
    if path.suffix != ".keras":
        raise ValueError(f"{path}: must end in .keras, since weights are saved by Keras")


class Unfit(ValueError):
    """An image that no network can be adapted to, and why, in one line."""


def adapt(
    network: Network,
    exposures: Iterable[Exposure],
    using: Callable[[Network], Remover],
    denoise: Callable[[Remover, Image], Image],
) -> Adaptation[Remover]:
    """Adapt a network to an image or a stack; `Denoiser.adapt` calls this.

    Parameters
    ----------
    network : Network
        The network to begin with, gain-aware. It is left alone: another is made from its
        file.
    exposures : iterable of Exposure
        The images, which share one adaptation.
    using : callable
        Makes a denoiser of a network.
    denoise : callable
        Removes by a denoiser the noise of an (H, W) image in counts.

    Returns
    -------
    Adaptation
        With the denoiser of `network` where the noise is no pure shot noise of whole
        counts, or where the adapted network is not found to be better.

    Raises
    ------
    FileNotFoundError
        If the network is of an ONNX file and no Keras file is beside it.
    ModuleNotFoundError
        If TensorFlow or Keras is not installed.
    """
    require_training("adaptation")
    begun, before = time.perf_counter(), using(network)
    rng = np.random.default_rng(SEED)
    try:
        if not network.gain_aware:
            raise Unfit("a blind network knows no counts; use a gain-aware one")
        counts, sounds = _of_counts(exposures)
    except Unfit as error:
        return Adaptation(before, False, f"not adapted: {error}")
    learning = [_thin(image, LEARNING_SHARE, rng) for image in counts]
    origin = trained_file(network.path)
    model = read_model(origin)
    areas = [image[at.window] for image, at in zip(learning, sounds, strict=True)]
    fit(model, richest(areas, CROP, MOST_CROPS), rng)
    after = using(compile_network(origin, model))
    verdict = _judge(
        counts,
        learning,
        [each.judged for each in sounds],
        lambda x: denoise(before, x),
        lambda x: denoise(after, x),
    )
    seconds = time.perf_counter() - begun
    scores = verdict._asdict()
    if not verdict.better:
        return Adaptation(before, False, str(verdict), **scores, seconds=seconds)
    card = {
        "adapted_from": origin.name,
        "adapted_from_sha256": sha256(origin),
        "images": len(counts),
        "counts_sha256": _hash(counts),
        "method": f"{STEPS} steps of Adam at {LEARNING_RATE}, thinned pairs",
        **scores,
        "unit_of_scores": "squared counts a pixel",
    }
    return Adaptation(
        after, True, str(verdict), **scores, seconds=seconds, card=card, model=model
    )


def fit(model: "keras.Model", crops: list[Image], rng: np.random.Generator) -> None:
    """Teach a network, in place, to predict one part of some counts from the other.

    The expected loss is that of the truth and a constant, since the noise of both parts is
    independent: shot noise that is thinned is shot noise.

    Parameters
    ----------
    model : keras.Model
        A gain-aware network of `emdn.networks.build`.
    crops : list of (h, w) arrays
        Counts; sides are multiples of 16. The steps take turns.
    rng : numpy.random.Generator
        Divides the counts.

    References
    ----------
    B. Monroy, J. Bacca and J. Tachella, "Generalized recorrupted-to-recorrupted:
    self-supervised learning beyond Gaussian noise", CVPR (2025).
    """
    import keras
    import tensorflow as tf

    optimizer = keras.optimizers.Adam(LEARNING_RATE)
    optimizer.build(model.trainable_variables)

    def step(noisy: Any, rest: Any) -> None:
        span = tf.reduce_max(noisy)
        factor = (1 - INPUT_SHARE) / INPUT_SHARE
        with tf.GradientTape() as tape:
            denoised = model([noisy / span, span[tf.newaxis]], training=False) * span
            loss = tf.reduce_mean(tf.square(factor * denoised - rest))
            loss /= tf.reduce_mean(rest)  # so that it is about 1 whatever the dose
        optimizer.apply(tape.gradient(loss, model.trainable_variables))

    image: Any = tf.TensorSpec((1, None, None, 1), tf.float32)
    run = tf.function(
        step,
        input_signature=[image, image],
        autograph=False,
        jit_compile=False,  # XLA compiles for a minute on CPUs and is slower there
    )
    for number in range(STEPS):
        crop = crops[number % len(crops)]
        part = _thin(crop, INPUT_SHARE, rng)
        if part.any() and (crop - part).any():
            run(
                part[np.newaxis, ..., np.newaxis],
                (crop - part)[np.newaxis, ..., np.newaxis],
            )


def richest(images: list[Image], side: int, most: int) -> list[Image]:
    """Return the crops that show most fine structure above their shot noise.

    Parameters
    ----------
    images : list of (H, W) arrays
        Counts.
    side : int
        Pixels at a side of a crop; of a smaller image as many as are a multiple of 16.
    most : int
        Number of crops at most. They do not overlap.
    """
    crops, richness = [], []
    for image in images:
        values = anscombe(image)
        fine = np.square(values - gaussian_filter(values, FINE))
        for window in _windows(image.shape, side, STRIDE):
            crops.append(image[window])
            richness.append(float(fine[window].mean()))
    best = np.argsort(richness)[::-1][:most]
    return [crops[number] for number in best]


class _Verdict(NamedTuple):
    """Errors of two networks in counts that neither has seen; see `Adaptation`."""

    before: float
    after: float
    error: float

    @property
    def better(self) -> bool:
        return self.after - self.before < -ENOUGH * self.error

    def __str__(self) -> str:
        found = self.after - self.before
        errors = abs(found) / self.error if self.error > 0 else 0.0
        which = "better" if found < 0 else "worse"
        what = "adapted" if self.better else "adaptation undone"
        return f"{what}: {which} by {errors:.1f} standard errors on counts held out"


def _judge(
    counts: list[Image],
    learning: list[Image],
    judged: list[NDArray[np.bool_]],
    before: Callable[[Image], Image],
    after: Callable[[Image], Image],
) -> _Verdict:
    """Compare two denoisers of the counts learnt on by the counts held out.

    Given what was learnt on, only the counts held out are random, and independent in all
    pixels, so that their own shot noise gives the standard error.
    """
    ratio = (1 - LEARNING_SHARE) / LEARNING_SHARE
    places = [
        (number, window)
        for number, image in enumerate(counts)
        for window in _windows(image.shape, WINDOW, 1)
    ]
    chosen = np.linspace(0, len(places) - 1, min(len(places), MOST_WINDOWS)).round()
    pixels, sums = 0, np.zeros(3)
    for number, window in (places[int(at)] for at in chosen):
        use, seen = judged[number][window], learning[number][window]
        held = (counts[number][window] - seen)[use].astype(np.float64)
        old, new = (ratio * f(seen)[use].astype(np.float64) for f in (before, after))
        pixels += held.size
        # The mean square of noise is the mean of the counts.
        sums += [
            (np.square(old - held) - held).sum(),
            (np.square(new - held) - held).sum(),
            (4 * np.square(new - old) * held).sum(),
        ]
    unit = (1 - LEARNING_SHARE) ** 2 * max(pixels, 1)
    return _Verdict(*(float(each) for each in (*sums[:2] / unit, np.sqrt(sums[2]) / unit)))


def _of_counts(exposures: Iterable[Exposure]) -> tuple[list[Image], list[Sound]]:
    """Return images as whole counts, and where they are sound, or say why not.

    Neighbours stand in for bars and margins too, from which nothing is to be learnt.
    """
    counts, sounds = [], []
    for image, unsound, detector in exposures:
        if detector is None:
            raise Unfit("the image shows no noise")
        if detector.readout > 0 or any(detector.correlation):
            raise Unfit(
                "the noise is no pure shot noise, "
                + (
                    f"the readout adds {detector.readout:.2g} electrons"
                    if detector.readout > 0
                    else "neighbours share it"
                )
            )
        sound = Sound.of(image, unsound)
        electrons = (sound.image - detector.offset) / detector.gain
        whole = np.rint(electrons)
        if whole.min() < 0 or np.abs(electrons - whole).max() > ROUNDING:
            raise Unfit("the grey levels are no whole counts of electrons")
        sides = sound.image[sound.window].shape
        if min(sides) < SMALLEST:
            shape = " x ".join(map(str, sides))
            raise Unfit(f"{shape} pixels are too few, the least are {SMALLEST} at a side")
        counts.append(whole.astype(np.float32))
        sounds.append(sound)
    return counts, sounds


def _thin(counts: Image, share: float, rng: np.random.Generator) -> Image:
    """Return what is left of counts if each electron stays with a probability."""
    return rng.binomial(counts.astype(np.int64), share).astype(np.float32)


def _windows(shape: tuple[int, ...], side: int, multiple: int) -> list[tuple[slice, slice]]:
    """Return windows of a side that do not overlap, in the middle of an image."""
    axes = []
    for length in shape:
        size = min(side, length) // multiple * multiple
        number = length // size
        first = (length - number * size) // 2
        axes.append(
            [slice(first + n * size, first + (n + 1) * size) for n in range(number)]
        )
    return [(row, column) for row in axes[0] for column in axes[1]]


def _hash(counts: list[Image]) -> str:
    """Return the SHA-256 of counts as little-endian integers of 32 bits, row by row."""
    digest = hashlib.sha256()
    for image in counts:
        digest.update(image.astype("<i4").tobytes())
    return digest.hexdigest()
