"""Images, montages, movies and tilt series that do not fit in memory.

    file --plan--> Plan --denoise--> pieces --write--> file

Three passes, each with a few rows or tiles in memory. The first finds what decides for the
whole image: which pixels are defects, its grey levels, its detector. The second denoises
some tiles at a time into a file each, a *piece*. The third puts the pieces together in the
image's own units. Small images of a stack are pieces as they are, some to a piece.

Pieces lie in a hidden folder beside the result and are written whole or not at all, so that
an interrupted job goes on where it was, and any number of processes may make them. The
folder tells of what input and by which settings; those of another are refused.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emdn import __version__
from emdn.cluster import Compute
from emdn.defects import Defects, Pixels
from emdn.denoiser import (
    FEWEST_PIXELS,
    Denoiser,
    Told,
    as_floats,
    counted_defects,
    detector_measured,
    detector_told,
    measured_with_levels,
)
from emdn.detector import Detector, Estimate, estimate_from_patches, sample_windows
from emdn.files import locked, put_in_place, remove, sha256, write_or_compare, written_whole
from emdn.io import Metadata, MicrographError, Source, open_micrograph, write_bands
from emdn.io.metadata import LENGTHS
from emdn.io.raw_frames import raw_block
from emdn.io.write import convert
from emdn.levels import Levels, Return, View, not_in_bars
from emdn.scaling import Scaling
from emdn.tiling import Tiling, bands_of, places
from emdn.whitening import Scratch, filter_on_disk

LARGE = 2**26
"""Pixels of an image or a stack, 8192 x 8192, above which it is denoised in pieces."""

LARGE_FRAME = 2**22
"""Pixels of an image in a stack, 2048 x 2048, above which a piece holds tiles of it."""

ROWS = 2**23  # pixels of pieces put together at a time, 32 MB of single precision


def is_large(source: Source) -> bool:
    """Tell whether an image or a stack is denoised in pieces unless one asks otherwise."""
    return int(np.prod(source.shape, dtype=object)) > LARGE


@dataclass
class Found:
    """What one learns of an image or a stack while it is denoised.

    Parameters
    ----------
    measured : str, optional
        What was measured of the detector, in words; of a stack, in its first image.
    notes : dict of str to int
        Warnings, and in how many images each was given.
    clipped : int
        Pixels that were clipped to the range of the type to write.
    """

    measured: str | None = None
    notes: dict[str, int] = field(default_factory=dict)
    clipped: int = 0

    def add(self, other: "Found") -> None:
        """Add what was learnt of a later image."""
        if self.measured is None:
            self.measured = other.measured
        self.note(other.notes)
        self.clipped += other.clipped

    def note(self, notes: Mapping[str, int]) -> None:
        """Add warnings, each with the number of images."""
        for text, images in notes.items():
            self.notes[text] = self.notes.get(text, 0) + images


@dataclass(frozen=True)
class Work:
    """What is to be denoised, how, and where its pieces lie. Other processes can be told.

    Parameters
    ----------
    path : Path
        The input file.
    image : str
        Name of the image in it.
    noise_remover : Denoiser
        The network, and how to apply it.
    told : Told
        What is known of the detector.
    dtype : dtype
        Type of the pixels to write.
    folder : Path
        Where the pieces lie.
    """

    path: Path
    image: str
    noise_remover: Denoiser
    told: Told
    dtype: np.dtype
    folder: Path

    @property
    def source(self) -> Source:
        """The image in the file."""
        status = self.path.stat()
        return _opened(self.path, self.image, status.st_mtime_ns, status.st_size)

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of an image."""
        height, width = self.source.shape[-2:]
        return height, width

    @property
    def images(self) -> int:
        """Number of images."""
        return self.source.shape[0] if len(self.source.shape) == 3 else 1

    @property
    def in_tiles(self) -> bool:
        """Whether a piece holds tiles of an image, not whole images."""
        one_image = int(np.prod(self.sides, dtype=object))
        return self.images == 1 or one_image > LARGE_FRAME

    @property
    def unpacked(self) -> Path:
        """Where the pixels of a file lie of which no part can be read without the rest."""
        return self.folder / "unpacked"

    def block(self, number: int, rows: slice, columns: slice) -> NDArray:
        """Return a part of an image as it is in the file."""
        source = self.source
        if source.block is not None:
            return source.block(number, rows, columns)
        size = int(np.prod(self.sides, dtype=object)) * source.dtype.itemsize
        read = raw_block(self.unpacked, lambda n: n * size, self.sides, source.dtype)
        return read(number, rows, columns)

    def pixels(self, number: int) -> Pixels:
        """Return an image to be read window by window."""

        def unmasked(rows: slice, columns: slice) -> NDArray[np.bool_]:
            return np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)

        return Pixels(
            self.sides,
            lambda rows, columns: as_floats(self.block(number, rows, columns)),
            unmasked,
        )


