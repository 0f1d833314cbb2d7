"""Random scenes by formula, which widen what a network is trained on.

A network learns what images look like, and a few dozen micrographs show it little of that.
Scenes that obey a law of natural images teach it about as much as photographs do: opaque
things of all sizes hide each other (dead leaves), and grey varies at all lengths alike
(texture). Others have what micrographs are made of. `emdn.specimens.micrographs` draws more
careful micrographs, one kind at a time.

References
----------
A. B. Lee, D. Mumford and J. Huang, "Occlusion models for natural images: a statistical
study of a scale-invariant dead leaves model", International Journal of Computer Vision 41
(2001), 35-59.

R. Achddou, Y. Gousseau and S. Ladjal, "Synthetic images as a regularity prior for image
restoration neural networks", Scale Space and Variational Methods (2021), 333-345.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw
from scipy.ndimage import gaussian_filter

from emdn.specimens import micrographs as synthetic
from emdn.specimens.fields import band, power_law, to_unit

Image = NDArray[np.float32]
FINE = 2  # scenes with edges are drawn so many times as large, and averaged
KINDS_OF_TEXTURE = 6  # different fields that the leaves of one scene share


def texture(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Draw noise whose spectrum falls by a power law, as that of natural images does.

    The amplitude falls with the frequency to the power of 1 to 2; half of the fields are
    bent, which makes ridges or cells of them.

    Parameters
    ----------
    shape, rng
        Shape (H, W) and source of randomness.

    Returns
    -------
    (H, W) float32 array
        Values from 0 to 1.

    Examples
    --------
    >>> image = texture((64, 48), np.random.default_rng(0))
    >>> print(image.shape, image.dtype, image.min(), image.max())
    (64, 48) float32 0.0 1.0
    """
    field = power_law(shape, rng, rng.uniform(1.0, 2.0))
    bend = rng.integers(4)
    if bend == 0:
        field = np.abs(field)
    elif bend == 1:
        field = np.sin(rng.uniform(1, 6) * field)
    return to_unit(field)


