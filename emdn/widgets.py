"""Sliders for notebooks and for rendered pages.

A `picture_slider` is plain HTML: all its pictures are made beforehand, and the browser
chooses the one to show. It needs neither a kernel nor a widget runtime. A
`live_dose_slider` computes its pictures when it is moved and needs both.
"""

import base64
import html
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
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

if TYPE_CHECKING:
    import ipywidgets

SCALES = (5, 10, 25, 50, 100, 250, 500, 1000, 2500)  # counts at the brightest pixel
UNIT = "counts at the brightest pixel"
WIDTH = 860  # largest width of a picture on a page, in pixels of CSS
DPI = 110  # pixels of a picture for each inch of its figure
COLOURS = 128  # of a picture, which then has half the bytes of one of all colours

# The handler finds its own slider from the element that calls it, so that any number of
# sliders share a page, also where the page is put together from several outputs.
MOVE = """\
const slider = this.closest(".picture-slider");
slider.pictures ??= JSON.parse(slider.dataset.pictures);
const picture = slider.pictures[this.value], image = slider.querySelector("img");
image.src = picture.source;
image.alt = picture.description;
this.setAttribute("aria-valuetext", picture.value);
slider.querySelector("output").textContent = picture.value;"""
# Without scripts the control would be dead, so that it is hidden until a script has run.
SHOW = (
    'this.closest(".picture-slider").querySelector("[hidden]")?.removeAttribute("hidden")'
)


@dataclass(frozen=True, repr=False)
class PictureSlider:
    """Pictures of which a slider shows one; a notebook displays it as plain HTML.

    Parameters
    ----------
    name : str
        What the slider sets, such as "dose".
    values : tuple of str
        What each stop is called at the slider, without the unit.
    readouts : tuple of str
        What each stop is called in full, with the unit.
    descriptions : tuple of str
        What each picture shows, for readers who do not see it.
    pictures : tuple of bytes
        A PNG for each stop.
    start : int
        Index of the stop that is shown first, and where scripts do not run.
    """

    name: str
    values: tuple[str, ...]
    readouts: tuple[str, ...]
    descriptions: tuple[str, ...]
    pictures: tuple[bytes, ...]
    start: int

    def __repr__(self) -> str:
        return (
            f"PictureSlider({self.name}: {self.values[0]} to {self.readouts[-1]}, "
            f"{len(self.pictures)} pictures)"
        )

    def _repr_html_(self) -> str:
        sources = [_data_uri(picture) for picture in self.pictures]
        pictures = [
            {"source": source, "description": description, "value": value}
            for source, description, value in zip(
                sources, self.descriptions, self.readouts, strict=True
            )
        ]
        width, height = PIL.Image.open(BytesIO(self.pictures[self.start])).size
        ticks = "".join(
            '<span style="width: 1rem; display: flex; justify-content: center">'
            f"{html.escape(value)}</span>"
            for value in self.values
        )
        return f"""\
<div class="picture-slider" style="max-width: {WIDTH}px; margin: 0.5rem auto"
 data-pictures="{html.escape(json.dumps(pictures))}">
<div hidden="hidden" style="padding: 0 0.8rem">
<label style="display: block">{html.escape(self.name)}
<input type="range" min="0" max="{len(self.values) - 1}" step="1" value="{self.start}"
 autocomplete="off" style="display: block; width: 100%; margin: 0"
 aria-valuetext="{html.escape(self.readouts[self.start])}" oninput="{html.escape(MOVE)}" />
</label>
<div aria-hidden="true"
 style="display: flex; justify-content: space-between; font-size: 0.85em">{ticks}</div>
</div>
<div style="text-align: center"><output aria-live="off" style="font-weight: bold">\
{html.escape(self.readouts[self.start])}</output></div>
<img src="{sources[self.start]}" alt="{html.escape(self.descriptions[self.start])}"
 width="{width}" height="{height}" style="max-width: 100%; height: auto"
 onload="{html.escape(SHOW)}" />
</div>"""