@lru_cache(maxsize=4)
def _opened(path: Path, image: str, *_: int) -> Source:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the caller was told
        return open_micrograph(path, image)


# ------------------------------------------------------------------------ the first pass


@dataclass(frozen=True)
class Plan:
    """What decides for all pixels of an image.

    Parameters
    ----------
    defects : Defects
        Which pixels are no image.
    levels : Levels
        Of the image without its defects.
    back : Return, optional
        How tiles are shown and come back; None if the image comes back as it is.
    coloured : (Detector, float), optional
        The detector whose correlation is undone before, and the dose that it measures.
    bars : (float, float), optional
        The grey level of no electrons and what one adds, if a part of the image is none.
    """

    defects: Defects
    levels: Levels
    back: Return | None = None
    coloured: tuple[Detector, float] | None = None
    bars: tuple[float, float] | None = None


def make_plan(work: Work, number: int) -> tuple[Plan, Found]:
    """Find out what decides for an image, a few rows of it in memory at a time."""
    pixels, found = work.pixels(number), Found()
    defects = Defects.of(pixels)
    kinds: Counter[str] = Counter()
    levels = Levels.of(_sound_bands(pixels, defects, kinds))
    size = pixels.shape[0] * pixels.shape[1]
    if text := counted_defects(kinds["unsound"], kinds["lost"], kinds["hot"], size):
        found.note({text: 1})
    told, estimate = work.told, None
    known = told.detector or detector_told(levels, told.gain, told.offset, told.readout)
    if known is None:
        estimate = _estimated(pixels, defects, told.offset)
        if estimate is not None:
            found.measured = in_words(estimate, levels.mean, work.source.metadata)
        if work.noise_remover.gain_aware:
            known, text = detector_measured(pixels.shape, levels, estimate, told.offset)
            if text:
                found.note({text: 1})
    if levels.constant or (work.noise_remover.gain_aware and known is None):
        return Plan(defects, levels), found
    if not work.noise_remover.gain_aware:
        known = None
    clip = work.noise_remover.clip
    blank = levels.blank(known)
    if known is None or not any(known.correlation):
        view = View.of(levels, known)
        bands = _sound_bands(pixels, defects)
        seen, barred = _seen(view, ((band, not_in_bars(band, *blank)) for band in bands))
        back, bars = Return(view, levels, seen, clip), blank if barred else None
        return Plan(defects, levels, back, bars=bars), found
    coloured = known, known.dose_of(levels.mean)
    white = _white(work, number)
    _require_space(work.folder, 3 * size * white.dtype.itemsize)
    filter_on_disk(
        lambda rows: defects.filled(pixels, rows, pixels.columns),
        white,
        levels.mean,
        *coloured,
    )
    alone = replace(known, correlation=(0.0, 0.0))
    of_white = Levels.of(_bands(white))
    view = View.of(of_white, alone)
    matched = (not_in_bars(band, *blank) for band in _sound_bands(pixels, defects))
    seen, barred = _seen(view, zip(_bands(white), matched, strict=True))
    back, bars = Return(view, of_white, seen, clip), blank if barred else None
    return Plan(defects, levels, back, coloured, bars), found


def _seen(
    view: View, bands: Iterable[tuple[NDArray, NDArray[np.bool_]]]
) -> tuple[Levels, bool]:
    """Return the levels of what is shown, with the mean of some pixels, and if not all.

    Each band comes with the pixels whose mean is matched.
    """
    sums = np.zeros(3)

    def shown() -> Iterator[NDArray[np.float32]]:
        for band, where in bands:
            seen = view.apply(band)
            sums[:] += seen.sum(dtype=np.float64, where=where), where.sum(), where.size
            yield seen

    levels = Levels.of(shown())
    total, number, size = sums
    if number in (0, size):
        return levels, False
    return replace(levels, mean=float(total / number)), True


