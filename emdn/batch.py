"""Many files, one after the other: what is written where, and what is done already.

    inputs --plan--> jobs --denoise_file--> files

A file is denoised image by image, so that a movie or a tilt series takes no more memory
than one of its images, and in pieces if it is large (`emdn.large`). Whatever is wrong with
an output is found before the work for it begins. An output is there whole or not at all, so
that a batch that was interrupted goes on where it stopped. It tells where it comes from, if
its format has a place for that.
"""

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from emdn.cluster import Compute
from emdn.denoiser import Denoiser, Told
from emdn.io import (
    FOLDERS,
    READABLE,
    WRITABLE,
    Metadata,
    MicrographError,
    Source,
    check_output,
    is_readable,
    list_images,
    open_micrograph,
    write_frames,
)
from emdn.io.source import refuse_if
from emdn.large import LARGE, Found, denoise_image, denoise_in_pieces, is_large
from emdn.provenance import DENOISED_BY, differences, provenance, twins

Format = Literal["tif", "mrc", "npy", "zarr", "png"]
"""Formats to write, as suffixes without their dot."""

PixelType = Literal["float32", "same"]
"""Types of the pixels to write, float32 or that of the input."""

MOST_FRAMES = 4  # of a stack, which a network is adapted to


@dataclass(frozen=True)
class Job:
    """A file to denoise and the file to write.

    Parameters
    ----------
    source : Path
        File of the noisy micrograph.
    target : Path
        File of the result. Where all images of a source with several are wanted, the name
        of each is put before the suffix.
    """

    source: Path
    target: Path


@dataclass(frozen=True)
class Batch:
    """How the files of a batch are read and written.

    Parameters
    ----------
    image : str or int, optional
        Name or number of the image to read in files of several; the first by default.
    every : bool
        Denoise all images of a file, each into a file of its own.
    dtype : {"float32", "same"}
        Type of the pixels to write. "same" rounds and clips to integers if the input holds
        integers.
    overwrite : bool
        Replace results that exist.
    skip : bool
        Leave results that exist, and go on with the next. Those that were made otherwise
        are left too, and `Done.differs` says so.
    gain, offset, readout : float, optional
        What is known of the detector, as in `Denoiser.denoise`; the rest is measured in
        each image.
    adapt : bool
        Adapt the network to each image or stack first, as `Denoiser.adapt` does.
    save_weights : Path, optional
        File for the adapted weights, ``.keras``, with a card beside it.
    in_pieces : bool, optional
        Whether to denoise in pieces on disk, as `emdn.large` does; by default what is
        larger than 8192 x 8192 pixels.
    """

    image: str | int | None = None
    every: bool = False
    dtype: PixelType = "float32"
    overwrite: bool = False
    skip: bool = False
    gain: float | None = None
    offset: float | None = None
    readout: float | None = None
    adapt: bool = False
    save_weights: Path | None = None
    in_pieces: bool | None = None

    def __post_init__(self) -> None:
        if self.every and self.image is not None:
            raise ValueError(f"image {self.image!r} and all images exclude each other")
        if self.save_weights is not None:
            if not self.adapt or self.every:
                raise ValueError(
                    f"{self.save_weights}: weights are saved of one image or stack that is "
                    "adapted to; add --adapt, and name one image"
                )
            if self.save_weights.suffix != ".keras":
                raise ValueError(f"{self.save_weights}: must end in .keras, as Keras saves")
            if self.save_weights.exists() and not self.overwrite:
                raise ValueError(
                    f"{self.save_weights}: exists already; use --overwrite to replace it"
                )


@dataclass
class Done:
    """What became of one image of a file.

    Parameters
    ----------
    target : Path
        File that holds the result.
    notes : list of str
        What the user should know: warnings, and how many pixels were clipped.
    skipped : bool
        Whether the file was there already and was left as it is.
    differs : list of str
        In which way a file that was left is another than is wanted, as its provenance says:
        of other weights, options or detector, or of another input.
    measured : str, optional
        What was measured of the detector, in words; of a stack, in its first image.
    adapted : str, optional
        What became of adapting the network, in words, if that was asked for.
    """

    target: Path
    notes: list[str] = field(default_factory=list)
    skipped: bool = False
    differs: list[str] = field(default_factory=list)
    measured: str | None = None
    adapted: str | None = None


