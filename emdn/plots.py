"""Figures of micrographs, errors, spectra and tilings.

Functions return a figure and never show it: a notebook displays what a cell's last line
returns, and scripts call ``figure.savefig``. Micrographs are grey and share one grey scale
unless asked otherwise, since a comparison on several scales compares nothing. Errors have
the one diverging map, white at zero.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray

from emdn.spectrum import as_image, radial_spectrum
from emdn.tiling import Tiling

GREY, DIVERGING = "gray", "RdBu_r"
BLUE, ORANGE = "#0072b2", "#e69f00"  # colour-blind readers tell them apart (Okabe and Ito)
SYMBOLS = {"um": "µm", "A": "Å"}  # symbols of units that files spell in ASCII
SIDE = 2.6  # width of an image in a figure, in inches
IN_A_ROW = (
    3  # images; with more of them a page's column shrinks titles until none is legible
)
SATURATED = 0.5  # per cent of pixels that are black, and as many that are white
STYLE: dict[Any, Any] = {
    "axes.prop_cycle": "cycler(color=['0072b2', 'e69f00', '009e73', 'cc79a7', '56b4e9'])",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "font.size": 9,
    "legend.frameon": False,
}


def show_images(
    images: Mapping[str, ArrayLike],
    *,
    shared: bool = True,
    pixel_size: float | None = None,
    unit: str = "nm",
    enlarge: tuple[slice, slice] | None = None,
) -> Figure:
    """Show images under their titles, in a row of up to three, four in two rows.

    Parameters
    ----------
    images : mapping of str to (H, W) array
        Titles and images.
    shared : bool
        Whether black and white mean the same in all images, or each image has its own. The
        darkest and the brightest 0.5 % of pixels saturate.
    pixel_size : float, optional
        Width of a pixel in `unit`; draws a scale bar.
    unit : str
        Unit of `pixel_size`, spelled as in `emdn.io.Metadata`: "nm", "um", "A".
    enlarge : pair of slices, optional
        Region to enlarge in the lower right corner; the paper's is ``np.s_[:64, :64]``.

    Examples
    --------
    >>> image = np.random.default_rng(0).uniform(size=(64, 64))
    >>> figure = show_images({"clean": image, "dimmer": image / 2}, pixel_size=0.1)
    >>> [axes.get_title() for axes in figure.axes]
    ['clean', 'dimmer']
    """
    arrays = {title: as_image(title, image) for title, image in images.items()}
    if not arrays:
        raise ValueError("images must hold at least one image, got none")
    together = grey_limits(*arrays.values())
    figure, row = _image_grid(list(arrays.values()))
    for axes, (title, image) in zip(row, arrays.items(), strict=True):
        low, high = together if shared else grey_limits(image)
        axes.imshow(image, cmap=GREY, vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(title)
        if pixel_size is not None:
            _draw_scale_bar(axes, image.shape, pixel_size, unit)
        if enlarge is not None:
            draw_inset(axes, image, enlarge, low, high)
    return figure


def show_error(clean: ArrayLike, denoised: ArrayLike) -> Figure:
    """Show where a denoised image is too bright (red) or too dark (blue).

    Parameters
    ----------
    clean, denoised : (H, W) array
        Truth, and the image that is compared with it.

    Examples
    --------
    >>> figure = show_error(np.zeros((32, 32)), np.eye(32))
    >>> figure.axes[0].images[0].get_clim()
    (-1.0, 1.0)
    """
    truth, output = as_image("clean", clean), as_image("denoised", denoised)
    if truth.shape != output.shape:
        raise ValueError(
            "clean and denoised must have the same shape, "
            f"got {truth.shape} and {output.shape}"
        )
    error = output - truth
    largest = float(np.abs(error).max()) or 1.0
    figure, (axes,) = _image_grid([error], spare=0.9)
    shown = axes.imshow(
        error, cmap=DIVERGING, vmin=-largest, vmax=largest, interpolation="nearest"
    )
    axes.set_title(f"RMSE {np.sqrt(np.mean(error**2)):.3g}")
    figure.colorbar(shown, label="denoised \N{MINUS SIGN} clean (intensity)", shrink=0.85)
    return figure


def show_tiling(image: ArrayLike, tiling: Tiling) -> Figure:
    """Show an image's tiles, what is kept of each, and the reflection that they read.

    Parameters
    ----------
    image : (H, W) array
        Image of shape ``tiling.shape``.
    tiling : Tiling
        Where the tiles lie.

    Examples
    --------
    >>> tiling = Tiling((60, 90), size=(48, 48), overlap=8)
    >>> figure = show_tiling(np.zeros((60, 90)), tiling)
    >>> len(figure.axes[0].patches) == 2 * len(tiling)
    True
    """
    array = as_image("image", image)
    if array.shape != tuple(tiling.shape):
        raise ValueError(
            f"image must have the tiling's shape {tiling.shape}, got {array.shape}"
        )
    (top, left), (bottom, right) = _reach(tiling)
    height, width = array.shape
    padded = np.pad(
        array, [(-top, bottom - height), (-left, right - width)], mode="reflect"
    )
    figure, (axes,) = _image_grid([padded], enlargement=1.6)
    low, high = grey_limits(array)
    extent = (left, right, bottom, top)
    axes.imshow(padded, cmap=GREY, vmin=low, vmax=high, extent=extent, alpha=0.35)
    axes.imshow(array, cmap=GREY, vmin=low, vmax=high, extent=(0, width, height, 0))
    axes.set(xlim=(left, right), ylim=(bottom, top))
    for number, corner in enumerate(tiling.corners()):
        _draw_tile(axes, corner, tiling, highlighted=number == 0)
    figure.legend(
        handles=axes.patches[:2], loc="outside lower center", ncols=2, frameon=False
    )
    rows, columns = tiling.grid
    axes.set_title(f"{rows} x {columns} tiles, overlap {tiling.overlap} px")
    return figure


def plot_spectrum(images: Mapping[str, ArrayLike]) -> Figure:
    """Plot the radial power spectra of images on logarithmic axes.

    Parameters
    ----------
    images : mapping of str to (H, W) array
        Names for the legend, and images.

    Examples
    --------
    >>> image = np.random.default_rng(0).uniform(size=(64, 64))
    >>> plot_spectrum({"noise": image}).axes[0].get_xlabel()
    'frequency (cycles/px)'
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(1.9 * SIDE, 1.3 * SIDE))
        for name, image in images.items():
            axes.loglog(*radial_spectrum(image), label=name, linewidth=1.4)
        axes.set(xlabel="frequency (cycles/px)", ylabel="power (intensity²)")
        axes.set_xlim(right=0.5)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.legend()
        plt.close(figure)
    return figure