def _white(work: Work, number: int) -> Scratch:
    """Return where an image lies whose noise was made white."""
    kind = as_floats(np.empty(0, work.source.dtype)).dtype
    return Scratch(work.folder / f"{number}.white", work.sides, kind)


def _bands(scratch: Scratch) -> Iterator[NDArray]:
    for rows in bands_of(scratch.shape):
        yield scratch.read(rows, slice(0, scratch.shape[1]))


def _sound_bands(
    pixels: Pixels, defects: Defects, kinds: Counter[str] | None = None
) -> Iterator[NDArray[np.floating]]:
    """Yield bands of an image without its defects, and count those."""
    for rows in pixels.bands():
        image, bad = defects.unsound(pixels, rows, pixels.columns)
        if kinds is not None:
            lost = int((~np.isfinite(image)).sum())
            unsound = int(bad.sum())
            kinds.update(unsound=unsound, lost=lost, hot=unsound - lost)
        yield defects.filled(pixels, rows, pixels.columns) if bad.any() else image


def _estimated(pixels: Pixels, defects: Defects, offset: float | None) -> Estimate | None:
    """Measure the detector in a sample of the image."""
    if min(pixels.shape) < FEWEST_PIXELS:
        return None
    looked_at = [defects.unsound(pixels, *each) for each in sample_windows(pixels.shape)]
    patches, bad = (np.stack(each) for each in zip(*looked_at, strict=True))
    return estimate_from_patches(patches, bad, offset=offset)


def in_words(estimate: Estimate, mean: float, metadata: Metadata) -> str:
    """Return a line about the detector of an image and, by its mean, about the dose."""
    dose = estimate.detector.dose_of(mean)
    text = f"{estimate}, dose {dose:.3g} electrons a pixel"
    nanometres = LENGTHS.get(metadata.unit or "")
    if metadata.pixel_size and nanometres:
        angstroms = 10 * metadata.pixel_size * nanometres
        text += f" ({dose / angstroms**2:.3g} per square angstrom)"
    return text


# ----------------------------------------------------------------------- the second pass


class Piece(NamedTuple):
    """A part of the work that one process does at a time.

    Parameters
    ----------
    work : Work
        Of all pieces.
    plan : Plan, optional
        Of the image, if the piece holds tiles.
    number : int
        Of the image, or of the first one of some.
    start, stop : int
        Numbers of the first tile, or image, and of the one after the last.
    """

    work: Work
    plan: Plan | None
    number: int
    start: int
    stop: int

    @property
    def path(self) -> Path:
        """The file of the piece."""
        kind = "npy" if self.plan else "npz"
        return self.work.folder / f"{self.number}-{self.start}.{kind}"


def make_piece(piece: Piece) -> Found:
    """Denoise a piece into its file, if it is not there already."""
    if piece.plan is None:
        return _make_images(piece)
    if not piece.path.exists():
        confined = _denoised_tiles(piece, piece.plan)
        with _piece_file(piece) as temporary, temporary.open("wb") as file:
            np.save(file, confined)
    return Found()


@contextmanager
def _piece_file(piece: Piece) -> Iterator[Path]:
    """Give a name to write to that no other process has, should two do the same work."""
    beside = f".{piece.path.name}.{os.getpid()}.part"
    with written_whole(piece.path, beside=beside) as temporary:
        yield temporary


def _denoised_tiles(piece: Piece, plan: Plan) -> NDArray[np.float32]:
    """Return what is kept of the tiles of a piece, as the network returns them."""
    work, back = piece.work, plan.back
    assert back is not None
    tiling = work.noise_remover.tiling(work.sides)
    pixels, white = work.pixels(piece.number), _white(work, piece.number)
    tiles = []
    for number in range(piece.start, piece.stop):
        rows, columns = places(tiling, number)
        window = tuple(slice(int(i.min()), int(i.max()) + 1) for i in (rows, columns))
        if plan.coloured is None:
            image = plan.defects.filled(pixels, *window)
        else:
            image = white.read(*window)
        inner = np.ix_(rows - window[0].start, columns - window[1].start)
        tiles.append(back.view.apply(image)[inner])
    denoised = work.noise_remover.denoise_tiles(np.stack(tiles), back.view.gain)
    (down, along), margin = tiling.stride, tiling.overlap
    return back.confined(denoised[:, margin : margin + down, margin : margin + along])


