"""Simulate clean micrographs with abTEM, to widen what a denoiser is trained on.

    pip install abtem ase tifffile
    python studies/corpus/simulate.py runs/simulated

The new folder holds float32 TIFFs that span [0, 1] and a manifest.csv with columns file,
source and split. The seed and a specimen's number determine its images, but for rounding.
How they come about, from most to least exact:

- HRTEM of particles, films and sheets: multislice of a plane wave through all atoms of the
  frame, then the objective lens with its partial coherence as envelopes on the wave.
- Bright field and annular bright field STEM of particles: the same, by reciprocity. Each
  point of the detector acts as the source of a tilted plane wave, and 7 and 12 points
  stand for the disc and the ring.
- Crystals: multislice of a unit cell, by a plane wave or by a scanned probe with one set of
  thermal displacements. The result is tiled over the frame and interpolated along the
  local thickness, so edges and grain boundaries diffract as if each place were periodic.
- HAADF of particles and sheets: no multislice. Atoms count by their atomic number to the
  power 1.7, blurred by the probe's intensity; no channelling, so zone axes are too dim.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import abtem
import ase.cluster
import numpy as np
import tifffile
from abtem.core.energy import energy2wavelength
from ase import Atoms
from ase.build import bulk, graphene, make_supercell, mx2
from ase.data import atomic_numbers, reference_states
from ase.spacegroup import crystal as from_spacegroup
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.signal import resample
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from emdn.data.corpus import Entry, write_manifest
from emdn.data.sampler import area_mean
from emdn.scaling import to_unit
from emdn.specimens.fields import smooth

Generator = np.random.Generator
Field = NDArray[np.floating]
Images = dict[str, Field]  # by source

HRTEM, HAADF = "simulated HRTEM", "simulated HAADF"
BRIGHT, ANNULAR = "simulated bright field", "simulated annular bright field"

SIDES = (256, 384, 512)
MARGIN = 64  # pixels around a frame, as the Fourier transform wraps its borders
CARBON = 0.1  # atoms per cubic Angstrom, of amorphous carbon
SLICE = 2.0  # Angstrom, of multislice
THERMAL = 0.08  # Angstrom, by which atoms are off their places
STILL = abtem.parametrizations.LobatoParametrization()
SMEARED = abtem.parametrizations.LobatoParametrization(sigmas=THERMAL)

CRYSTALS: dict[str, Callable[[], Atoms]] = {
    "Au": lambda: bulk("Au", cubic=True),
    "Pt": lambda: bulk("Pt", cubic=True),
    "Cu": lambda: bulk("Cu", cubic=True),
    "Fe": lambda: bulk("Fe", cubic=True),
    "Si": lambda: bulk("Si", cubic=True),
    "GaAs": lambda: bulk("GaAs", "zincblende", a=5.653, cubic=True),
    "MgO": lambda: bulk("MgO", "rocksalt", a=4.212, cubic=True),
    "CeO2": lambda: bulk("CeO2", "fluorite", a=5.411, cubic=True),
    "SrTiO3": lambda: from_spacegroup(
        ["Sr", "Ti", "O"],
        [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)],
        spacegroup=221,
        cellpar=[3.905] * 3 + [90] * 3,
    ),
    "TiO2": lambda: from_spacegroup(
        ["Ti", "O"],
        [(0, 0, 0), (0.305, 0.305, 0)],
        spacegroup=136,
        cellpar=[4.594, 4.594, 2.959, 90, 90, 90],
    ),
}

# Rows are the axes down, across and along the beam, in the unit cell's.
ZONES = {
    "001": [(1, 0, 0), (0, 1, 0), (0, 0, 1)],
    "100": [(0, 0, 1), (0, 1, 0), (1, 0, 0)],
    "110": [(0, 0, 1), (1, -1, 0), (1, 1, 0)],
    "111": [(1, -1, 0), (1, 1, -2), (1, 1, 1)],
    "112": [(1, -1, 0), (1, 1, -1), (1, 1, 2)],
}

HRTEM_CRYSTALS = (
    ("Au", "110"),
    ("Si", "110"),
    ("SrTiO3", "001"),
    ("GaAs", "110"),
    ("MgO", "001"),
    ("TiO2", "001"),
    ("CeO2", "110"),
    ("Pt", "001"),
    ("SrTiO3", "110"),
    ("Si", "112"),
    ("TiO2", "100"),
    ("Fe", "111"),
    ("GaAs", "001"),
    ("Au", "111"),
    ("Cu", "110"),
    ("MgO", "110"),
)
STEM_CRYSTALS = (
    ("SrTiO3", "001"),
    ("Si", "110"),
    ("Au", "110"),
    ("GaAs", "110"),
    ("TiO2", "001"),
    ("CeO2", "110"),
    ("SrTiO3", "110"),
    ("Pt", "001"),
    ("MgO", "110"),
    ("GaAs", "001"),
)
METALS = ("Au", "Pt", "Cu", "Ag", "Pd")
OXIDES = ("CeO2", "MgO", "SrTiO3", "TiO2")
SHEETS = ("graphene", "MoS2", "WS2")


def hrtem_crystal(rng: Generator, number: int) -> Images:
    """Image a wedge of crystal in a zone axis, often under an amorphous layer."""
    cell = unit_cell(*HRTEM_CRYSTALS[number % len(HRTEM_CRYSTALS)])
    side, pixel = int(rng.choice(SIDES)), rng.uniform(0.1, 0.25)
    energy = rng.choice([200e3, 300e3])
    column = cell * (1, 1, int(rng.uniform(60, 160) / cell.cell.lengths()[2]))
    potential = sliced(column, cell, 0.05, SMEARED)
    wave = abtem.PlaneWave(energy=energy).multislice(potential, lazy=False)
    height, width, _ = cell.cell.lengths()
    exit_wave = tiled(rng, wave.array, (height, width), side + 2 * MARGIN, pixel)
    if rng.random() < 0.7:
        layer = carbon(rng, len(exit_wave) * pixel, rng.uniform(8, 40))
        exit_wave = through(layer, exit_wave, energy)
    return {HRTEM: camera(rng, exit_wave, pixel, energy)}


def hrtem_particles(rng: Generator, number: int) -> Images:
    """Image particles on amorphous carbon, every fourth time several at a low scale."""
    several = number % 4 == 3
    side, pixel = int(rng.choice(SIDES)), rng.uniform(0.1, 0.22)
    if several:
        side, pixel = 384, rng.uniform(0.35, 0.5)
    factor = 1 + several  # the potential needs finer pixels than the image
    energy = rng.choice([80e3, 200e3, 300e3])
    extent = (side + 2 * MARGIN) * pixel
    diameter = 35 if several else 0.5 * extent
    count = rng.integers(8, 16) if several else rng.integers(1, 4)
    atoms = on_carbon(rng, extent, rng.uniform(10, 40), diameter, count)
    wave = np.ones(2 * ((side + 2 * MARGIN) * factor,), np.complex64)
    wave = through(atoms, wave, energy)
    return {HRTEM: camera(rng, wave, pixel / factor, energy, factor)}


def hrtem_film(rng: Generator, _number: int) -> Images:
    """Image bare amorphous carbon so far from focus that Thon rings are many."""
    side, pixel = int(rng.choice(SIDES)), rng.uniform(0.2, 0.5)
    energy = rng.choice([80e3, 120e3, 200e3, 300e3])
    extent = (side + 2 * MARGIN) * pixel
    layer = carbon(rng, extent, rng.uniform(15, 50))
    if rng.random() < 0.5:
        layer = with_hole(rng, layer)
    wave = np.ones(2 * (side + 2 * MARGIN,), np.complex64)
    return {HRTEM: camera(rng, through(layer, wave, energy), pixel, energy, far=True)}


def hrtem_sheet(rng: Generator, number: int) -> Images:
    """Image graphene or a dichalcogenide with defects and dirt, at 80 kV, corrected."""
    side, pixel = int(rng.choice(SIDES)), rng.uniform(0.1, 0.22)
    atoms = sheet(rng, SHEETS[number % len(SHEETS)], (side + 2 * MARGIN) * pixel)
    wave = through(atoms, np.ones(2 * (side + 2 * MARGIN,), np.complex64), 80e3)
    return {HRTEM: camera(rng, wave, pixel, 80e3, corrected=True)}


def stem_crystal(rng: Generator, number: int) -> Images:
    """Scan a crystal in a zone axis; three detectors see it at other scales and places."""
    cell = unit_cell(*STEM_CRYSTALS[number % len(STEM_CRYSTALS)])
    energy = rng.choice([80e3, 100e3, 200e3])
    wavelength = energy2wavelength(energy)
    angle = (
        1e3 * wavelength * rng.uniform(0.65, 0.85)
    )  # mrad; a probe of 0.7 to 0.9 Angstrom
    height, width, depth = cell.cell.lengths()
    repeats = (np.ceil(13 / height), np.ceil(13 / width), rng.uniform(60, 110) // depth)
    block = cell * tuple(int(n) for n in repeats)
    block.positions += rng.normal(0, THERMAL, block.positions.shape)
    block.wrap()

    widest = 105  # mrad, where the multislice cuts off
    potential = sliced(block, cell, wavelength / (3e-3 * widest), STILL)
    probe = abtem.Probe(
        energy=energy, semiangle_cutoff=angle, defocus=rng.normal(0, 15), Cs=0
    )
    step = wavelength / (4e-3 * angle)  # Nyquist's
    gpts = (int(np.ceil(height / step)), int(np.ceil(width / step)))
    scan = abtem.GridScan((0, 0), (height, width), gpts=gpts)
    ranges = {HAADF: (60, 100), BRIGHT: (0, 0.4 * angle), ANNULAR: (0.5 * angle, angle)}
    detectors = [abtem.AnnularDetector(*limits) for limits in ranges.values()]
    measured = probe.scan(potential, scan=scan, detectors=detectors, lazy=False)

    images = {}
    for source, measurement in zip(ranges, measured, strict=True):
        side, pixel = int(rng.choice(SIDES)), rng.uniform(0.1, 0.4)
        stack = measurement.array
        for axis in (1, 2):
            stack = resample(stack, 6 * stack.shape[axis], axis=axis)
        image = tiled(rng, stack, (height, width), side, pixel)
        images[source] = gaussian_filter(image, rng.uniform(0.25, 0.5) / pixel)
    return images


def bright_field_particles(rng: Generator, number: int) -> Images:
    """Scan particles on carbon: bright field and its annular sister, by reciprocity."""
    side, pixel = (256, 384)[number % 2], rng.uniform(0.15, 0.25)
    energy, angle = rng.choice([100e3, 200e3, 300e3]), rng.uniform(15, 25)  # mrad
    pixels = side + 2 * MARGIN
    extent = pixels * pixel
    diameter, count = rng.uniform(0.25, 0.5) * extent, rng.integers(1, 5)
    atoms = on_carbon(rng, extent, rng.uniform(10, 30), diameter, count)
    lens = abtem.CTF(energy=energy, semiangle_cutoff=angle, defocus=rng.normal(0, 40), Cs=0)
    images = {}
    for source, points in ((BRIGHT, disc(0.35 * angle)), (ANNULAR, ring(0.75 * angle))):
        waves = tilted_waves(points, pixels, extent, energy)
        exits = through(atoms, waves, energy)
        seen = [as_waves(wave, energy, pixel).apply_ctf(lens).array for wave in exits]
        image = (np.abs(seen) ** 2).mean(axis=0)
        image = gaussian_filter(image, rng.uniform(0.2, 0.5) / pixel)
        images[source] = image[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return images


def haadf_particles(rng: Generator, number: int) -> Images:
    """Count atoms of particles on carbon; from one that fills the frame to dozens."""
    side = int(rng.choice(SIDES))
    pixel = (rng.uniform(0.1, 0.25), rng.uniform(0.25, 0.5), rng.uniform(0.8, 1.6))[
        number % 3
    ]
    extent = (side + 2 * MARGIN) * pixel
    diameter = (0.5 * extent, 35.0, rng.uniform(40, 80))[number % 3]
    room = (extent / diameter) ** 2
    count = max(1, rng.poisson(rng.uniform(0.1, 0.5) * room))
    atoms = strewn(rng, extent, diameter, count)
    film = rng.uniform(20, 200) * (
        1 + rng.uniform(0, 0.3) * smooth((side, side), rng, side / 2)
    )
    return {HAADF: counted(rng, atoms, side, pixel, film)}


def haadf_sheet(rng: Generator, number: int) -> Images:
    """Count atoms of a sheet with vacancies, dopants and dirt."""
    side, pixel = int(rng.choice(SIDES)), rng.uniform(0.1, 0.3)
    atoms = sheet(rng, SHEETS[number % len(SHEETS)], (side + 2 * MARGIN) * pixel)
    return {HAADF: counted(rng, atoms, side, pixel, np.zeros((side, side)))}


KINDS: dict[Callable[[Generator, int], Images], int] = {
    hrtem_crystal: 16,
    hrtem_particles: 12,
    hrtem_film: 4,
    hrtem_sheet: 6,
    stem_crystal: 10,
    bright_field_particles: 6,
    haadf_particles: 15,
    haadf_sheet: 5,
}
"""Numbers of specimens; two kinds make three and two images of each."""


def unit_cell(name: str, zone: str) -> Atoms:
    """Return the smallest rectangular cell that has the zone axis along the beam."""
    atoms = make_supercell(CRYSTALS[name](), ZONES[zone])
    atoms.set_cell(np.diag(atoms.cell.lengths()), scale_atoms=True)
    for axis in range(3):
        shift = np.eye(3)[axis] / 2
        while occupied(atoms, shift):
            scaled = np.mod(atoms.get_scaled_positions() + 1e-4, 1)
            atoms = atoms[scaled[:, axis] < 0.5]
            atoms.set_cell(atoms.cell * (1 - shift), scale_atoms=False)
    return atoms


def occupied(atoms: Atoms, shift: NDArray) -> bool:
    """Tell whether a shift, in units of the cell, maps each atom onto one of its kind."""
    scaled = atoms.get_scaled_positions()
    offset = scaled[:, None] + shift - scaled
    near = (np.abs(offset - np.round(offset)) < 1e-3).all(axis=2)
    alike = atoms.numbers[:, None] == atoms.numbers
    return bool((near & alike).any(axis=1).all())


def sliced(
    block: Atoms,
    cell: Atoms,
    sampling: float,
    parametrization: abtem.parametrizations.Parametrization,
) -> abtem.Potential:
    """Return the potential of a repeated unit cell, with an exit after each one."""
    depth = cell.cell.lengths()[2]
    slices = int(np.ceil(depth / SLICE))
    return abtem.Potential(
        block,
        sampling=sampling,
        slice_thickness=depth / slices,
        parametrization=parametrization,
        exit_planes=slices,
    )


def tiled(
    rng: Generator, stack: NDArray, size: tuple[float, float], side: int, pixel: float
) -> NDArray:
    """Cover a frame with a unit cell, of which the stack knows images by thickness.

    The crystal is turned, gets thicker to one side, may end within the frame, and may have
    a grain boundary.
    """
    y, x = np.indices((side, side)) * pixel
    one, other = rng.uniform(0, 2 * np.pi, 2)
    border = np.cos(other) * y + np.sin(other) * x + 3 * smooth((side, side), rng, side / 5)
    level = np.quantile(border, rng.uniform(0.25, 0.75))
    if rng.random() < 0.7:
        level = np.inf
    angle = np.where(border < level, one, other)
    u = (np.cos(angle) * y - np.sin(angle) * x) / size[0] * stack.shape[1]
    v = (np.sin(angle) * y + np.cos(angle) * x) / size[1] * stack.shape[2]
    return map_coordinates(
        stack, (thickness(rng, side) * (len(stack) - 1), u, v), order=1, mode="grid-wrap"
    )


def thickness(rng: Generator, side: int) -> Field:
    """Draw a wedge with a rough surface, in units of the largest thickness."""
    y, x = np.indices((side, side)) / side - 0.5
    direction = rng.uniform(0, 2 * np.pi)
    slope = np.cos(direction) * y + np.sin(direction) * x
    wedge = rng.uniform(0.15, 0.6) + rng.uniform(0, 0.6) * slope
    if rng.random() < 0.3:  # vacuum on one side
        wedge *= np.clip(8 * (slope + rng.uniform(0.1, 0.3)), 0, 1)
        wedge *= np.clip(1 + 2 * slope + 0.3 * smooth((side, side), rng, side / 5), 0, 1)
    wedge += rng.uniform(0, 0.05) * smooth((side, side), rng, side / 2.5) * (wedge > 0)
    return np.clip(wedge, 0, 1)


def carbon(rng: Generator, extent: float, height: float) -> Atoms:
    """Scatter carbon atoms over a square film, none closer than neighbours in graphite."""
    # Every fourth atom is too close to others, roughly, and goes.
    count = int(1.35 * CARBON * extent**2 * height)
    positions = rng.uniform(size=(count, 3)) * (extent, extent, height)
    close = cKDTree(positions).query_pairs(1.2, output_type="ndarray")
    positions = np.delete(positions, close[:, 1], axis=0)
    return Atoms(["C"] * len(positions), positions, cell=(extent, extent, height))


def with_hole(rng: Generator, film: Atoms) -> Atoms:
    """Remove the atoms of a film from a disc, across the frame's borders if need be."""
    extent = film.cell.lengths()[0]
    offset = film.positions[:, :2] / extent - rng.uniform(size=2)
    distance = np.linalg.norm(offset - np.round(offset), axis=1)
    return film[distance > rng.uniform(0.2, 0.45)]


