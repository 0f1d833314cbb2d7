"""A demonstration on a micrograph that ships: little dose is given, and the truth is known.

>>> exposed()
('axons', 'gold', 'nanoparticles')
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from emdn import __version__
from emdn.denoiser import Denoiser
from emdn.files import written_whole
from emdn.io import Metadata, MicrographError, write_micrograph
from emdn.metrics import mse
from emdn.noise import add_shot_noise
from emdn.scaling import Scaling
from emdn.specimens.recorded import load, names
from emdn.trust.report import Assessment, as_page, assess

Floats = NDArray[np.float64]

FILES = ("demo.png", "before.tif", "after.tif", "removed.tif", "report.html")
"""What `write` puts into a folder."""

SIDE = 320  # of the square that is shown, in pixels; whole micrographs take twice the time
SCALES = (0.01, 2500.0)  # counts; with fewer nothing is seen, no more were trained on
TEXT = 16  # height of the letters in the figure, in pixels
MARGIN = 12  # around the pictures of the figure, in pixels
SATURATED = 0.5  # per cent of the true pixels that the figure shows black, and white
REMOVED_SPAN = 3.0  # deviations of what was removed, at which the figure is black or white


@dataclass(frozen=True)
class Demonstration:
    """A micrograph that was exposed anew and denoised.

    Parameters
    ----------
    name : str
        Name of the micrograph in `emdn.specimens`.
    scale : float
        Counts expected at its brightest pixel.
    truth : (H, W) array
        Expected counts.
    metadata : Metadata
        What is known of the micrograph, as `emdn.specimens.load` returns it.
    assessment : Assessment
        Counts, denoised counts, and how far they may be believed.
    """

    name: str
    scale: float
    truth: Floats
    metadata: Metadata
    assessment: Assessment

    @property
    def before(self) -> Floats:
        """The (H, W) counts."""
        return self.assessment.noisy

    @property
    def after(self) -> Floats:
        """The (H, W) denoised counts."""
        return self.assessment.denoised

    @property
    def removed(self) -> Floats:
        """What was removed, (H, W), in counts."""
        return self.before - self.after

    @property
    def gained(self) -> float:
        """How many times smaller the mean squared error became."""
        return mse(self.truth, self.before) / mse(self.truth, self.after)

    def sentences(self) -> list[str]:
        """Return what was done, what it gained and whose micrograph it is."""
        told, gained = self.metadata.other, self.gained
        height, width = self.truth.shape
        return [
            f"{self.name}: {told['seen']}",
            f"  {told['modality']}, {height} x {width} pixels. {told['trained']}",
            f"  {told['attribution']}. Licence {told['licence']}, from {told['source']}.",
            f"Exposed anew with {self.scale:g} counts at the brightest pixel, "
            f"{self.truth.mean():.1f} in the mean.",
            f"Denoised: {10 * np.log10(gained):.1f} dB better. The squared error is "
            f"{gained:.1f} times smaller,",
            f"  as after an exposure {gained:.1f} times as long.",
        ]


def exposed() -> tuple[str, ...]:
    """Return the names of the micrographs with so little noise that they may be truths."""
    return tuple(each for each in names() if load(each)[1].other["exposure"] == "exposed")


def demonstrate(
    name: str, scale: float, noise_remover: Denoiser, *, seed: int = 0
) -> Demonstration:
    """Expose the middle of a micrograph that ships with few electrons, and denoise it.

    Parameters
    ----------
    name : str
        One of `exposed()`.
    scale : float
        Counts expected at the brightest pixel, within `SCALES`.
    noise_remover : Denoiser
        One with gain-aware weights.
    seed : int
        Of the counts.

    Raises
    ------
    MicrographError
        If the micrograph does not ship, or is too noisy to be a truth.
    ValueError
        If `scale` is out of bounds.
    """
    least, most = SCALES
    if not least <= scale <= most:
        raise ValueError(f"scale must be from {least:g} to {most:g} counts, got {scale:g}")
    image, metadata = load(name)
    if name not in exposed():
        known = ", ".join(exposed())
        raise MicrographError(f"{name}: has noise of its own, so no truth; take {known}")
    top, left = ((length - SIDE) // 2 for length in image.shape)
    image = image[top : top + SIDE, left : left + SIDE]
    clean = Scaling.of_range(image).apply(image)
    counts = add_shot_noise(clean, scale, np.random.default_rng(seed))
    found = assess(
        counts, lambda image, detector: noise_remover.denoise(image, detector=detector)
    )
    return Demonstration(name, scale, scale * clean.astype(np.float64), metadata, found)


def write(shown: Demonstration, folder: Path) -> list[Path]:
    """Write a figure, the images and a report into a folder, which is made if missing.

    Returns
    -------
    list of Path
        The files of `FILES`, the figure first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in FILES]
    with written_whole(paths[0]) as temporary:
        figure(shown).save(temporary, format="png")
    images = (shown.before, shown.after, shown.removed)
    for path, image in zip(paths[1:4], images, strict=True):
        write_micrograph(path, image.astype(np.float32), shown.metadata, overwrite=True)
    title = f"{shown.name}, {shown.scale:g} counts at the brightest pixel"
    told = shown.metadata.other
    footer = f"emdn {__version__}. {told['attribution']}; {told['licence']}"
    with written_whole(paths[4]) as temporary:
        page = as_page(shown.assessment, title, footer)
        temporary.write_text(page, encoding="utf-8")
    return paths


def figure(shown: Demonstration) -> Image.Image:
    """Draw counts, denoised counts, what was removed, and the truth.

    Counts and truth share one grey scale. What was removed has its own: grey is nothing,
    black and white are three of its deviations.
    """
    dark, bright = np.percentile(shown.truth, [SATURATED, 100 - SATURATED])
    span = REMOVED_SPAN * shown.removed.std()
    height, width = shown.truth.shape
    size, unit = shown.metadata.pixel_size, shown.metadata.unit
    wide = f", {size * width:.0f} {unit} wide" if size else ""
    panels = {
        f"before: {shown.truth.mean():.1f} counts a pixel": (shown.before, dark, bright),
        f"after: {10 * np.log10(shown.gained):.1f} dB better": (shown.after, dark, bright),
        "removed: before minus after": (shown.removed, -span, span),
        f"the micrograph itself{wide}": (shown.truth, dark, bright),
    }
    down, across = height + TEXT + 2 * MARGIN, width + MARGIN
    canvas = Image.new("L", (2 * across + MARGIN, 2 * down + MARGIN), 255)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(TEXT)
    for number, (title, (image, low, high)) in enumerate(panels.items()):
        left = MARGIN + number % 2 * across
        top = MARGIN + number // 2 * down
        draw.text((left, top), title, fill=0, font=font)
        grey = np.clip((image - low) / (high - low), 0, 1)
        picture = Image.fromarray(np.round(255 * grey).astype(np.uint8))
        canvas.paste(picture, (left, top + TEXT + MARGIN // 2))
    return canvas