def denoise_image(
    image: NDArray, noise_remover: Denoiser, told: Told, metadata: Metadata, dtype: np.dtype
) -> tuple[NDArray, Found]:
    """Denoise an image in memory, and say what was learnt of it."""
    found = Found()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimate = levels = None
        if told.gain is None and told.readout is None:
            estimate, levels = measured_with_levels(image, offset=told.offset)
        if estimate is None or levels is None:
            restored = noise_remover.denoise(image, **vars(told))
        else:
            known, text = detector_measured(image.shape, levels, estimate, told.offset)
            restored = noise_remover.denoise(image, detector=known)
            found.measured = in_words(estimate, levels.mean, metadata)
            if text and noise_remover.gain_aware:
                found.note({text: 1})
    found.note(Counter(str(warning.message) for warning in caught))
    pixels, found.clipped = convert(restored, dtype)
    return pixels, found


def _make_images(piece: Piece) -> Found:
    work = piece.work
    if piece.path.exists():
        with np.load(piece.path, allow_pickle=False) as held:
            told = json.loads(held["found"].item())
            return Found(**told)
    height, width = work.sides
    images, found = [], Found()
    for number in range(piece.start, piece.stop):
        image = work.block(number, slice(0, height), slice(0, width))
        remover, metadata = work.noise_remover, work.source.metadata
        pixels, learnt = denoise_image(image, remover, work.told, metadata, work.dtype)
        found.add(learnt)
        images.append(pixels)
    with _piece_file(piece) as temporary, temporary.open("wb") as file:
        np.savez(file, images=np.stack(images), found=np.array(json.dumps(asdict(found))))
    return found


def _pieces_of_images(work: Work) -> Iterator[Piece]:
    some = max(1, LARGE_FRAME // (work.sides[0] * work.sides[1]))
    for first in range(0, work.images, some):
        yield Piece(work, None, first, first, min(first + some, work.images))


def _starts(work: Work) -> range:
    """Return the numbers of the first tiles of an image's pieces."""
    return range(0, len(work.noise_remover.tiling(work.sides)), _tiles_at_once(work))


def _tiles_at_once(work: Work) -> int:
    return work.noise_remover.batch_size


def _pieces_of_tiles(work: Work, plans: list[Plan], found: Found) -> Iterator[Piece]:
    """Yield the pieces of all images, and plan an image when its first piece is wanted."""
    tiles = len(work.noise_remover.tiling(work.sides))
    for number in range(work.images):
        plan, learnt = _planned(work, number)
        plans.append(plan)
        found.add(learnt)
        for start in _starts(work) if plan.back else ():
            yield Piece(work, plan, number, start, min(start + _tiles_at_once(work), tiles))


def _planned(work: Work, number: int) -> tuple[Plan, Found]:
    """Return the plan of an image as it was made before, or make and keep it."""
    path = work.folder / f"{number}.json"
    if path.exists():
        return _parsed(json.loads(path.read_text()))
    plan, found = make_plan(work, number)
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps({"plan": asdict(plan), "found": asdict(found)}))
    return plan, found


def _parsed(told: dict[str, Any]) -> tuple[Plan, Found]:
    plan, found = told["plan"], told["found"]
    back, coloured, bars = plan["back"], plan["coloured"], plan["bars"]
    if back is not None:
        view = back["view"]
        back = Return(
            View(Scaling(**view["scaling"]), view["gain"]),
            Levels(**back["levels"]),
            Levels(**back["seen"]),
            back["clip"],
        )
    if coloured is not None:
        told_of, dose = coloured
        correlation = tuple(told_of.pop("correlation"))
        coloured = Detector(**told_of, correlation=correlation), dose
    defects, levels = Defects(**plan["defects"]), Levels(**plan["levels"])
    made = Plan(defects, levels, back, coloured, None if bars is None else tuple(bars))
    return made, Found(**found)


# ------------------------------------------------------------------------ the third pass


def _bands_of_images(work: Work) -> Iterator[NDArray]:
    for piece in _pieces_of_images(work):
        with np.load(piece.path, allow_pickle=False) as held:
            yield from held["images"]


def _bands_of_tiles(work: Work, plans: list[Plan], found: Found) -> Iterator[NDArray]:
    """Yield rows of the result, in the type to write."""
    for number, plan in enumerate(plans):
        for band in _restored(work, plan, number):
            pixels, clipped = convert(band, work.dtype)
            found.clipped += clipped
            yield pixels


