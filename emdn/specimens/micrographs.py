"""Four kinds of specimen: an atomic lattice, nanoparticles, stained tissue, a film.

Each is a function of the image's shape (H, W) in pixels, of a ``numpy.random.Generator``,
and of a few physical parameters, and returns a clean (H, W) float32 array that spans
[0, 1]. The formulas follow the physics only as far as the eye does: they are good for
showing and testing, and no ground for claims about real specimens. Numbers without another
source were chosen by eye. Greys and optical depths have no unit: the image is stretched to
[0, 1] at the end.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from emdn.scaling import to_unit
from emdn.specimens.fields import Field, Image, filtered_noise, smooth


def lattice(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    spacing: float = 12.0,
    vacancies: float = 0.02,
    grain: float = 180.0,
) -> Image:
    """Draw atomic columns as in a high-angle annular dark-field (HAADF) STEM image.

    Bright and dim columns share a square or hexagonal lattice, which is slightly strained,
    breaks up into grains and varies in thickness.

    Parameters
    ----------
    shape, rng
        Shape (H, W) and source of randomness.
    spacing : float
        Distance between neighbouring planes of bright columns, in pixels.
    vacancies : float
        Fraction of columns that miss most of their atoms, from 0 to below 1.
    grain : float
        Typical size of a grain, in pixels.

    Examples
    --------
    >>> image = lattice((64, 48), np.random.default_rng(0), spacing=8.0)
    >>> print(image.shape, image.dtype, image.min(), image.max())
    (64, 48) float32 0.0 1.0
    """
    _require_positive(spacing=spacing, grain=grain)
    _require_fraction(vacancies=vacancies)
    index, border = _cells(shape, rng, size=grain, warp=0.15 * grain)
    # Grains are turned by some 14 degrees (0.25 radians) about a common direction.
    angles = rng.uniform(0, np.pi) + rng.normal(0, 0.25, index.max() + 1)
    cosine, sine = (f(angles).astype(np.float32)[index] for f in (np.cos, np.sin))
    # Strain moves columns by 15 % of the spacing, alike over some 15 of them.
    y, x = np.indices(shape, dtype=np.float32)
    y += 0.15 * spacing * smooth(shape, rng, 15 * spacing)
    x += 0.15 * spacing * smooth(shape, rng, 15 * spacing)

    # Square cells with a dim column in the middle, or a honeycomb with every second dim:
    # the angle of the unit cell in radians, and where in it the dim column stands.
    opening, site = [(np.pi / 2, 1 / 2), (np.pi / 3, 1 / 3)][rng.integers(2)]
    v = (cosine * y - sine * x) / spacing
    u = (cosine * x + sine * y) * float(np.sin(opening) / spacing)
    u -= v * float(np.cos(opening))
    dimness = rng.uniform(0.3, 0.6)  # intensity of a dim column over that of a bright one
    crystal = _columns(u, v, opening, rng, vacancies)
    crystal += dimness * _columns(u - site, v - site, opening, rng, vacancies)
    # Columns at a grain boundary are out of line along the beam, so they blur and fade:
    # by 60 % on the boundary, and not much further away than 0.6 of the spacing.
    order = 1 - 0.6 * np.exp(-((border / (0.6 * spacing)) ** 2))
    # Thickness varies by 12 % over some 120 pixels, the surface by 2 % over some 6.
    thickness = 1 + 0.12 * smooth(shape, rng, 120) + 0.02 * smooth(shape, rng, 6)
    background = 0.3  # of the intensity of a bright column
    return to_unit(thickness * (background + order * crystal))


def particles(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    radius: float = 11.0,
    coverage: float = 0.2,
    contrast: float = 1.2,
) -> Image:
    """Draw nanoparticles on a support film as in a bright-field TEM image.

    Round and facetted particles with log-normal sizes darken the image by absorption,
    each by its own amount, since a crystal's contrast depends on its orientation.

    Parameters
    ----------
    shape, rng
        Shape (H, W) and source of randomness.
    radius : float
        Median radius of a particle, in pixels.
    coverage : float
        Expected fraction of the film that particles hide, from 0 to below 1.
    contrast : float
        Optical depth through the middle of a particle of median radius.

    Examples
    --------
    >>> image = particles((64, 48), np.random.default_rng(0), radius=6.0)
    >>> print(image.shape, image.dtype, image.min(), image.max())
    (64, 48) float32 0.0 1.0
    """
    _require_positive(radius=radius, contrast=contrast)
    _require_fraction(coverage=coverage)
    depth = contrast * _projected_particles(shape, rng, radius, coverage)
    # The film's depth varies by 0.1 over some 90 pixels; its speckle is of 0.035.
    support = 0.1 * smooth(shape, rng, 90) + 0.035 * _speckle(shape, rng, 0.3, rings=1.5)
    return to_unit(np.exp(-depth - support))


def membranes(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    cell: float = 75.0,
    thickness: float = 1.6,
    stain: float = 0.5,
) -> Image:
    """Draw stained tissue: cells, their membranes, mitochondria and vesicles.

    Parameters
    ----------
    shape, rng
        Shape (H, W) and source of randomness.
    cell : float
        Typical width of a cell, in pixels.
    thickness : float
        Half the width of the dark line that a membrane draws, in pixels.
    stain : float
        Strength of the stain's granularity, from 0 to below 1.

    Examples
    --------
    >>> image = membranes((64, 48), np.random.default_rng(0))
    >>> print(image.shape, image.dtype, image.min(), image.max())
    (64, 48) float32 0.0 1.0
    """
    _require_positive(cell=cell, thickness=thickness)
    _require_fraction(stain=stain)
    index, border = _cells(shape, rng, size=cell, warp=0.22 * cell)
    inside = border - 1.7 * thickness  # a cleft parts each cell from the next
    # Cells differ in grey by 0.06, and each varies by 0.04 over some 40 pixels.
    grey = rng.normal(0.72, 0.06, index.max() + 1)[index] + 0.04 * smooth(shape, rng, 40)
    cytoplasm = smooth(shape, rng, 3.5) + smooth(shape, rng, 7)  # grains of 3.5 and 7 px
    # Every seventh cell (15 %) has walls that are thicker by a sheath of myelin.
    myelin = (rng.uniform(size=index.max() + 1) < 0.15)[index] * 2 * thickness
    wall = np.maximum(np.abs(inside) - myelin, 0) / thickness
    tissue = grey + 0.12 * stain * cytoplasm - 0.5 * np.exp(-(wall**2))
    room = inside - myelin - 2 * thickness
    _add_organelles(tissue, room, rng, size=0.16 * cell, cristae=True)
    # Vesicles gather in clouds, which are 38 % of the area: 0.3 deviations above the mean.
    room = np.where(smooth(shape, rng, cell) > 0.3, room, 0)
    _add_organelles(tissue, room, rng, size=0.05 * cell, cristae=False)
    return to_unit(np.tanh(2 * tissue - 1))  # film and detector saturate softly


def film(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    cutoff: float = 0.3,
    rings: float = 3.0,
) -> Image:
    """Draw an amorphous film: the speckle that a defocused TEM makes of disorder.

    A thin disordered film scatters equally into all frequencies, and the microscope's
    contrast transfer function carves rings into them, the Thon rings.

    Parameters
    ----------
    shape, rng
        Shape (H, W) and source of randomness.
    cutoff : float
        Frequency from which on nothing is transferred, in cycles per pixel.
    rings : float
        Number of Thon rings below the cutoff: the more, the larger the defocus.

    Examples
    --------
    >>> image = film((64, 64), np.random.default_rng(0), cutoff=0.3)
    >>> power = np.abs(np.fft.fft2(image - image.mean())) ** 2
    >>> bool(power[32, 32] < 1e-6 * power.max())  # no detail at half a cycle per pixel
    True
    """
    _require_positive(cutoff=cutoff, rings=rings)
    # Thickness varies over some 80 pixels, by 40 % of the speckle's deviation.
    return to_unit(_speckle(shape, rng, cutoff, rings) + 0.4 * smooth(shape, rng, 80))


KINDS: dict[str, Callable[..., Image]] = {
    "lattice": lattice,
    "particles": particles,
    "membranes": membranes,
    "film": film,
}
# `micrograph` draws each parameter evenly from its range, in the units told above.
RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "lattice": {"spacing": (7, 22), "vacancies": (0, 0.06), "grain": (100, 500)},
    "particles": {"radius": (5, 25), "coverage": (0.05, 0.4), "contrast": (0.6, 2)},
    "membranes": {"cell": (50, 140), "thickness": (1.2, 2.5), "stain": (0.2, 0.8)},
    "film": {"cutoff": (0.15, 0.45), "rings": (1, 6)},
}


def micrograph(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Draw a micrograph of a random kind with random parameters.

    Examples
    --------
    >>> micrograph((48, 64), np.random.default_rng(0)).shape
    (48, 64)
    """
    kind = list(KINDS)[rng.integers(len(KINDS))]
    parameters = {name: rng.uniform(*limits) for name, limits in RANGES[kind].items()}
    return KINDS[kind](shape, rng, **parameters)


