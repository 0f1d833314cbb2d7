"""A slider through doses, for notebooks and for rendered pages.

All pictures are made beforehand, and the browser itself links them to the slider, so that
the slider works without a kernel too.
"""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any

import ipywidgets
import numpy as np
import PIL.Image
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from emdn.denoiser import Denoiser
from emdn.metrics import psnr, ssim
from emdn.noise import add_shot_noise
from emdn.plots import show_images
from emdn.scaling import to_unit
from emdn.spectrum import as_image

SCALES = (5, 10, 25, 50, 100, 250, 500, 1000, 2500)  # counts at the brightest pixel
WIDE: Any = {"width": "100%", "max_width": "860px"}  # a page's column, as CSS has it
DPI = 110  # pixels of a picture for each inch of its figure
COLOURS = 64  # of a picture, which then has a third of the bytes of one of all colours


def dose_slider(
    clean: ArrayLike,
    denoise: Callable[[NDArray[np.float32]], ArrayLike] | None = None,
    *,
    scales: Sequence[float] = SCALES,
    seed: int = 0,
    enlarge: tuple[slice, slice] | None = None,
) -> ipywidgets.VBox:
    """Show a specimen at one dose after another: noisy, denoised and true.

    Parameters
    ----------
    clean : (H, W) array
        A micrograph of high dose in any units, or one of `emdn.specimens`. Its range is
        stretched to [0, 1], as the paper does.
    denoise : callable, optional
        Function that takes counts, (H, W), and returns them without their noise; by default
        the method of an `emdn.Denoiser`.
    scales : sequence of float
        Two or more numbers of counts at the brightest pixel, with a picture for each.
    seed : int
        Seed of the noise.
    enlarge : pair of slices, optional
        Region to enlarge, as in `emdn.plots.show_images`.

    Returns
    -------
    ipywidgets.VBox
        A slider and the pictures that it chooses from: images on one grey scale, under the
        dose of the noisy image and the PSNR and the SSIM of the denoised one.

    Raises
    ------
    ValueError
        If `clean` is no finite image, or `scales` are fewer than two or not positive.

    Examples
    --------
    >>> from emdn.specimens import lattice
    >>> specimen = lattice((64, 64), np.random.default_rng(0))
    >>> slider, pictures = dose_slider(specimen, np.copy, scales=(20, 200)).children
    >>> slider.options, len(pictures.children)
    (('20', '200'), 2)
    """
    if len(scales) < 2:
        raise ValueError(f"scales must be two or more, for a slider, got {len(scales)}")
    truth = to_unit(as_image("clean", clean))
    denoise = denoise or Denoiser(progress=False).denoise
    figures = {}
    for scale in scales:
        noisy = add_shot_noise(truth, scale, np.random.default_rng(seed))
        denoised = np.asarray(denoise(noisy))
        similarity = ssim(truth, denoised / scale, data_range=1)
        decibels = psnr(truth, denoised / scale, data_range=1)
        images = {
            f"noisy: {noisy.mean():.3g} counts per pixel": noisy,
            f"PSNR {decibels:.1f} dB, SSIM {similarity:.2f}": denoised,
            "truth": truth * scale,
        }
        figures[f"{scale:g}"] = show_images(images, enlarge=enlarge)
    return _linked(figures, "counts at the brightest pixel")


def _linked(figures: Mapping[str, Figure], label: str) -> ipywidgets.VBox:
    """Return a slider under a label, and a stack of pictures of which it shows one."""
    slider = ipywidgets.SelectionSlider(
        options=list(figures), description=label, layout=WIDE
    )
    slider.style.description_width = "initial"
    pictures = [
        ipywidgets.Image(value=_png(figure), layout=WIDE) for figure in figures.values()
    ]
    stack = ipywidgets.Stack(pictures, selected_index=0)
    ipywidgets.jslink((slider, "index"), (stack, "selected_index"))
    return ipywidgets.VBox([slider, stack])


def _png(figure: Figure) -> bytes:
    drawn, packed = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    picture = PIL.Image.open(drawn).convert("RGB").quantize(COLOURS)
    picture.save(packed, "png", optimize=True)
    return packed.getvalue()