def denoise_files(
    jobs: Sequence[Job],
    noise_remover: Denoiser,
    batch: Batch = Batch(),
    *,
    compute: Compute[Any] = map,
) -> Iterator[tuple[Job, list[Done] | ValueError | OSError]]:
    """Denoise many files at a time on the workers of a cluster, or one after the other.

    Each file is a call of its own but for large ones, whose pieces are.

    Parameters
    ----------
    jobs : sequence of Job
        What to read and to write.
    noise_remover, batch, compute
        As of `denoise_file`. Of a single file, the pieces are handed out.

    Yields
    ------
    Job, list of Done or exception
        What became of each file.
    """
    if len(jobs) == 1:
        batch = replace(batch, in_pieces=not batch.adapt)
    whole = [job for job in jobs if len(jobs) > 1 and not _has_large(job, batch)]
    calls = ((job, noise_remover, replace(batch, in_pieces=False)) for job in whole)
    yield from zip(whole, compute(_tried, calls), strict=True)
    for job in jobs:
        if job not in whole:
            yield job, _tried((job, noise_remover, batch), compute=compute)


def _tried(
    call: tuple[Job, Denoiser, Batch], compute: Compute[Any] = map
) -> list[Done] | ValueError | OSError:
    """Denoise a file, or return what is wrong: one fault must not end all others."""
    try:
        return list(denoise_file(*call, compute=compute))
    except (ValueError, OSError) as error:
        return error


def _has_large(job: Job, batch: Batch) -> bool:
    """Tell whether an image to denoise is large; what cannot be read is not."""
    try:
        return any(is_large(source) for source, _, _ in _wanted(job, batch))
    except (ValueError, OSError):
        return False


def plan(
    inputs: Sequence[Path],
    output: str | os.PathLike[str] | None = None,
    *,
    suffix: Format = "tif",
) -> list[Job]:
    """Pair each input file with the file to write.

    Parameters
    ----------
    inputs : sequence of Path
        Files, and folders whose readable files are taken, without subfolders and without
        hidden files. Where results lie beside their inputs, they are no inputs unless they
        are named themselves.
    output : path, optional
        A folder, if it exists as one, ends with a slash or has no suffix; else the file to
        write, for a single input. By default a file beside each input, whose name it takes
        with ``_denoised`` behind it.
    suffix : {"tif", "mrc", "npy", "zarr", "png"}
        Format of files that `output` does not name.

    Raises
    ------
    MicrographError
        If nothing is found, the suffix of the output cannot be written, one file would have
        to hold several results, two inputs would be written to one file, or an input would
        be written over.
    """
    files = [file for path in inputs for file in _files_of(path, beside=output is None)]
    if output is None:
        jobs = [
            Job(file, file.with_name(f"{stem_of(file)}_denoised.{suffix}"))
            for file in files
        ]
    elif _is_folder(output):
        jobs = [Job(file, Path(output) / f"{stem_of(file)}.{suffix}") for file in files]
    elif len(files) > 1:
        fault = f"one file cannot hold {len(files)} results; name a folder"
        raise MicrographError(f"{output}: {fault}")
    else:
        jobs = [Job(files[0], Path(output))]
    for target, count in Counter(job.target for job in jobs).items():
        if count > 1:
            names = ", ".join(str(job.source) for job in jobs if job.target == target)
            fault = (
                f"{count} inputs would be written there, {names}; denoise them separately"
            )
            raise MicrographError(f"{target}: {fault}")
    for job in jobs:
        if job.target.exists() and job.target.samefile(job.source):
            raise MicrographError(f"{job.target}: is the input; name another output")
    return jobs


def stem_of(file: Path) -> str:
    """Return a file's name without the suffix of its format, such as .mrc or .mrc.gz.

    >>> stem_of(Path("grid1.0001.mrc.gz"))
    'grid1.0001'
    """
    packed = file.suffix.lower() in (".gz", ".bz2")
    return Path(file.stem).stem if packed else file.stem