def plot_learning_curves(
    logs: Mapping[str, Sequence[Mapping[str, float]]], *, boxcar: int = 1
) -> Figure:
    """Plot the errors of trainings against their steps, as in Fig. 3 of the paper.

    Parameters
    ----------
    logs : mapping of str to rows
        Names for the legend, and rows from `emdn.training.log.read_log`.
    boxcar : int
        Number of rows to average over; the ends, where the boxcar sticks out, are left out.

    Examples
    --------
    >>> log = [{"step": n, "mse": 1 / n, "val_mse": 2 / n} for n in (10, 20, 30)]
    >>> plot_learning_curves({"run": log}).axes[0].get_ylabel()
    'MSE of clipped outputs'
    """
    if boxcar < 1:
        raise ValueError(f"boxcar must be at least 1, got {boxcar}")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(2 * SIDE, 1.3 * SIDE))
        for number, (name, rows) in enumerate(logs.items()):
            steps = np.array([row["step"] for row in rows])
            for score, label, line in (
                ("mse", f"{name}, training", ":"),
                ("val_mse", f"{name}, validation", "-"),
            ):
                errors = np.array([row[score] for row in rows])
                known = np.isfinite(errors)
                smooth = (_boxcar(each[known], boxcar) for each in (steps, errors))
                axes.semilogy(*smooth, line, color=f"C{number}", label=label)
        axes.set(xlabel="step", ylabel="MSE of clipped outputs")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.legend()
        plt.close(figure)
    return figure


