"""Random scenes by formula, which widen what a network is trained on.

A network learns what images look like, and a few dozen micrographs show it little of that.
Scenes that obey a law of natural images teach it about as much as photographs do: opaque
things of all sizes hide each other (dead leaves), and grey varies at all lengths alike
(texture). Others have what micrographs are made of; `emdn.specimens.micrographs` draws more
careful micrographs, one kind at a time.

Each function takes a shape (H, W) in pixels and a ``numpy.random.Generator``, and returns
an (H, W) float32 array that spans [0, 1]. Ranges are wide rather than measured: they were
chosen by eye, so that micrographs lie well within. Sizes are in pixels; greys have no unit,
since the image is stretched to [0, 1] at the end.

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
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageDraw
from scipy.ndimage import gaussian_filter

from emdn.scaling import to_unit
from emdn.specimens.fields import Field, Image, band, power_law
from emdn.specimens.micrographs import micrograph

FINE = 2  # edges are drawn on a grid so many times as fine, and averaged to smooth them
MOST_LEAVES = 12_000  # of one scene; more would take seconds, and show as noise
TEXTURES = 5  # fields that the leaves of one scene share, besides an even grey


def texture(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Draw noise whose spectrum falls by a power law, as that of natural images does.

    The amplitude falls with the frequency to the power of 1 to 2. A quarter of the fields
    is folded at 0, which makes ridges; another quarter goes through a sine, for cells.
    """
    field = power_law(shape, rng, exponent=rng.uniform(1.0, 2.0))
    bend = rng.integers(4)
    if bend == 0:
        field = np.abs(field)
    elif bend == 1:
        field = np.sin(rng.uniform(1, 6) * field)  # phase in radians a deviation
    return to_unit(field)