def denoise_file(
    job: Job,
    noise_remover: Denoiser,
    batch: Batch = Batch(),
    *,
    compute: Compute[Any] = map,
    advance: Callable[[int, int], None] = lambda *_: None,
) -> Iterator[Done]:
    """Denoise the images of a file that are wanted, and write a file for each.

    Parameters
    ----------
    job : Job
        What to read and to write. The folder of the result is made if it is missing.
    noise_remover : Denoiser
        The network, and how to apply it.
    batch : Batch
        How to read and to write.
    compute : callable
        Where the pieces of a large image are made, as `emdn.cluster.computing` gives it.
    advance : callable
        Called with the number of images of a stack, or of pieces of a large image, that are
        done and the number of all.

    Yields
    ------
    Done
        After each file that was written or skipped.

    Raises
    ------
    MicrographError
        If the file cannot be read or the result cannot be written.
    ValueError
        If an image cannot be denoised.
    """
    for source, target, notes in _wanted(job, batch):
        if batch.skip and not batch.overwrite and target.exists():
            differs = _differences(target, job, noise_remover, batch)
            yield Done(target, skipped=True, differs=differs)
            continue
        _make_folder(target)
        dtype = np.dtype(np.float32) if batch.dtype == "float32" else source.dtype
        check_output(
            target, source.shape, dtype, source.metadata, overwrite=batch.overwrite
        )
        done = Done(target, notes)
        if earlier := source.metadata.other.get(DENOISED_BY):
            done.notes.append(f"was denoised already, by {earlier}")
        if _in_pieces(source, target, batch):
            about = partial(_about, job, source, noise_remover, batch, done)
            found = denoise_in_pieces(
                job.source,
                source,
                target,
                noise_remover,
                _told(batch),
                dtype,
                about,
                overwrite=batch.overwrite,
                compute=compute,
                advance=advance,
            )
        else:
            found = Found()
            remover = _adapted(source, noise_remover, batch, done)
            frames = _denoised_frames(source, remover, batch, dtype, found, advance)
            first = next(frames)  # which tells what is measured
            write_frames(
                target,
                chain([first], frames),
                source.shape,
                dtype,
                _about(job, source, noise_remover, batch, done, found),
                overwrite=batch.overwrite,
            )
        done.measured = found.measured
        done.notes += _notes(found, source, dtype)
        yield done


def _in_pieces(source: Source, target: Path, batch: Batch) -> bool:
    """Tell whether to denoise in pieces, or refuse what takes an image in memory."""
    if not (is_large(source) if batch.in_pieces is None else batch.in_pieces):
        return False
    one_image = int(np.prod(source.shape[-2:], dtype=object))
    if not batch.adapt:
        fault = f"PNG is packed in memory, and the image has {one_image / 1e6:.0f} million"
        large = target.suffix.lower() == ".png" and one_image > LARGE
        refuse_if(large, f"{target}: {fault} pixels; write a TIFF")
        return True
    fault = f"{one_image / 1e6:.0f} million pixels are too many to adapt to in memory"
    refuse_if(one_image > LARGE, f"{fault}; crop the image, or leave out --adapt")
    return False


def _told(batch: Batch) -> Told:
    return Told(None, batch.gain, batch.offset, batch.readout)


def _about(
    job: Job,
    source: Source,
    noise_remover: Denoiser,
    batch: Batch,
    done: Done,
    found: Found,
) -> Metadata:
    """Return what to write beside the pixels: what the input told, and what was done."""
    done.measured = found.measured
    facts = provenance(
        job.source,
        noise_remover,
        _told(batch),
        _options(batch),
        measured=done.measured,
        adapted=done.adapted,
    )
    # First, since an MRC holds what fits; it replaces that of an earlier denoising.
    return replace(source.metadata, other=facts | dict(source.metadata.other) | facts)


def _options(batch: Batch) -> dict[str, Any]:
    """Return what else decides the pixels of a result."""
    which = {} if batch.image is None else {"image": batch.image}
    return {"dtype": batch.dtype} | which


def _differences(
    target: Path, job: Job, noise_remover: Denoiser, batch: Batch
) -> list[str]:
    """Return in which way a result that exists is another than is wanted."""
    if target.suffix.lower() == ".npy":  # which has no place for facts
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = open_micrograph(target).metadata.other
    except (ValueError, OSError):
        return ["damaged"]
    wanted = provenance(
        job.source,
        noise_remover,
        _told(batch),
        _options(batch),
        adapted="asked for" if batch.adapt else None,
    )
    return differences(found, wanted, twins(noise_remover))