def _boxcar(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return the mean of each run of `width` values, or of all if they are fewer."""
    if not len(values):  # a training without validation has no errors of validation
        return values
    width = min(width, len(values))
    return np.convolve(values, np.full(width, 1 / width), mode="valid")


def scale_bar_length(width: float) -> float:
    """Return the longest length of 1, 2 or 5 times a power of ten in a third of a width.

    Examples
    --------
    >>> scale_bar_length(100.0), scale_bar_length(7.0)
    (20.0, 2.0)
    """
    if not 0 < width < np.inf:
        raise ValueError(f"width must be positive and finite, got {width}")
    power = np.floor(np.log10(width / 3))
    # 0.5 is for widths just below a round number, whose logarithm rounds up to it.
    lengths = [float(f"{digit}e{power:.0f}") for digit in (0.5, 1, 2, 5)]
    return max(length for length in lengths if length <= width / 3)


def _image_grid(
    images: list[NDArray[np.float64]], *, enlargement: float = 1.0, spare: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """Return a figure with bare axes for each image, and `spare` inches beside them.

    The figure is closed, or a notebook would show it a second time.
    """
    side, number = SIDE * enlargement, len(images)
    columns = number if number <= IN_A_ROW else 2 if number == 4 else IN_A_ROW
    rows = -(-number // columns)
    height = max(side * min(image.shape[0] / image.shape[1], 2) for image in images)
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            rows,
            columns,
            figsize=(side * columns + spare, rows * (height + 0.3)),
            squeeze=False,
        )
        for axes in grid.flat:
            axes.set_axis_off()
        for axes in grid.flat[number:]:
            axes.remove()
        plt.close(figure)
    return figure, list(grid.flat[:number])


def _draw_scale_bar(
    axes: Axes, shape: tuple[int, ...], pixel_size: float, unit: str
) -> None:
    """Draw a bar and its length at the lower left, 5 % of the width from either edge."""
    if not 0 < pixel_size < np.inf:
        raise ValueError(f"pixel_size must be positive and finite, got {pixel_size}")
    height, width = shape
    length = scale_bar_length(width * pixel_size)
    left, bottom, thickness = 0.05 * width, height - 0.05 * width, 0.018 * width
    corner, pixels = (left, bottom - thickness), length / pixel_size
    white = {"facecolor": "white", "edgecolor": "black", "linewidth": 0.5}
    axes.add_patch(Rectangle(corner, pixels, thickness, **white))
    axes.text(
        left + pixels / 2,
        bottom - 1.6 * thickness,
        f"{length:g} {SYMBOLS.get(unit, unit)}",
        color="white",
        ha="center",
        va="bottom",
        path_effects=[withStroke(linewidth=1.5, foreground="black")],
    )


def draw_inset(
    axes: Axes,
    image: NDArray[np.float64],
    region: tuple[slice, slice],
    low: float,
    high: float,
    cmap: str = GREY,
) -> None:
    """Enlarge a region in the lower right corner, and frame where it comes from."""
    (top, bottom, _), (left, right, _) = (
        part.indices(side) for part, side in zip(region, image.shape, strict=True)
    )
    if bottom <= top or right <= left:
        raise ValueError(f"enlarge must overlap the image of {image.shape}, got {region}")
    frame = {"edgecolor": ORANGE, "facecolor": "none", "linewidth": 1.2}
    axes.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, **frame))
    inset = axes.inset_axes((0.5, 0.0, 0.5, 0.5), anchor="SE")
    inset.imshow(image[region], cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    inset.set(xticks=[], yticks=[])
    inset.spines[:].set(visible=True, color=ORANGE, linewidth=1.2)


def _reach(tiling: Tiling) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the first pixel (y, x) that tiles read, and the pixel after the last."""
    corners = tiling.corners()
    top, left = corners.min(axis=0)
    bottom, right = corners.max(axis=0) + tiling.size
    return (int(top), int(left)), (int(bottom), int(right))


def _draw_tile(
    axes: Axes, corner: NDArray[np.intp], tiling: Tiling, *, highlighted: bool
) -> None:
    """Outline what a tile reads and what is kept of it; fill the tile if highlighted."""
    y, x = corner
    (height, width), (down, right) = tiling.size, tiling.stride
    line = 1.8 if highlighted else 0.7
    for label, color, box, style in (
        ("read", BLUE, ((x, y), width, height), "--"),
        ("kept", ORANGE, ((x + tiling.overlap, y + tiling.overlap), right, down), "-"),
    ):
        axes.add_patch(
            Rectangle(
                *box,
                label=label,
                edgecolor=color,
                facecolor=(color, 0.22 if highlighted else 0.0),
                linestyle=style,
                linewidth=line,
                zorder=3 if highlighted else 2,
            )
        )


def grey_limits(*images: NDArray[np.float64]) -> tuple[float, float]:
    """Return the levels that are black and white in some images.

    Half a per cent of pixels lies beyond either of them. Where nearly all pixels are alike,
    as in a picture of a few dots, none does.
    """
    values = np.concatenate([image.ravel() for image in images])
    low, high = np.percentile(values, [SATURATED, 100 - SATURATED])
    if low == high:
        low, high = values.min(), values.max()
    return float(low), float(high)