def on_carbon(
    rng: Generator, extent: float, height: float, diameter: float, count: int
) -> Atoms:
    """Put particles of about such a diameter, all in Angstrom, on a carbon film."""
    film = carbon(rng, extent, height)
    if rng.random() < 0.3:
        film = with_hole(rng, film)
    particles = strewn(rng, extent, diameter, count)
    particles.positions[:, 2] += height
    return boxed(film + particles, extent)


def strewn(rng: Generator, extent: float, diameter: float, count: int) -> Atoms:
    """Lay particles, of one material in most frames, on a plane."""
    material = random_material(rng)
    atoms = Atoms()
    for place in places(rng, extent, diameter, count):
        if rng.random() < 0.1:
            material = random_material(rng)
        size = diameter * np.exp(rng.normal(0, 0.2))
        particle = random_particle(rng, material, size)
        particle.translate((*place, 1.5 - particle.positions[:, 2].min()))
        atoms += particle
    return cropped(atoms, extent)


def boxed(atoms: Atoms, extent: float) -> Atoms:
    """Give atoms a cell that is as wide as the frame and as high as they need."""
    atoms = atoms.copy()
    atoms.positions[:, 2] += 1 - atoms.positions[:, 2].min()
    atoms.set_cell((extent, extent, atoms.positions[:, 2].max() + 1))
    return atoms