def picture_slider(
    draw: Callable[[Any], Figure],
    values: Sequence[Any],
    *,
    name: str,
    unit: str = "",
    start: Any = None,
    format: str = "{:g}",  # noqa: A002 - what the built-in of that name takes
) -> PictureSlider:
    """Draw a figure for each value, and let the reader choose by a slider.

    The pictures are made at once. What is returned works on a web page, in JupyterLab, on
    Colab and in VS Code, and needs no kernel once it is displayed. Printed, and where
    scripts do not run, it is the picture of `start`.

    Parameters
    ----------
    draw : callable
        Function of one value that returns a figure of Matplotlib. All figures should be
        of one size. They are closed.
    values : sequence
        Two or more values, each once, in the order of the slider.
    name : str
        What the slider sets; its label.
    unit : str
        What the values count, for the readout: "counts per pixel". Empty for none.
    start : optional
        Value that is shown first; by default the middle one.
    format : str
        How a value is spelled, as in `str.format`.

    Returns
    -------
    PictureSlider
        Shown by a notebook when it is the last line of a cell.

    Raises
    ------
    ValueError
        If `values` are fewer than two or repeat each other, `start` is none of them, or
        `name` is empty.

    Examples
    --------
    >>> def draw(period):
    ...     figure, axes = plt.subplots(figsize=(3, 2))
    ...     axes.plot(np.sin(2 * np.pi * np.arange(100) / period))
    ...     return figure
    >>> picture_slider(draw, [10, 20, 50], name="period", unit="pixels")
    PictureSlider(period: 10 to 50 pixels, 3 pictures)
    """
    choices = list(values)
    if len(choices) < 2:
        raise ValueError(f"values must be two or more, for a slider, got {len(choices)}")
    if any(value in choices[:place] for place, value in enumerate(choices)):
        raise ValueError(f"values must differ from each other, got {choices}")
    if not name.strip():
        raise ValueError("name must say what the slider sets, got an empty one")
    first = choices[len(choices) // 2] if start is None else start
    if first not in choices:
        raise ValueError(f"start must be one of the values {choices}, got {start!r}")
    spelled = [format.format(value) for value in choices]
    readouts = [f"{value} {unit}".strip() for value in spelled]
    pictures, descriptions = [], []
    for value, readout in zip(choices, readouts, strict=True):
        figure = draw(value)
        pictures.append(_png(figure))
        titles = [", ".join(axes.get_title().splitlines()) for axes in figure.axes]
        descriptions.append("; ".join([f"{name} {readout}", *filter(None, titles)]))
        plt.close(figure)
    return PictureSlider(
        name,
        tuple(spelled),
        tuple(readouts),
        tuple(descriptions),
        tuple(pictures),
        choices.index(first),
    )


def dose_slider(
    clean: ArrayLike,
    denoise: Callable[[NDArray[np.float32]], ArrayLike] | None = None,
    *,
    scales: Sequence[float] = SCALES,
    seed: int = 0,
    enlarge: tuple[slice, slice] | None = None,
) -> PictureSlider:
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
    PictureSlider
        Images on one grey scale for each dose, under the dose of the noisy image and the
        PSNR and the SSIM of the denoised one. It begins in the middle of `scales`.

    Raises
    ------
    ValueError
        If `clean` is no finite image, or `scales` are fewer than two or not positive.

    Examples
    --------
    >>> from emdn.specimens import lattice
    >>> specimen = lattice((64, 64), np.random.default_rng(0))
    >>> dose_slider(specimen, np.copy, scales=(20, 200))
    PictureSlider(scale: 20 to 200 counts at the brightest pixel, 2 pictures)
    """
    draw = _drawing(clean, denoise, seed, enlarge)
    return picture_slider(draw, scales, name="scale", unit=UNIT)


def live_dose_slider(
    clean: ArrayLike,
    denoise: Callable[[NDArray[np.float32]], ArrayLike] | None = None,
    *,
    seed: int = 0,
    enlarge: tuple[slice, slice] | None = None,
) -> "ipywidgets.VBox":
    """Show what `dose_slider` shows at any dose, computed when the slider is let go.

    It needs ipywidgets and a running kernel: on a rendered page it does not move.

    Parameters
    ----------
    clean, denoise, seed, enlarge
        As those of `dose_slider`.

    Returns
    -------
    ipywidgets.VBox
        A logarithmic slider over the range of `SCALES`, and the picture below it.

    Raises
    ------
    ValueError
        If `clean` is no finite image.
    """
    import ipywidgets

    draw = _drawing(clean, denoise, seed, enlarge)

    def picture(scale: float) -> bytes:
        figure = draw(scale)
        drawn = _png(figure)
        plt.close(figure)
        return drawn

    slider = ipywidgets.FloatLogSlider(
        value=SCALES[len(SCALES) // 2],
        min=np.log10(SCALES[0]),
        max=np.log10(SCALES[-1]),
        step=0.05,
        description=UNIT,
        continuous_update=False,
        readout_format=".0f",
        style={"description_width": "initial"},
        layout={"width": "100%", "max_width": f"{WIDTH}px"},
    )
    image = ipywidgets.Image(value=picture(slider.value), layout={"max_width": "100%"})
    # `interact` runs the cell's output through the kernel and at times never returns.
    slider.observe(lambda change: setattr(image, "value", picture(change["new"])), "value")
    return ipywidgets.VBox([slider, image])


def _drawing(
    clean: ArrayLike,
    denoise: Callable[[NDArray[np.float32]], ArrayLike] | None,
    seed: int,
    enlarge: tuple[slice, slice] | None,
) -> Callable[[float], Figure]:
    """Return a function that draws a specimen at a scale: noisy, denoised and true."""
    truth = to_unit(as_image("clean", clean))
    remove_noise = denoise or Denoiser(progress=False).denoise

    def draw(scale: float) -> Figure:
        noisy = add_shot_noise(truth, scale, np.random.default_rng(seed))
        denoised = np.asarray(remove_noise(noisy))
        decibels = psnr(truth, denoised / scale, data_range=1)
        similarity = ssim(truth, denoised / scale, data_range=1)
        images = {
            f"noisy\n{noisy.mean():.3g} counts per pixel": noisy,
            f"denoised\nPSNR {decibels:.1f} dB, SSIM {similarity:.2f}": denoised,
            "truth\n": truth * scale,
        }
        return show_images(images, enlarge=enlarge)

    return draw


def _png(figure: Figure) -> bytes:
    drawn, packed = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    # By coverage, since the usual median cut counts pixels, and paints a small marker grey.
    picture = PIL.Image.open(drawn).convert("RGB")
    picture = picture.quantize(COLOURS, PIL.Image.Quantize.MAXCOVERAGE)
    picture.save(packed, "png", optimize=True)
    return packed.getvalue()


def _data_uri(picture: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(picture).decode()