def _adapted(source: Source, noise_remover: Denoiser, batch: Batch, done: Done) -> Denoiser:
    """Return the denoiser adapted to a source, if that is asked for and better."""
    if not batch.adapt:
        return noise_remover
    known: Any = {n: getattr(batch, n) for n in ("gain", "offset", "readout")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of `denoise` are told
        adaptation = noise_remover.adapt(_some_frames(source), **known)
    done.adapted = adaptation.reason
    if batch.save_weights is not None:
        if adaptation.kept:
            adaptation.save(batch.save_weights)
            done.adapted += f"; weights saved in {batch.save_weights}"
        else:
            done.notes.append(f"no weights were saved, {adaptation.reason}")
    return adaptation.denoiser


def _some_frames(source: Source) -> NDArray:
    """Return an image, or a few of a stack, spread evenly."""
    images = _images(source)
    wanted = set(np.linspace(0, images - 1, min(images, MOST_FRAMES)).round().astype(int))
    frames = [frame for number, frame in enumerate(source.frames()) if number in wanted]
    return np.stack(frames)


def _denoised_frames(
    source: Source,
    noise_remover: Denoiser,
    batch: Batch,
    dtype: np.dtype,
    found: Found,
    advance: Callable[[int, int], None],
) -> Iterator[NDArray]:
    """Yield the images of a source without their noise, in the type to write."""
    for number, frame in enumerate(source.frames(), start=1):
        pixels, learnt = denoise_image(
            frame, noise_remover, _told(batch), source.metadata, dtype
        )
        found.add(learnt)
        advance(number, _images(source))
        yield pixels


def _images(source: Source) -> int:
    return source.shape[0] if len(source.shape) == 3 else 1


def _make_folder(target: Path) -> None:
    """Make the folder of a file, if it is missing."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        fault = f"{target.parent} is a file and no folder; name another output"
        raise MicrographError(f"{target}: {fault}") from None


def _notes(found: Found, source: Source, dtype: np.dtype) -> list[str]:
    """Return what the user should know of the images."""
    many = _images(source) > 1
    notes = [f"{text} (in {n} images)" if many else text for text, n in found.notes.items()]
    if found.clipped:
        notes.append(f"{found.clipped} pixels were clipped to the range of {dtype}")
    return notes


def _wanted(job: Job, batch: Batch) -> Iterator[tuple[Source, Path, list[str]]]:
    """Yield the images to denoise, where each is to be written, and what to tell of it."""
    if not batch.every:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            source = open_micrograph(job.source, batch.image)
        # The notes are printed behind the name of the file.
        notes = [str(each.message).removeprefix(f"{job.source}: ") for each in caught]
        yield source, job.target, notes
        return
    sources = list_images(job.source)
    for source in sources:
        name = re.sub(r"[^\w.-]+", "-", source.name).strip("-.") or "image"
        target = job.target.with_stem(f"{job.target.stem}_{name}")
        yield source, target if len(sources) > 1 else job.target, list(source.warnings)


def _files_of(path: Path, *, beside: bool) -> list[Path]:
    """Return a file as it is, and of a folder the files that can be read.

    Where results are written beside their inputs, those of an earlier run are left out.
    """
    if not path.is_dir() or is_readable(path):
        return [path]
    files = sorted(
        file for file in path.iterdir() if is_readable(file) and not _is_plain_folder(file)
    )
    if not files:
        known = " ".join(READABLE)
        raise MicrographError(f"{path}: holds no micrograph; files end in {known}")
    return _without_results(files) if beside else files


def _without_results(files: list[Path]) -> list[Path]:
    """Leave out the files that are named as results of others in the list.

    Those are NAME_denoised, and NAME_denoised_IMAGE where all images of a file were wanted.
    """
    names = {stem_of(file) for file in files}

    def is_result(stem: str) -> bool:
        ends = re.finditer(r"_denoised(?=_|$)", stem)
        return any(stem[: end.start()] in names for end in ends)

    return [file for file in files if not is_result(stem_of(file))]


def _is_plain_folder(path: Path) -> bool:
    """Tell a folder that is named like a file from a Zarr store, which is a folder."""
    return path.is_dir() and path.suffix.lower() not in FOLDERS


def _is_folder(output: str | os.PathLike[str]) -> bool:
    """Tell whether an output names a folder, or refuse a file that cannot be written."""
    path, text = Path(output), os.fspath(output)
    store = path.suffix.lower() in FOLDERS and path.suffix.lower() in WRITABLE
    folder = path.is_dir() and not store
    if folder or text.endswith(("/", os.sep)) or not path.suffix:
        return True
    if path.suffix.lower() not in WRITABLE:
        fault = f"{path.suffix} cannot be written; use {' '.join(WRITABLE)}"
        raise MicrographError(f"{path}: {fault}, or end the name of a folder with a slash")
    return False