def cropped(atoms: Atoms, extent: float) -> Atoms:
    """Drop atoms outside a square frame, lest they come in again on its other side."""
    across = atoms.positions[:, :2]
    return atoms[((across >= 0) & (across < extent)).all(axis=1)]


def places(rng: Generator, extent: float, distance: float, count: int) -> list[NDArray]:
    """Draw up to `count` points of a frame that lie mostly as far apart as that.

    The first lies near the middle, lest the frame be empty.
    """
    chosen = [rng.uniform(0.35, 0.65, 2) * extent]
    for _ in range(20 * count):
        place = rng.uniform(0, 1, 2) * extent
        nearest = min(np.hypot(*(place - other)) for other in chosen)
        if len(chosen) < count and nearest > distance * rng.uniform(0.7, 1.1):
            chosen.append(place)
    return chosen


class Material(NamedTuple):
    """What the particles of a frame are made of.

    Parameters
    ----------
    host, guest : str
        Metals, or an oxide and nothing.
    mixing : {"pure", "alloy", "core"}
        Where the guest is.
    share : float
        Of the guest: of atoms in an alloy, of the radius in a core.
    """

    host: str
    guest: str
    mixing: str
    share: float


def random_material(rng: Generator) -> Material:
    """Draw a metal, an alloy, a core in a shell, or an oxide."""
    if rng.random() < 0.15:
        return Material(str(rng.choice(OXIDES)), "", "pure", 0.0)
    host, guest = rng.permutation(METALS)[:2]
    mixing = rng.choice(["pure", "alloy", "core"], p=[0.6, 0.2, 0.2])
    return Material(str(host), str(guest), str(mixing), rng.uniform(0.3, 0.8))