def _restored(work: Work, plan: Plan, number: int) -> Iterator[NDArray[np.float32]]:
    """Yield bands of one image in its own units."""
    if plan.back is None:
        for band in _sound_bands(work.pixels(number), plan.defects):
            yield band.astype(np.float32)
        return
    tiling = work.noise_remover.tiling(work.sides)
    total, size = 0.0, 0
    pixels = work.pixels(number)
    for rows, band in zip(_rows_of(tiling), _together(work, number, tiling), strict=True):
        where = np.ones(band.shape, bool)
        if plan.bars is not None:
            noisy = plan.defects.filled(pixels, rows, pixels.columns)
            where = not_in_bars(noisy, *plan.bars)
        total += float(band.sum(dtype=np.float64, where=where))
        size += int(where.sum())
    mean, back = total / size, plan.back
    restored = (back.apply(band, mean) for band in _together(work, number, tiling))
    if plan.coloured is None:
        yield from restored
        return
    white = Scratch(work.folder / f"{number}.restored", tiling.shape, np.dtype(np.float32))
    white.path.touch()
    for rows, band in zip(_rows_of(tiling), restored, strict=True):
        white.write(rows, slice(0, tiling.shape[1]), band)
    mean = Levels.of(_bands(white)).mean
    detector, dose = plan.coloured
    image = replace(white, path=white.path.with_suffix(".coloured"))
    filter_on_disk(
        lambda rows: white.read(rows, slice(0, tiling.shape[1])),
        image,
        mean,
        detector,
        dose,
        inverse=True,
    )
    for band in _bands(image):
        ends = np.float32(plan.levels.least), np.float32(plan.levels.largest)
        yield np.clip(band, *ends) if work.noise_remover.clip else band
    white.path.unlink()
    image.path.unlink()


def _rows_of(tiling: Tiling) -> Iterator[slice]:
    """Yield slices of rows that lie in one row of tiles, from top to bottom."""
    (height, width), (down, _) = tiling.shape, tiling.stride
    for top in range(0, height, down):
        for rows in bands_of((min(down, height - top), width), ROWS):
            yield slice(top + rows.start, top + rows.stop)


def _together(work: Work, number: int, tiling: Tiling) -> Iterator[NDArray[np.float32]]:
    """Yield bands of rows, put together from the tiles in pieces."""
    (_, width), (down, along), (_, across) = tiling.shape, tiling.stride, tiling.grid
    some = _tiles_at_once(work)
    for rows in _rows_of(tiling):
        band = np.empty((rows.stop - rows.start, width), np.float32)
        row, top = rows.start // down, rows.start % down
        for column in range(across):
            start, tile = divmod(row * across + column, some)
            path = work.folder / f"{number}-{start * some}.npy"
            left = column * along
            place = band[:, left : left + along]
            tiles = np.load(path, mmap_mode="r", allow_pickle=False)
            place[:] = tiles[tile, top : top + len(band), : place.shape[1]]
        yield band


# ----------------------------------------------------------------------------- all of it


