"""Draw the picture in the README: two real micrographs at little dose, denoised.

python studies/weights/picture.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from emdn import Denoiser
from emdn.plots import GREY, STYLE, SYMBOLS, scale_bar_length
from emdn.trust.demo import REMOVED_SPAN, Demonstration, demonstrate

PICTURE = Path(__file__).parents[2] / "book" / "_static" / "before_after.png"
SHOWN = {"axons": 25.0, "nanoparticles": 10.0}
"""Micrographs, and the counts at their brightest pixel, which the README tells."""
PART = np.s_[50:270, 50:270]  # of what a demonstration shows, so that its grain is seen
SATURATED = 0.5  # per cent of the true pixels that are black, and as many that are white


def draw(row: list[Axes], shown: Demonstration) -> None:
    """Draw counts, denoised counts, what was removed, and the truth."""
    levels = np.percentile(shown.truth, [SATURATED, 100 - SATURATED])
    span = REMOVED_SPAN * shown.removed.std()
    panels = {
        f"before: {shown.truth.mean():.1f} counts a pixel": (shown.before, levels),
        f"after: {10 * np.log10(shown.gained):.1f} dB better": (shown.after, levels),
        "removed: grey is nothing": (shown.removed, (-span, span)),
        "the micrograph itself": (shown.truth, levels),
    }
    for axes, (title, (image, (low, high))) in zip(row, panels.items(), strict=True):
        axes.imshow(image[PART], GREY, vmin=low, vmax=high, interpolation="antialiased")
        axes.set_title(title)
        axes.set_axis_off()
    size, unit = shown.metadata.pixel_size, shown.metadata.unit
    if size is not None and unit is not None:
        draw_bar(row[-1], size, unit)


def draw_bar(axes: Axes, size: float, unit: str) -> None:
    """Draw a scale bar on a dark ground, at the lower left."""
    side = axes.get_images()[0].get_array().shape[0]
    length = scale_bar_length(side * size)
    left, top = 0.04 * side, 0.86 * side
    pixels = length / size
    ground = (left, top), pixels + 0.06 * side, 0.11 * side
    axes.add_patch(Rectangle(*ground, facecolor="black", alpha=0.75))
    bar = (left + 0.03 * side, top + 0.08 * side), pixels, 0.015 * side
    axes.add_patch(Rectangle(*bar, facecolor="white"))
    text = f"{length:g} {SYMBOLS.get(unit, unit)}"
    middle = left + 0.03 * side + pixels / 2
    axes.text(middle, top + 0.07 * side, text, color="white", ha="center", fontsize=8)


def main() -> None:
    """Write the picture."""
    noise_remover = Denoiser(clip=False, progress=False)
    with plt.rc_context(STYLE):
        figure, rows = plt.subplots(len(SHOWN), 4, figsize=(10, 5.5))
        for row, (name, scale) in zip(rows, SHOWN.items(), strict=True):
            draw(list(row), demonstrate(name, scale, noise_remover))
        figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()