def random_particle(rng: Generator, material: Material, diameter: float) -> Atoms:
    """Return a particle around the origin, of random shape and orientation."""
    make = oxide if material.host in OXIDES else metal
    particle = make(rng, material.host, diameter)
    positions = particle.positions - particle.positions.mean(axis=0)
    radii = np.linalg.norm(positions, axis=1)
    swapped = {
        "pure": np.zeros(len(radii), bool),
        "alloy": rng.random(len(radii)) < material.share,
        "core": radii < material.share * radii.max(),
    }[material.mixing]
    numbers = particle.numbers.copy()
    if swapped.any():
        numbers[swapped] = atomic_numbers[material.guest]
    return Atoms(numbers=numbers, positions=orientation(rng).apply(positions))


def metal(rng: Generator, symbol: str, diameter: float) -> Atoms:
    """Return a facetted single crystal or a twinned particle of a face-centred metal."""
    lattice = reference_states[atomic_numbers[symbol]]["a"]
    layer = lattice / np.sqrt(3)  # between close-packed planes
    shape = rng.choice(["facetted", "icosahedron", "decahedron"], p=[0.7, 0.15, 0.15])
    shells = max(3, round(diameter / 2 / layer))
    if shape == "icosahedron":
        return ase.cluster.Icosahedron(symbol, shells + 1)
    if shape == "decahedron":
        return ase.cluster.Decahedron(symbol, max(2, shells), max(1, shells // 2), 1)
    # Distances of facets relative to the close-packed ones: cube, octahedron and between.
    cube, edge = rng.uniform(0.75, 1.3), rng.uniform(0.95, 1.3)
    radii = np.array([cube, edge, 1]) * diameter / 2
    spacings = lattice / np.array([2, np.sqrt(8), np.sqrt(3)])
    layers = np.maximum(np.round(radii / spacings), 2).astype(int)
    families = [(1, 0, 0), (1, 1, 0), (1, 1, 1)]
    return ase.cluster.FaceCenteredCubic(symbol, families, list(layers))


def oxide(rng: Generator, name: str, diameter: float) -> Atoms:
    """Cut a rounded cube out of an oxide."""
    cell = CRYSTALS[name]()
    block = cell * tuple(np.ceil(1.1 * diameter / cell.cell.lengths()).astype(int))
    offset = block.positions - block.positions.mean(axis=0)
    inside = np.linalg.norm(offset, axis=1) < rng.uniform(0.5, 0.65) * diameter
    return block[inside & (np.abs(offset) < 0.45 * diameter).all(axis=1)]


def orientation(rng: Generator) -> Rotation:
    """Draw a random rotation, in half of the cases one near a zone axis."""
    if rng.random() < 0.5:
        return Rotation.random(rng=rng)
    axis = np.array([(0, 0, 1), (0, 1, 1), (1, 1, 1)][rng.integers(3)], float)
    upright, _ = Rotation.align_vectors([(0, 0, 1)], [axis / np.linalg.norm(axis)])
    angles = (rng.uniform(0, 360), *rng.normal(0, 2, 2))
    return Rotation.from_euler("zyx", angles, degrees=True) * upright


def sheet(rng: Generator, name: str, extent: float) -> Atoms:
    """Return a monolayer that fills a square frame, with defects and patches of dirt."""
    cell = graphene() if name == "graphene" else mx2(name, a=3.18, thickness=3.13)
    cell.center(vacuum=2, axis=2)
    cell = abtem.orthogonalize_cell(cell)
    across = np.ceil(1.5 * extent / cell.cell.lengths()[:2]).astype(int)
    atoms = cell * (*across, 1)
    atoms.rotate(rng.uniform(0, 360), "z", center="COP")
    atoms.positions[:, :2] += extent / 2 - atoms.positions[:, :2].mean(axis=0)
    atoms = cropped(atoms, extent)

    light = atoms.numbers == atoms.numbers.min()
    missing = light & (rng.random(len(atoms)) < rng.choice([0, 0.01, 0.04]))
    host, guest = {"graphene": ("C", "Si"), "MoS2": ("Mo", "W"), "WS2": ("W", "Mo")}[name]
    doped = (atoms.symbols == host) & (rng.random(len(atoms)) < rng.choice([0.003, 0.03]))
    atoms.numbers[doped] = atomic_numbers[guest]
    atoms = atoms[~missing]
    if rng.random() < 0.4:
        atoms = with_hole(rng, Atoms(atoms, cell=(extent, extent, 1)))
    if rng.random() < 0.6:
        atoms += dirt(rng, extent, atoms.positions[:, 2].max())
    return boxed(atoms, extent)


def dirt(rng: Generator, extent: float, below: float) -> Atoms:
    """Return patches of amorphous carbon on a sheet."""
    layer = carbon(rng, extent, rng.uniform(6, 15))
    field = smooth((128, 128), rng, 48)
    row, column = (np.minimum(layer.positions[:, :2].T / extent, 0.999) * 128).astype(int)
    # Patches get thinner towards their borders.
    room = (field[row, column] - rng.uniform(0.3, 1)) * 20
    layer = layer[layer.positions[:, 2] < room]
    layer.positions[:, 2] += below + 2
    return layer


def through(atoms: Atoms, waves: NDArray, energy: float) -> NDArray:
    """Send waves, of shape (..., H, W), through the atoms of the frame."""
    extent = atoms.cell.lengths()[0]
    count = waves.shape[-1]
    potential = abtem.Potential(
        boxed(atoms, extent),
        gpts=count,
        slice_thickness=SLICE,
        parametrization=SMEARED,
    ).build(lazy=False)
    exits = np.empty(waves.shape, np.complex64)
    for index in np.ndindex(waves.shape[:-2]):
        wave = as_waves(waves[index], energy, extent / count)
        exits[index] = wave.multislice(potential).array
    return exits


def as_waves(wave: NDArray, energy: float, pixel: float) -> abtem.Waves:
    """Return abTEM's view of a wave, whose precision must be single."""
    return abtem.Waves(wave.astype(np.complex64), energy=energy, sampling=pixel)


def camera(
    rng: Generator,
    wave: NDArray,
    pixel: float,
    energy: float,
    factor: int = 1,
    *,
    far: bool = False,
    corrected: bool | None = None,
) -> Field:
    """Return the image that a random objective lens makes, without the margin."""
    corrected = rng.random() < 0.5 if corrected is None else corrected
    lens = random_lens(rng, energy, corrected=corrected, far=far)
    image = np.abs(as_waves(wave, energy, pixel).apply_ctf(lens).array) ** 2
    image = gaussian_filter(area_mean(image, factor), rng.uniform(0, 0.8))
    return image[MARGIN:-MARGIN, MARGIN:-MARGIN]


def random_lens(rng: Generator, energy: float, *, corrected: bool, far: bool) -> abtem.CTF:
    """Draw a corrected or an ordinary lens near its best focus, or far from it."""
    if corrected:
        spherical = rng.choice([-1, 1]) * rng.uniform(2e4, 1.5e5)  # up to 15 micrometres
        focal_spread, angular_spread = rng.uniform(20, 40), rng.uniform(0.05, 0.3)
    else:
        spherical = rng.uniform(5e6, 1.2e7)  # up to 1.2 millimetres
        focal_spread, angular_spread = rng.uniform(35, 70), rng.uniform(0.1, 0.5)
    wavelength = energy2wavelength(energy)
    scherzer = np.sign(spherical) * np.sqrt(1.5 * abs(spherical) * wavelength)
    defocus = scherzer * rng.uniform(0.6, 2)
    if far:
        defocus = rng.choice([-1, 1]) * rng.uniform(600, 2500)
    return abtem.CTF(
        energy=energy,
        Cs=spherical,
        defocus=defocus,
        focal_spread=focal_spread,
        angular_spread=angular_spread,
    )


def disc(radius: float) -> NDArray:
    """Return 7 directions, in mrad, that stand for a disc."""
    return np.concatenate([np.zeros((1, 2)), ring(0.75 * radius, 6)])


def ring(radius: float, count: int = 12) -> NDArray:
    """Return directions, in mrad, that stand for a ring."""
    angles = 2 * np.pi * (np.arange(count) + 0.25) / count
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def tilted_waves(directions: NDArray, count: int, extent: float, energy: float) -> NDArray:
    """Return plane waves from some directions, in mrad, that fit the periodic frame."""
    periods = np.round(directions * 1e-3 / energy2wavelength(energy) * extent)
    y, x = np.indices((count, count)) / count
    phases = [2 * np.pi * (down * y + right * x) for down, right in periods]
    return np.exp(1j * np.stack(phases))


def counted(rng: Generator, atoms: Atoms, side: int, pixel: float, film: Field) -> Field:
    """Return the HAADF image of atoms as a sum of Z^1.7, blurred by a probe.

    `film` is the thickness (H, W) in Angstrom of the carbon below, whose atoms are so many
    that their number in each pixel is drawn instead.
    """
    factor = int(np.ceil(pixel / 0.2))
    fine, count = pixel / factor, (side + 2 * MARGIN) * factor
    edges = np.arange(count + 1) * fine
    weights = atoms.numbers**1.7
    total, _, _ = np.histogram2d(
        *atoms.positions[:, :2].T, bins=(edges, edges), weights=weights
    )
    rate = CARBON * fine**2 * np.pad(film, MARGIN, mode="edge")
    rate = np.maximum(rate, 0).repeat(factor, axis=0).repeat(factor, axis=1)
    total += 6**1.7 * rng.poisson(rate)

    probe = abtem.Probe(
        energy=rng.choice([80e3, 200e3, 300e3]),
        semiangle_cutoff=rng.uniform(18, 30),
        defocus=rng.normal(0, 20),
        sampling=fine,
        gpts=count,
    )
    intensity = np.fft.ifftshift(probe.build(lazy=False).intensity().array)
    peak = np.unravel_index(intensity.argmax(), intensity.shape)
    intensity = np.roll(intensity, [-n for n in peak], axis=(0, 1))
    image = irfft2(rfft2(total) * rfft2(intensity), s=total.shape)
    # The source's size; instabilities blur as much.
    image = gaussian_filter(image, rng.uniform(0.25, 0.5) / fine)
    return area_mean(image, factor)[MARGIN:-MARGIN, MARGIN:-MARGIN]


def specimens(seed: int, kinds: Sequence[str]) -> Iterator[tuple[str, Images]]:
    """Yield names and images of all specimens, of some kinds."""
    number = 0
    for kind, count in KINDS.items():
        for within in range(count):
            if kind.__name__ in kinds:
                rng = np.random.default_rng((seed, number))
                yield f"{number:03d}-{kind.__name__}", kind(rng, within)
            number += 1


def main() -> None:
    """Write images and a manifest."""
    names = [kind.__name__ for kind in KINDS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=names, default=names)
    arguments = parser.parse_args()
    (arguments.output / "train").mkdir(parents=True)
    abtem.config.set({"diagnostics.progress_bar": False})

    entries, start = [], time.perf_counter()
    for name, images in specimens(arguments.seed, arguments.kinds):
        for source, image in images.items():
            suffix = source.removeprefix("simulated ").replace(" ", "-").lower()
            file = f"train/{name}-{suffix}.tif"
            tifffile.imwrite(arguments.output / file, to_unit(image))
            entries.append(Entry(file, source, "train", "simulation"))
        print(f"{time.perf_counter() - start:6.0f} s  {name}", flush=True)
    write_manifest(arguments.output, entries)


if __name__ == "__main__":
    main()