def denoise_in_pieces(
    path: Path,
    source: Source,
    target: Path,
    noise_remover: Denoiser,
    told: Told,
    dtype: np.dtype,
    about: Callable[[Found], Metadata],
    *,
    overwrite: bool = False,
    compute: Compute[Any] = map,
    advance: Callable[[int, int], None] = lambda *_: None,
) -> Found:
    """Denoise an image or a stack of any size, or go on where that was interrupted.

    Parameters
    ----------
    path : Path
        The input file.
    source : Source
        The image or stack in it.
    target : Path
        The file to write, for which `emdn.io.check_output` found nothing wrong. Beside it a
        hidden folder holds the pieces until it is whole.
    noise_remover : Denoiser
        The network, and how to apply it.
    told : Told
        What is known of the detector; the rest is measured in each image.
    dtype : dtype
        Type of the pixels to write.
    about : callable
        Returns what is to be written beside the pixels, of what was found.
    overwrite : bool
        Whether to replace the target, and pieces of another input or by other settings.
    compute : callable
        Where pieces are made, as `emdn.cluster.computing` gives it.
    advance : callable
        Called with the number of pieces that are done and the number of all.

    Returns
    -------
    Found
        What was measured, and what the user should know.

    Raises
    ------
    MicrographError
        If the file cannot be read or written, or changes meanwhile.
    ValueError
        If an image cannot be denoised, or if pieces of another input or by other settings
        lie there.
    """
    folder = target.with_name(f".{target.name}.emdn")
    target = target.absolute()
    work = Work(path.absolute(), source.name, noise_remover, told, dtype, folder.absolute())
    try:
        before = _state(path)
        folder.mkdir(exist_ok=True)
        with locked(folder / "lock"):
            _begin(work, overwrite=overwrite)
            found = _make_and_write(work, target, about, compute, advance)
            if _state(path) != before:
                remove(folder)
                raise MicrographError(
                    f"{path}: changed while it was read; denoise it again"
                )
            put_in_place(folder / f"result{target.suffix}", target)
            shutil.rmtree(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "see to that and start again: it goes on where it was"
        raise MicrographError(f"{target}: cannot be made ({reason}); {remedy}") from error
    return found


def _make_and_write(
    work: Work,
    target: Path,
    about: Callable[[Found], Metadata],
    compute: Compute[Any],
    advance: Callable[[int, int], None],
) -> Found:
    source, found, plans = work.source, Found(), []
    if source.block is None and not work.unpacked.exists():
        _unpack(work)
    if work.in_tiles:
        tasks, all_pieces = (
            _pieces_of_tiles(work, plans, found),
            work.images * len(_starts(work)),
        )
    else:
        tasks, all_pieces = _pieces_of_images(work), sum(1 for _ in _pieces_of_images(work))
    learnt = Found()
    for number, each in enumerate(compute(make_piece, tasks), 1):
        learnt.add(each)
        advance(number, all_pieces)
    found.add(learnt)
    metadata = about(found)
    bands = _bands_of_tiles(work, plans, found) if plans else _bands_of_images(work)
    result = work.folder / f"result{target.suffix}"
    write_bands(result, bands, source.shape, work.dtype, metadata, overwrite=True)
    return found


def _state(path: Path) -> list[tuple[str, int, int]]:
    """Return names, sizes and times of a file, or of all files in a folder."""
    files = (
        [path]
        if path.is_file()
        else sorted(each for each in path.rglob("*") if each.is_file())
    )
    states = [(each, each.stat()) for each in files]
    return [(str(each), state.st_size, state.st_mtime_ns) for each, state in states]


def _begin(work: Work, *, overwrite: bool) -> None:
    """Write down what the pieces are of, or require that those there are of the same."""
    about = work.folder / "job.json"
    description = _description(work)
    try:
        write_or_compare(about, description)
    except ValueError as error:
        if not overwrite:
            remedy = "use --overwrite to begin anew"
            raise ValueError(f"{error}, or {remedy}") from None
        _clear(work.folder, "*")
        write_or_compare(about, description)
    _clear(work.folder, ".*")  # what was being written when a process was killed
    _clear(work.folder, "result*")
    pixels = int(np.prod(work.source.shape, dtype=object))
    held = sum(each.stat().st_size for each in work.folder.iterdir())
    scratch = 4 if work.in_tiles else work.dtype.itemsize
    unpacked = 0 if work.source.block else work.source.dtype.itemsize
    _require_space(work.folder, pixels * (scratch + work.dtype.itemsize + unpacked) - held)


def _clear(folder: Path, pattern: str) -> None:
    for each in folder.glob(pattern):
        if each.name != "lock":
            remove(each)


def _description(work: Work) -> dict[str, Any]:
    remover, path = work.noise_remover, work.path
    state = _state(path)
    digest = (
        sha256(path) if path.is_file() else hashlib.sha256(repr(state).encode()).hexdigest()
    )
    names = ("tile_size", "overlap", "batch_size", "clip", "quality")
    return {
        "emdn": __version__,
        "input": {"sha256": digest, "image": work.image, "shape": list(work.source.shape)},
        "weights": remover.fingerprint(),
        "backend": remover.network.backend,
        "denoiser": {name: getattr(remover, name) for name in names},
        "detector": asdict(work.told),
        "type": str(work.dtype),
        "in tiles": work.in_tiles,
    }


def _unpack(work: Work) -> None:
    """Write the pixels of a packed file to disk, whose parts can then be read."""
    source = work.source
    with written_whole(work.unpacked) as temporary, temporary.open("wb") as file:
        for frame in source.frames():
            file.write(frame.astype(source.dtype, copy=False).tobytes())


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MicrographError(
            f"{folder.parent}: the pieces of a large image need {needed / 1e6:.0f} MB, of "
            f"which the disk has {free / 1e6:.0f}; free some space"
        )