def leaves(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Draw dead leaves: opaque shapes of all sizes that hide each other.

    The scene looks the same at all magnifications. Ellipses and polygons have their own
    grey, shade and texture.

    Examples
    --------
    >>> image = leaves((64, 48), np.random.default_rng(0))
    >>> print(image.shape, image.dtype, image.min(), image.max())
    (64, 48) float32 0.0 1.0
    """
    smallest = rng.uniform(1.5, 8)  # radius in pixels
    height, width = shape
    index = leaf_index(
        (FINE * height, FINE * width), rng, FINE * smallest, FINE * max(shape) / 2
    )
    return to_unit(_reduced(PIL.Image.fromarray(_paint(index, rng))))


def leaf_index(
    shape: tuple[int, int], rng: np.random.Generator, smallest: float, largest: float
) -> NDArray[np.int32]:
    """Let leaves fall, and return which of them lies on top in each pixel.

    The number of leaves falls with the cube of their size: then all octaves of size cover
    the same area, and the scene looks the same at all magnifications (Lee et al.).

    Parameters
    ----------
    shape, rng
        Shape (H, W) and source of randomness.
    smallest, largest : float
        Limits of the radius of a leaf's longer axis, in pixels.

    Returns
    -------
    (H, W) int32 array
        Numbers of leaves in the order of their fall, from 1; 0 where none lies.
    """
    height, width = shape
    canvas = PIL.Image.new("I", (width, height), 0)
    draw = ImageDraw.Draw(canvas)
    # So many would cover the scene four times, were they disks of the law r^-3.
    area = 2 * np.pi * np.log(largest / smallest) / (smallest**-2 - largest**-2)
    count = min(int(4 * height * width / area) + 1, MOST_LEAVES)
    # A radius is where the law's cumulative distribution takes an even random number.
    chance = rng.uniform(size=count)
    radii = 1 / np.sqrt(smallest**-2 + chance * (largest**-2 - smallest**-2))
    # Some centres lie outside, by up to a tenth of the side: leaves reach in.
    centres = rng.uniform(-0.1, 1.1, (count, 2)) * (width, height)
    # Four leaves in ten are ellipses, for which twenty corners pass.
    corners = rng.choice([3, 4, 5, 6, 20], size=count, p=[0.1, 0.3, 0.1, 0.1, 0.4])
    turns = rng.uniform(0, 2 * np.pi, count)  # radians
    flatness = rng.uniform(0.25, 1, count)  # shorter axis over the longer one
    for number in range(count):
        # By 0.4 radians off the axis, four corners make no rhombus but a parallelogram.
        angles = 2 * np.pi * np.arange(corners[number]) / corners[number] + 0.4
        across, along = np.cos(angles), flatness[number] * np.sin(angles)
        cosine, sine = np.cos(turns[number]), np.sin(turns[number])
        x = centres[number, 0] + radii[number] * (cosine * across - sine * along)
        y = centres[number, 1] + radii[number] * (sine * across + cosine * along)
        draw.polygon(np.stack([x, y], axis=1).ravel().tolist(), fill=number + 1)
    return np.asarray(canvas)


def pores(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Draw what two phases look like that have parted: pores, networks, precipitates.

    A smooth random field is cut at one or two levels, more or less sharply, and each
    phase keeps a texture of its own.
    """
    size = np.exp(rng.uniform(np.log(4), np.log(60)))  # width of a pore, in pixels
    roughness = (0, 0.3)  # of the borders, in deviations of the field
    field = band(shape, rng, size) + rng.uniform(*roughness) * power_law(shape, rng, 1.2)
    image = np.zeros(shape, np.float32)
    for level in rng.normal(0, 0.8, rng.integers(1, 3)):  # in deviations of the field
        border = rng.uniform(0.5, 4)  # width in pixels, where the field is steepest
        phase = 1 / (1 + np.exp(-np.clip((field - level) * size / border, -30, 30)))
        grain = power_law(shape, rng, rng.uniform(0, 1.5))
        image += rng.normal() * phase * (1 + rng.uniform(0, 0.3) * grain)
    return to_unit(image + rng.uniform(0, 0.2) * power_law(shape, rng, 1.5))


def fibres(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Draw fibres, filaments or scratches: curved lines of many widths over a ground."""
    # A fibre has a grey of about 1, the ground varies by at most half of that.
    canvas = _canvas(power_law(shape, rng, 1.5) * rng.uniform(0.05, 0.5))
    draw, sides = ImageDraw.Draw(canvas), FINE * np.array(shape)
    median = np.exp(rng.uniform(np.log(1), np.log(8)))  # width in pixels
    direction, spread = rng.uniform(0, np.pi), rng.uniform(0.1, 2)  # radians
    for _ in range(rng.integers(15, 150)):
        # 60 steps of a 40th of the side, each of which turns by 0.15 radians or so.
        angles = direction + rng.normal(0, spread) + np.cumsum(rng.normal(0, 0.15, 60))
        steps = np.stack([np.cos(angles), np.sin(angles)], axis=1) * max(sides) / 40
        path = rng.uniform(-0.2, 1.2, 2) * sides[::-1] + np.cumsum(steps, axis=0)
        width = FINE * median * np.exp(rng.normal(0, 0.4))
        grey = 1 + rng.normal(0, 0.3)
        # A round fibre is brighter along its middle: 0.7, 0.88 and 1.06 of its grey.
        for share in (1, 0.7, 0.4):
            draw.line(
                [tuple(point) for point in path],
                fill=float(grey * (1.3 - 0.6 * share)),
                width=max(1, round(width * share)),
                joint="curve",
            )
    return to_unit(_reduced(canvas))


def vesicles(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Draw vesicles, shells or droplets: rings of many sizes over a grainy ground."""
    # Walls have a grey of about -1, the ground varies by at most 0.3.
    ground = power_law(shape, rng, rng.uniform(0.3, 1.5))
    canvas = _canvas(rng.uniform(0.02, 0.3) * ground)
    draw, sides = ImageDraw.Draw(canvas), FINE * np.array(shape)
    largest = np.clip(min(shape) / 4, 6, 60)  # larger ones might hide a small scene
    median = np.exp(rng.uniform(np.log(5), np.log(largest)))  # radius in pixels
    wall = rng.uniform(1, 5)  # thickness in pixels
    filled = rng.normal(0, 0.4)  # grey inside
    # Squares as wide as a radius, of which 4 to 24 % hold the middle of a vesicle.
    count = int(0.4 * sides.prod() / (FINE * median) ** 2 * rng.uniform(0.1, 0.6)) + 1
    for y, x in rng.uniform(-0.1, 1.1, (count, 2)) * sides:
        tall, wide = FINE * median * np.exp(rng.normal(0, 0.3, 2))
        box = (x - wide, y - tall, x + wide, y + tall)
        width = max(1, round(FINE * wall * np.exp(rng.normal(0, 0.2))))
        inside = float(filled * rng.uniform(0.5, 1.5))
        draw.ellipse(box, fill=inside, outline=float(-1 + rng.normal(0, 0.15)), width=width)
    return to_unit(_reduced(canvas))


# How often `scene` draws each kind.
SHARES: dict[Callable[[tuple[int, int], np.random.Generator], Image], float] = {
    leaves: 0.4,
    texture: 0.08,
    pores: 0.1,
    fibres: 0.1,
    vesicles: 0.1,
    micrograph: 0.22,
}


def scene(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Draw a scene of a random kind, often grained and blurred a little.

    Examples
    --------
    >>> scene((48, 64), np.random.default_rng(0)).shape
    (48, 64)
    """
    draw = list(SHARES)[rng.choice(len(SHARES), p=list(SHARES.values()))]
    image = draw(shape, rng)
    if rng.random() < 0.5:  # grain, of up to 15 % of the range
        image = image + rng.uniform(0, 0.15) * power_law(shape, rng, rng.uniform(0, 1.5))
    if rng.random() < 0.5:  # blur, by a Gaussian with a deviation of 0.4 to 2.5 pixels
        image = gaussian_filter(image, np.exp(rng.uniform(np.log(0.4), np.log(2.5))))
    return to_unit(image)


def _paint(index: NDArray[np.int32], rng: np.random.Generator) -> Image:
    """Give each leaf a grey, a slope of grey, and a part of one of some textures."""
    count = int(index.max()) + 1
    fields = [np.zeros(index.shape, np.float32)]
    for _ in range(TEXTURES):
        coarse = (index.shape[0] // FINE, index.shape[1] // FINE)
        fields.append(_fine(power_law(coarse, rng, rng.uniform(0.2, 1.6))))
    rough = rng.integers(len(fields), size=count)
    # A texture's deviation, evenly up to a limit that is the scene's own.
    strength = rng.uniform(0, rng.uniform(0.02, 0.3), count).astype(np.float32)
    # Greys of leaves are even in [0, 1] but for the scene's own gamma, of 0.7 to 1.5.
    grey = rng.uniform(size=count) ** np.exp(rng.normal(0, 0.4))
    # Grey changes by some 0.3 from one side of the scene to the other.
    slopes = rng.normal(0, 0.3 / max(index.shape), (2, count)).astype(np.float32)
    y, x = np.ogrid[: index.shape[0], : index.shape[1]]
    image = grey.astype(np.float32)[index] + slopes[0][index] * y + slopes[1][index] * x
    kind = rough[index]
    for number, field in enumerate(fields[1:], start=1):
        image += np.where(kind == number, strength[index] * field, np.float32(0))
    return image


def _canvas(ground: Field) -> PIL.Image.Image:
    """Return a picture to draw real numbers on, on the fine grid."""
    return PIL.Image.fromarray(_fine(ground))


def _fine(image: Field) -> Image:
    """Repeat each pixel, for the grid that edges are drawn on."""
    return image.astype(np.float32).repeat(FINE, axis=0).repeat(FINE, axis=1)


def _reduced(canvas: PIL.Image.Image) -> Image:
    """Average the grid that edges are drawn on, which makes them smooth."""
    return np.asarray(canvas.reduce(FINE))