def _cells(
    shape: tuple[int, int], rng: np.random.Generator, size: float, warp: float
) -> tuple[NDArray[np.intp], Field]:
    """Give each pixel the number of its irregular cell, and the distance to the next.

    A cell is what lies nearest to its seed; there is one seed in each square of a grid.
    Borders are bent by `warp` pixels.
    """
    y, x = np.indices(shape, dtype=np.float32)
    y, x = y + warp * smooth(shape, rng, size), x + warp * smooth(shape, rng, size)
    # Squares around the image, for pixels that are moved by up to four deviations.
    margin = int(4 * warp / size) + 2
    rows, columns = (int(side / size) + 2 * margin + 1 for side in shape)
    grid = np.indices((rows, columns)).reshape(2, -1) - margin
    within = rng.uniform(0.1, 0.9, grid.shape)  # seeds keep away from their square's edge
    seeds = ((grid + within) * size).astype(np.float32)
    row = np.clip(y // size + margin, 1, rows - 2).astype(np.intp)
    column = np.clip(x // size + margin, 1, columns - 2).astype(np.intp)

    nearest = np.full(shape, np.inf, dtype=np.float32)
    second, index = nearest, np.zeros(shape, dtype=np.intp)
    for down, right in np.ndindex(3, 3):
        cell = (row + down - 1) * columns + column + right - 1
        distance = np.sqrt((y - seeds[0][cell]) ** 2 + (x - seeds[1][cell]) ** 2)
        second = np.minimum(second, np.maximum(nearest, distance))
        index = np.where(distance < nearest, cell, index)
        nearest = np.minimum(nearest, distance)
    return index, (second - nearest) / 2


def _columns(
    u: Field, v: Field, opening: float, rng: np.random.Generator, vacancies: float
) -> Field:
    """Add up atomic columns at the whole numbers of u and v, Gaussians of height near 1.

    The coordinates count sides of a unit cell that enclose the angle `opening`.
    """
    side = 127  # columns differ by a table of this side, which large images repeat
    width = 0.16  # deviation of a column, in sides of the unit cell
    missing = rng.uniform(size=(side, side)) < vacancies
    # Columns differ by 5 % in height; a vacancy leaves a quarter of the atoms.
    heights = np.where(missing, 0.25, rng.normal(1, 0.05, (side, side))).astype(np.float32)
    left, below = np.floor(u), np.floor(v)
    i, j = (np.mod(corner, side).astype(np.intp) for corner in (left, below))
    heights = np.pad(heights, (0, 1), mode="wrap")
    total = np.zeros_like(u)
    for right, up in np.ndindex(2, 2):  # the cell's corners; the others are too far to add
        du, dv = u - left - right, v - below - up
        square = du**2 + dv**2 + du * dv * float(2 * np.cos(opening))
        total += heights[i + right, j + up] * np.exp(square * (-0.5 / width**2))
    return total


def _projected_particles(
    shape: tuple[int, int], rng: np.random.Generator, radius: float, coverage: float
) -> Field:
    """Add up what particles absorb, in units of the middle of a median sphere."""
    spread = 0.3  # deviation of a radius's natural logarithm
    # Particles fall anywhere, so they overlap: n of area a leave exp(-n a) of the film.
    area = np.pi * radius**2 * np.exp(2 * spread**2)
    margin = 3 * radius
    sides = np.add(shape, 2 * margin)
    count = rng.poisson(-np.log1p(-coverage) / area * sides.prod())
    total = np.zeros(shape, dtype=np.float32)
    for y, x in rng.uniform(size=(count, 2)) * sides - margin:
        size = radius * np.exp(rng.normal(0, spread))
        window, dy, dx = _window(shape, y, x, 1.2 * size)  # corners stick out of a sphere
        facets = int(rng.integers(5, 9)) if rng.uniform() < 0.5 else 0
        profile = (
            _polyhedron(dy, dx, size, facets, rng) if facets else _sphere(dy, dx, size)
        )
        orientation = rng.uniform(0.45, 1.1)  # contrast over that of a median particle
        total[window] += size / radius * orientation * profile
    return total


def _sphere(dy: Field, dx: Field, radius: float) -> Field:
    return np.sqrt(np.maximum(1 - (dy**2 + dx**2) / radius**2, 0))


def _polyhedron(
    dy: Field, dx: Field, radius: float, facets: int, rng: np.random.Generator
) -> Field:
    """Return the thickness of a flat-topped crystal, whose outline has a disc's area.

    From a facet inwards it rises to 0.8 of a sphere's middle within a fifth of the radius.
    """
    apothem = radius * np.sqrt(np.pi / facets / np.tan(np.pi / facets))
    angles = rng.uniform(0, np.pi) + 2 * np.pi / facets * np.arange(facets)
    normal = np.cos(angles)[:, None, None] * dx + np.sin(angles)[:, None, None] * dy
    return np.clip(4 * (1 - normal.max(axis=0) / apothem), 0, 0.8)


def _add_organelles(
    tissue: Field, room: Field, rng: np.random.Generator, size: float, cristae: bool
) -> None:
    """Add mitochondria (with cristae) or vesicles wherever there is room, in place.

    `room` is the distance to what is already there; `size` is half the width of an
    organelle, both in pixels. Organelles vary in width, and mitochondria are long.
    """
    attempts = int(tissue.size / (6 * size**2)) + 1  # many of them find no room
    for y, x in (rng.uniform(size=(attempts, 2)) * tissue.shape).astype(int):
        short = size * rng.uniform(0.7, 1.2)
        if room[y, x] < short:
            continue
        long = min(float(room[y, x]), short * (rng.uniform(1.2, 2.5) if cristae else 1))
        window, dy, dx = _window(tissue.shape, y, x, long + size)
        angle = rng.uniform(0, np.pi)
        along = np.cos(angle) * dx + np.sin(angle) * dy
        across = np.cos(angle) * dy - np.sin(angle) * dx
        outside = (np.hypot(along / long, across / short) - 1) * short
        # Cristae lie 0.55 sizes apart, and a little askew across the organelle.
        folds = np.cos(2 * np.pi * (along + 0.15 * across) / (0.55 * size))
        tissue[window] += _organelle(outside, folds if cristae else None)
        room[window] = np.minimum(room[window], outside)


def _organelle(outside: Field, folds: Field | None) -> Field:
    """Return how an organelle changes the grey: dark wall, dark or clear inside.

    `outside` is the distance from the wall in pixels, negative inside the organelle.
    """
    inside = 1 / (1 + np.exp(np.clip(4 * outside, -50, 50)))  # half a pixel to fade
    wall = np.exp(-((outside / 1.3) ** 2))  # two pixels wide
    # A vesicle is clear; the matrix of a mitochondrion is dark, and folded from 3 px on.
    matrix = 0.12 if folds is None else 0.1 * folds * (outside < -3) - 0.2
    return inside * matrix - 0.35 * wall


def _window(
    shape: tuple[int, ...], y: float, x: float, reach: float
) -> tuple[tuple[slice, slice], Field, Field]:
    """Return the part of an image within reach of a point, and offsets from the point."""
    (top, bottom), (left, right) = (
        np.clip([int(centre - reach), int(centre + reach) + 2], 0, side)
        for centre, side in zip((y, x), shape, strict=True)
    )
    dy, dx = np.ogrid[top:bottom, left:right]
    return (slice(top, bottom), slice(left, right)), dy - y, dx - x


def _speckle(
    shape: tuple[int, int], rng: np.random.Generator, cutoff: float, rings: float
) -> Field:
    """Draw what a contrast transfer function with so many rings makes of white noise."""

    def transfer(frequency: Field) -> Field:
        square = (frequency / cutoff) ** 2
        return np.sin(np.pi * rings * square) * np.maximum(1 - square, 0)

    return filtered_noise(shape, rng, transfer)


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")


def _require_fraction(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be from 0 to below 1, got {value}")