def leaves(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Draw dead leaves: opaque shapes of all sizes that hide each other.

    The number of leaves falls with the cube of their size, so that the scene looks the
    same at all magnifications. Ellipses and polygons have their own grey, shade and
    texture.

    Parameters
    ----------
    shape, rng
        Shape (H, W) and source of randomness.

    Returns
    -------
    (H, W) float32 array
        Values from 0 to 1.

    Examples
    --------
    >>> image = leaves((64, 48), np.random.default_rng(0))
    >>> print(image.shape, image.dtype, image.min(), image.max())
    (64, 48) float32 0.0 1.0
    """
    index = _leaf_index(shape, rng, smallest=rng.uniform(1.5, 8), largest=max(shape) / 2)
    return to_unit(_reduce(_paint(index, rng)))


def pores(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Draw what two phases look like that have parted: pores, networks, precipitates.

    A smooth random field is cut at one or two levels, more or less sharply, and each
    phase keeps a texture of its own.

    Examples
    --------
    >>> image = pores((64, 48), np.random.default_rng(0))
    >>> print(image.shape, image.dtype, image.min(), image.max())
    (64, 48) float32 0.0 1.0
    """
    size = np.exp(rng.uniform(np.log(4), np.log(60)))
    field = band(shape, rng, size) + rng.uniform(0, 0.3) * power_law(shape, rng, 1.2)
    image = np.zeros(shape, np.float32)
    for level in rng.normal(0, 0.8, rng.integers(1, 3)):
        steepness = size / rng.uniform(0.5, 4)
        phase = 1 / (1 + np.exp(-np.clip((field - level) * steepness, -30, 30)))
        grain = power_law(shape, rng, rng.uniform(0, 1.5))
        image += rng.normal() * phase * (1 + rng.uniform(0, 0.3) * grain)
    return to_unit(image + rng.uniform(0, 0.2) * power_law(shape, rng, 1.5))


def fibres(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Draw fibres, filaments or scratches: curved lines of many widths over a ground.

    Examples
    --------
    >>> image = fibres((64, 48), np.random.default_rng(0))
    >>> print(image.shape, image.dtype, image.min(), image.max())
    (64, 48) float32 0.0 1.0
    """
    canvas = _canvas(_fine(power_law(shape, rng, 1.5)) * rng.uniform(0.05, 0.5))
    draw, sides = ImageDraw.Draw(canvas), FINE * np.array(shape)
    middle = np.exp(rng.uniform(np.log(1), np.log(8)))
    direction, spread = rng.uniform(0, np.pi), rng.uniform(0.1, 2)
    for _ in range(rng.integers(15, 150)):
        angles = direction + rng.normal(0, spread) + np.cumsum(rng.normal(0, 0.15, 60))
        steps = np.stack([np.cos(angles), np.sin(angles)], axis=1) * max(sides) / 40
        path = rng.uniform(-0.2, 1.2, 2) * sides[::-1] + np.cumsum(steps, axis=0)
        width = FINE * middle * np.exp(rng.normal(0, 0.4))
        grey = 1 + rng.normal(0, 0.3)
        for share in (1, 0.7, 0.4):  # a round fibre is brighter along its middle
            draw.line(
                [tuple(point) for point in path],
                fill=float(grey * (1.3 - 0.6 * share)),
                width=max(1, round(width * share)),
                joint="curve",
            )
    return to_unit(_reduce(np.asarray(canvas)))


def vesicles(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Draw vesicles, shells or droplets: rings of many sizes over a grained ground.

    Examples
    --------
    >>> image = vesicles((64, 48), np.random.default_rng(0))
    >>> print(image.shape, image.dtype, image.min(), image.max())
    (64, 48) float32 0.0 1.0
    """
    ground = power_law(shape, rng, rng.uniform(0.3, 1.5))
    canvas = _canvas(rng.uniform(0.02, 0.3) * _fine(ground))
    draw, sides = ImageDraw.Draw(canvas), FINE * np.array(shape)
    largest = np.clip(min(shape) / 4, 6, 60)  # larger ones might hide a small scene
    middle = np.exp(rng.uniform(np.log(5), np.log(largest)))
    wall, filled = rng.uniform(1, 5), rng.normal(0, 0.4)
    count = int(0.4 * sides.prod() / (FINE * middle) ** 2 * rng.uniform(0.1, 0.6)) + 1
    for y, x in rng.uniform(-0.1, 1.1, (count, 2)) * sides:
        tall, wide = FINE * middle * np.exp(rng.normal(0, 0.3, 2))
        box = (x - wide, y - tall, x + wide, y + tall)
        width = max(1, round(FINE * wall * np.exp(rng.normal(0, 0.2))))
        inside = float(filled * rng.uniform(0.5, 1.5))
        draw.ellipse(box, fill=inside, outline=float(-1 + rng.normal(0, 0.15)), width=width)
    return to_unit(_reduce(np.asarray(canvas)))


KINDS: dict[str, Callable[[tuple[int, int], np.random.Generator], Image]] = {
    "leaves": leaves,
    "texture": texture,
    "pores": pores,
    "fibres": fibres,
    "vesicles": vesicles,
    "micrograph": synthetic.micrograph,
}


CHANCES = {
    "leaves": 0.4,
    "texture": 0.08,
    "pores": 0.1,
    "fibres": 0.1,
    "vesicles": 0.1,
    "micrograph": 0.22,
}


def scene(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Draw a scene of a random kind, often grained and blurred a little.

    Parameters
    ----------
    shape, rng
        Shape (H, W) and source of randomness.

    Returns
    -------
    (H, W) float32 array
        Values from 0 to 1.

    Examples
    --------
    >>> scene((48, 64), np.random.default_rng(0)).shape
    (48, 64)
    """
    kind = rng.choice(list(CHANCES), p=list(CHANCES.values()))
    image = KINDS[kind](shape, rng)
    if rng.random() < 0.5:
        image = image + rng.uniform(0, 0.15) * power_law(shape, rng, rng.uniform(0, 1.5))
    if rng.random() < 0.5:
        image = gaussian_filter(image, np.exp(rng.uniform(np.log(0.4), np.log(2.5))))
    return to_unit(image)


def _leaf_index(
    shape: tuple[int, int], rng: np.random.Generator, smallest: float, largest: float
) -> NDArray[np.int32]:
    """Return which leaf lies on top at each point of a grid, `FINE` times as fine."""
    height, width = (FINE * side for side in shape)
    canvas = Pillow.new("I", (width, height), 0)
    draw = ImageDraw.Draw(canvas)
    # So many would cover the scene four times, were they disks of the law r^-3.
    area = 2 * np.pi * np.log(largest / smallest) / (smallest**-2 - largest**-2)
    count = min(int(4 * shape[0] * shape[1] / area) + 1, 12_000)
    chance = rng.uniform(size=count)
    radii = FINE / np.sqrt(smallest**-2 + chance * (largest**-2 - smallest**-2))
    centres = rng.uniform(-0.1, 1.1, (count, 2)) * (width, height)
    corners = rng.choice([3, 4, 5, 6, 20], size=count, p=[0.1, 0.3, 0.1, 0.1, 0.4])
    turns, flatness = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.25, 1, count)
    for number in range(count):
        angles = 2 * np.pi * np.arange(corners[number]) / corners[number] + 0.4
        across, along = np.cos(angles), flatness[number] * np.sin(angles)
        cosine, sine = np.cos(turns[number]), np.sin(turns[number])
        x = centres[number, 0] + radii[number] * (cosine * across - sine * along)
        y = centres[number, 1] + radii[number] * (sine * across + cosine * along)
        draw.polygon(np.stack([x, y], axis=1).ravel().tolist(), fill=number + 1)
    return np.asarray(canvas)


def _paint(index: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Give each leaf a grey, a slope of grey, and a part of one of some textures."""
    count = int(index.max()) + 1
    fields = [np.zeros(index.shape, np.float32)]
    for _ in range(KINDS_OF_TEXTURE - 1):
        coarse = tuple(side // FINE for side in index.shape)
        fields.append(_fine(power_law(coarse, rng, rng.uniform(0.2, 1.6))))
    rough = rng.integers(len(fields), size=count)
    strength = rng.uniform(0, rng.uniform(0.02, 0.3), count).astype(np.float32)
    grey = rng.uniform(size=count) ** np.exp(rng.normal(0, 0.4))
    slopes = rng.normal(0, 0.3 / max(index.shape), (2, count)).astype(np.float32)
    y, x = np.ogrid[: index.shape[0], : index.shape[1]]
    image = grey.astype(np.float32)[index] + slopes[0][index] * y + slopes[1][index] * x
    kind = rough[index]
    for number, field in enumerate(fields[1:], start=1):
        image += np.where(kind == number, strength[index] * field, np.float32(0))
    return image


def _canvas(ground: NDArray[np.floating]) -> Pillow.Image:
    """Return a picture to draw real numbers on."""
    return Pillow.fromarray(np.ascontiguousarray(ground, np.float32))


def _fine(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Repeat each pixel, for the grid that edges are drawn on."""
    return image.repeat(FINE, axis=0).repeat(FINE, axis=1)


def _reduce(image: NDArray) -> NDArray[np.float32]:
    """Average the grid that edges are drawn on, which makes them smooth."""
    parts = [image[y::FINE, x::FINE] for y, x in np.ndindex(FINE, FINE)]
    return np.stack(parts).mean(axis=0, dtype=np.float32)
