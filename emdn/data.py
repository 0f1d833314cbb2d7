"""Noisy and clean pairs for training, from a folder of micrographs.

    folder --survey--> records split by source --Sampler--> pair number n --pairs--> batches

Pair number n is a function of the seed and of n alone: its micrograph, its crop, its
symmetry, its scale and its noise. So a training that was killed goes on with the pair that
would have come next, and two machines that share the numbers share the work.
"""

import csv
import hashlib
import math
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from emdn.files import written_whole
from emdn.io import READABLE, MicrographError, read_micrograph
from emdn.noise import DoseRange, add_shot_noise, noisy_pair, sample_scale
from emdn.scaling import Scaling
from emdn.scenes import scene

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

MOST_LOST = 0.01  # share of files that may be unreadable
ACTIVE = 64  # micrographs that crops are taken from at a time
INVERTED, BLURRED, PARTIAL, MISTOLD = 0.25, 0.25, 0.5, 0.2  # shares of augmented crops
GRAINY = 0.5  # and of those with grain in the truth
GRAIN = (0.002, 0.03)  # its deviation, where the brightest pixel of an image is 1
SYMMETRIES = 8  # of the square: four rotations, each mirrored or not


@dataclass(frozen=True)
class DataConfig:
    """Which micrographs to train on, and what becomes of them.

    Parameters
    ----------
    folder : Path
        Holds micrographs of any size and format that `emdn.io` reads, in subfolders or
        not. A ``manifest.csv`` in it, with columns file, source and, if wanted, split,
        tells which belong together; without one a source is a subfolder, or else a single
        file. Subfolders train, val and test are splits.
    dose_range : {"low", "ordinary", "any"}
        Distribution of the scale, see `emdn.noise.sample_scale`.
    crop : int
        Side of a training crop in pixels, a multiple of 16.
    downsizing : int
        Area downsizing of the micrographs, which also averages their noise away.
    fractions : tuple of 3 float
        Shares of the micrographs in train, val and test, where nothing else tells.
    max_noise_to_signal : float, optional
        Refuse micrographs, in counts, of a noise-to-signal ratio from here on; the paper's
        is 0.02.
    min_mean : float, optional
        Refuse micrographs of a smaller mean; the paper's is 2500 counts.
    source_exponent : float
        A source of n micrographs is drawn in proportion to n to this power: 1 draws all
        micrographs alike, 0 all sources.
    crops_per_visit : int
        How many crops are taken from a micrograph before its file is left again. More
        spare the disk, where the folder is larger than memory.
    cache : float
        Memory for micrographs, in GB.
    scenes : float
        Share of crops that are of random scenes, see `emdn.scenes`, in training only.
    augment : bool
        Change magnification, contrast, brightness and sharpness of training crops at
        random, see `augmented`.
    """

    folder: Path = field(metadata={"free": True})
    dose_range: DoseRange = "low"
    crop: int = 512
    downsizing: int = 2
    fractions: tuple[float, float, float] = (0.66, 0.14, 0.20)
    max_noise_to_signal: float | None = None
    min_mean: float | None = None
    source_exponent: float = 1.0
    crops_per_visit: int = 4
    cache: float = field(default=2.0, metadata={"free": True})
    scenes: float = 0.0
    augment: bool = False

    def __post_init__(self) -> None:
        if self.crop < 16 or self.crop % 16:
            raise ValueError(f"crop must be a multiple of 16, got {self.crop}")
        if self.downsizing < 1:
            raise ValueError(f"downsizing must be at least 1, got {self.downsizing}")
        if self.crops_per_visit < 1:
            raise ValueError(
                f"crops_per_visit must be at least 1, got {self.crops_per_visit}"
            )
        if not 0 <= self.scenes <= 1:
            raise ValueError(f"scenes must be a share from 0 to 1, got {self.scenes}")
        if min(self.fractions) < 0 or not math.isclose(sum(self.fractions), 1):
            raise ValueError(f"fractions must be three that add to 1, got {self.fractions}")


class Record(NamedTuple):
    """What the survey found out about one file.

    Parameters
    ----------
    file : str
        Path below the folder.
    source : str
        What it shares with other micrographs: a specimen, a session, a repository.
    split : {"train", "val", "test"}
        All micrographs of a source are in the same one.
    height, width : int
        Pixels, before downsizing; 0 if the file is unreadable.
    mean : float
        In the file's units.
    noise_to_signal : float
        Mean of the root of the counts over their mean, were the units counts.
    digest : str
        Of some of the file's bytes; equal files have equal ones.
    fault : str
        Why the file is not used; empty if it is.
    """

    file: str
    source: str
    split: Split
    height: int = 0
    width: int = 0
    mean: float = math.nan
    noise_to_signal: float = math.nan
    digest: str = ""
    fault: str = ""

    @property
    def unreadable(self) -> bool:
        """Whether the file could not even be read."""
        return self.height == 0


def survey(config: DataConfig, *, seed: int = 0) -> list[Record]:
    """Read all micrographs of a folder once, split them by source, and judge them.

    Parameters
    ----------
    config : DataConfig
        Names the folder.
    seed : int
        Decides which source goes into which split, where no subfolder or manifest does.

    Returns
    -------
    list of Record
        One for each file, in the order of their names, with the fault of each that is
        refused.

    Raises
    ------
    ValueError
        If there are no micrographs, more than 1 % cannot be read, a source or a file is in
        two splits, or nothing is left to train on.
    """
    records = _assign_splits(_find(config.folder), config.fractions, seed)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        records = list(pool.map(lambda record: _judge(record, config), records))
    require_few_lost(records)
    require_disjoint(records)
    if not any(record.split == "train" and not record.fault for record in records):
        faults = Counter(record.fault for record in records if record.fault)
        reason = f"; most are refused: {faults.most_common(1)[0][0]}" if faults else ""
        raise ValueError(f"{config.folder}: no micrograph is left to train on{reason}")
    return records


def require_few_lost(records: Sequence[Record]) -> None:
    """Refuse a folder of which more than 1 % cannot be read."""
    lost = [record for record in records if record.unreadable]
    if len(lost) > MOST_LOST * len(records):
        raise ValueError(
            f"{len(lost)} of {len(records)} micrographs cannot be read, more than "
            f"{MOST_LOST:.0%}; mend or remove them. The first: {lost[0].fault}"
        )


def require_disjoint(records: Sequence[Record]) -> None:
    """Refuse a source, or the same file under two names, in more than one split."""
    for name in ("source", "digest"):
        first: dict[str, Record] = {}
        for record in records:
            key = getattr(record, name)
            other = first.setdefault(key, record)
            if key and other.split != record.split:
                raise ValueError(
                    f"{other.file} in {other.split} and {record.file} in {record.split} "
                    f"are of the same {'source' if name == 'source' else 'contents'}; "
                    "put them into one split"
                )


def describe(records: Sequence[Record]) -> list[str]:
    r"""Say in a few lines how many micrographs each split has, and which are refused.

    Examples
    --------
    >>> records = [Record("a.tif", "a", "train"), Record("b.tif", "b", "val", fault="dim")]
    >>> print(*describe(records), sep="\n")
    train: 1 micrographs of 1 sources
    val: 0 micrographs of 0 sources
    test: 0 micrographs of 0 sources
    refused, 1: dim
    """
    used = [record for record in records if not record.fault]
    lines = []
    for split in SPLITS:
        sources = [record.source for record in used if record.split == split]
        lines.append(f"{split}: {len(sources)} micrographs of {len(set(sources))} sources")
    faults = Counter(record.fault for record in records if record.fault)
    lines += [f"refused, {count}: {fault}" for fault, count in faults.most_common()]
    return lines


def write_manifest(path: Path, records: Sequence[Record]) -> None:
    """Write records as a CSV file, whole or not at all."""
    with written_whole(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Record._fields)
        writer.writerows(records)


def read_manifest(path: Path) -> list[Record]:
    """Read what `write_manifest` wrote."""
    types = {"height": int, "width": int, "mean": float, "noise_to_signal": float}
    with path.open(newline="") as file:
        return [
            Record(**{name: types.get(name, str)(text) for name, text in row.items()})
            for row in csv.DictReader(file)
        ]


class Pair(NamedTuple):
    """What a network is trained on.

    Parameters
    ----------
    noisy, clean : (crop, crop) float32 array
        Noisy is in [0, 1], and clean is what is expected there: of the same mean, or, in an
        `augmented` pair, of the same mean but for the noise.
    counts : float32
        What 1 stands for in the noisy crop, or nearly so where an `augmented` pair is to
        teach that it may be misjudged; 0 stands for none.
    """

    noisy: NDArray[np.float32]
    clean: NDArray[np.float32]
    counts: np.float32


class Sampler:
    """Makes training pairs of one split, each from its number alone.

    Parameters
    ----------
    records : sequence of Record
        What `survey` found; those of other splits and those with a fault are left out.
    config : DataConfig
        How pairs are made.
    split : {"train", "val", "test"}
        Which micrographs to use.
    seed : int
        Different seeds give different pairs.

    Raises
    ------
    ValueError
        If the split holds no micrograph.
    """

    def __init__(
        self,
        records: Sequence[Record],
        config: DataConfig,
        split: Split = "train",
        *,
        seed: int = 0,
    ) -> None:
        self.records = [r for r in records if r.split == split and not r.fault]
        if not self.records:
            raise ValueError(f"{config.folder}: no micrograph is in the split {split!r}")
        self.config = config
        self.key = (seed, SPLITS.index(split))
        self.lost: set[str] = set()
        self.fault: ValueError | None = None  # what stopped a thread that makes pairs
        training = split == "train"  # what validates stays as it is
        self._augment = config.augment and training
        self._share = config.scenes if training else 0.0
        self._images = _Cache(self._read, config.cache * 1e9)
        self._scenes = _Cache(self._draw, 2 * ACTIVE * 16 * config.crop**2)

    def pair(self, number: int) -> Pair:
        """Return the pair of a number, always the same."""
        rng = np.random.default_rng([*self.key, 0, number])
        crop = self.crop(number, rng)
        scale = sample_scale(self.config.dose_range, rng)
        if self._augment:
            return augmented(crop, self.config.crop, scale, rng)
        noisy, clean, scaling = noisy_pair(crop, scale, rng)
        return Pair(noisy, clean, np.float32(scaling.scale))

    def crop(self, number: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return a random crop in one of the eight symmetries, in the image's units.

        Where magnification is to be changed, its side is between two thirds and the double
        of a training crop's.
        """
        image = self._image(number)
        side = self.config.crop
        if self._augment:
            largest = min(*image.shape[-2:], 2 * side)
            side = int(np.clip(side * np.exp(rng.normal(0, 0.4)), side / 1.5, largest))
        y, x = (rng.integers(length - side + 1) for length in image.shape[-2:])
        frame = image[rng.integers(len(image))] if image.ndim == 3 else image
        return symmetric(frame[y : y + side, x : x + side], int(rng.integers(SYMMETRIES)))

    def _image(self, number: int) -> NDArray[np.float32]:
        """Return what a number is cropped from: a scene or a micrograph.

        Numbers visit `ACTIVE` images in turn, a few times each, before they move on. Where
        a micrograph became unreadable, another is drawn.
        """
        visit, place = number // (ACTIVE * self.config.crops_per_visit), number % ACTIVE
        rng = np.random.default_rng([*self.key, 1, place, visit])
        # A share of 0 leaves the draws below alone.
        if self._share and rng.random() < self._share:
            return self._scenes(f"{visit} {place}")
        while True:
            record = self.records[int(rng.choice(len(self.records), p=self._chances))]
            try:
                return self._images(record.file)
            except MicrographError as error:
                self._lose(record, error)

    def _draw(self, name: str) -> NDArray[np.float32]:
        """Draw the scene of a visit and a place."""
        visit, place = map(int, name.split())
        side = 2 * self.config.crop
        return scene((side, side), np.random.default_rng([*self.key, 2, place, visit]))

    def _lose(self, record: Record, error: MicrographError) -> None:
        """Remember a file that was readable once; too many of them stop the training."""
        self.lost.add(record.file)
        if len(self.lost) > MOST_LOST * len(self.records):
            self.fault = ValueError(
                f"{len(self.lost)} of {len(self.records)} micrographs became unreadable, "
                f"more than {MOST_LOST:.0%}. The last: {error}"
            )
            raise self.fault from error

    @cached_property
    def _chances(self) -> NDArray[np.float64]:
        """Return how likely each micrograph is to be drawn."""
        sizes = Counter(record.source for record in self.records)
        exponent = self.config.source_exponent - 1
        weights = np.array([sizes[r.source] ** exponent for r in self.records], float)
        return weights / weights.sum()

    def _read(self, file: str) -> NDArray[np.float32]:
        image, _ = read_micrograph(self.config.folder / file)
        image = shrink(image, self.config.downsizing)
        if not np.isfinite(image).all():
            raise MicrographError(f"{self.config.folder / file}: holds NaN or infinities")
        return image


def pairs(
    sampler: Sampler,
    batch: int,
    *,
    first: int = 0,
    share: tuple[int, int] = (0, 1),
    threads: int | None = None,
) -> Any:
    """Make batches of pairs, ahead of their use and in all threads.

    Parameters
    ----------
    sampler : Sampler
        Makes the pairs.
    batch : int
        Pairs in a batch, over all workers.
    first : int
        Number of the batch to begin with.
    share : tuple of 2 int
        Which worker this is, and of how many; each makes its part of every batch.
    threads : int, optional
        Threads to make pairs in; by default all processors.

    Returns
    -------
    tf.data.Dataset
        Endless, of noisy and clean (batch / workers, crop, crop, 1) float32 tensors, and of
        the counts that 1 stands for, (batch / workers,).
    """
    import tensorflow as tf

    worker, workers = share
    if batch % workers:
        raise ValueError(f"batch must be a multiple of {workers} workers, got {batch}")
    local, side = batch // workers, sampler.config.crop

    def make(count: Any) -> Any:
        number = (first + count // local) * batch + worker * local + count % local
        noisy, clean, counts = tf.numpy_function(sampler.pair, [number], 3 * [tf.float32])
        shaped = (tf.reshape(image, (side, side, 1)) for image in (noisy, clean))
        return (*shaped, tf.reshape(counts, ()))

    made = tf.data.Dataset.range(np.iinfo(np.int64).max).map(
        make,
        num_parallel_calls=threads or os.cpu_count(),
        deterministic=True,
    )
    options = tf.data.Options()
    # Else one thread of a pool that the device's own work fills would make the pairs.
    options.threading.private_threadpool_size = threads or os.cpu_count()
    return made.batch(local).prefetch(2).with_options(options)


def augmented(
    crop: NDArray[np.float32], side: int, scale: float, rng: np.random.Generator
) -> Pair:
    """Make a pair of a crop whose magnification, contrast and sharpness are changed.

    It is resized, bent by a gamma, sometimes inverted or blurred, and for half of the
    pairs fills only a part of the range, as a tile of a large image does. Micrographs have
    a noise of their own, which counts as truth here; random scenes and what was resized
    have none, so half of the pairs get some. For a fifth of the pairs the counts are told
    wrong, as measured ones are, by 20 % or so.

    Parameters
    ----------
    crop : (h, h) array
        Of any size, in any units.
    side : int
        Of the pair.
    scale : float
        Counts at the brightest pixel of the image that the crop stands for.
    rng : numpy.random.Generator
        Source of randomness.
    """
    image: Any = Image.fromarray(Scaling.of_range(crop).apply(crop))
    if crop.shape != (side, side):
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    clean = np.clip(np.asarray(image), 0, 1) ** np.exp(rng.normal(0, 0.3))
    if rng.random() < INVERTED:
        clean = 1 - clean
    if rng.random() < BLURRED:
        clean = gaussian_filter(clean, rng.uniform(0.3, 1.5))
    clean = Scaling.of_range(clean).apply(clean)
    if rng.random() < PARTIAL:
        span = rng.uniform(0.15, 1)
        clean = clean * span + rng.uniform(0, 1 - span)
    if rng.random() < GRAINY:
        clean = clean + _grain(clean.shape, rng)
    clean = np.clip(clean, 0, 1)
    counts = add_shot_noise(clean, scale, rng)
    # The whole image's brightest pixel lies about so far above what is expected there.
    brightest = max(counts.max(), scale + rng.uniform(1, 4) * math.sqrt(scale))
    unit = np.float32(brightest if rng.random() < PARTIAL else counts.max() or 1)
    told = unit * np.float32(np.exp(rng.normal(0, 0.2)) if rng.random() < MISTOLD else 1)
    return Pair(counts / unit, (clean * (scale / unit)).astype(np.float32), told)


def _grain(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.floating]:
    """Draw noise of the strengths that real micrographs have, white or nearly so."""
    noise = rng.standard_normal(shape)
    if rng.random() < 0.5:
        noise = gaussian_filter(noise, rng.uniform(0.3, 0.8))
    return noise * (math.exp(rng.uniform(*np.log(GRAIN))) / noise.std())


def shrink(image: NDArray, factor: int) -> NDArray[np.float32]:
    """Downsize images by a whole factor, each pixel the mean of an area.

    Parameters
    ----------
    image : (..., H, W) array
        Rows and columns that fill no area are cut off.
    factor : int
        Side of an area, in pixels.

    Examples
    --------
    >>> shrink(np.arange(16).reshape(4, 4), 2)
    array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
    """
    height, width = (side // factor * factor for side in image.shape[-2:])
    # Summing strided views is six times faster than a mean over short axes.
    total = np.zeros((*image.shape[:-2], height // factor, width // factor), np.float32)
    for y, x in np.ndindex(factor, factor):
        total += image[..., y:height:factor, x:width:factor]
    return total / np.float32(factor**2)


def symmetric(image: NDArray, number: int) -> NDArray:
    """Turn an image by a quarter `number % 4` times, and mirror it from 4 on.

    Examples
    --------
    >>> [symmetric(np.array([[0, 1], [2, 3]]), n).ravel().tolist() for n in (0, 1, 4)]
    [[0, 1, 2, 3], [1, 3, 0, 2], [1, 0, 3, 2]]
    """
    turned = np.rot90(image, number % 4)
    return turned[:, ::-1] if number >= 4 else turned


def noise_to_signal(counts: NDArray) -> float:
    """Return the mean shot noise of a micrograph in counts over its mean.

    Where the counts are even, 0.02 are 2500 counts.

    Examples
    --------
    >>> noise_to_signal(np.full((8, 8), 2500.0))
    0.02
    """
    mean = counts.mean(dtype=np.float64)
    noise = np.sqrt(np.maximum(counts, 0)).mean(dtype=np.float64)
    return float(noise / mean) if 0 < mean < math.inf else math.inf


class _Cache:
    """Keeps the images last used, as many as fit in a number of bytes."""

    def __init__(self, read: Callable[[str], NDArray[np.float32]], size: float) -> None:
        self.read, self.size, self.held = read, size, 0
        self.images: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self.lock = threading.Lock()

    def __call__(self, file: str) -> NDArray[np.float32]:
        with self.lock:
            if file in self.images:
                self.images.move_to_end(file)
                return self.images[file]
        image = self.read(file)  # two threads may read the same, rather than wait
        with self.lock:
            if file not in self.images:
                self.images[file] = image
                self.held += image.nbytes
            while self.held > self.size and len(self.images) > 1:
                self.held -= self.images.popitem(last=False)[1].nbytes
        return image


def _find(folder: Path) -> list[tuple[str, str, str]]:
    """Return file, source and split (or nothing) of each micrograph in a folder."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: is no folder; name one that holds micrographs")
    manifest = folder / "manifest.csv"
    if manifest.is_file():
        return _listed(manifest)
    files = sorted(
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.suffix.lower() in READABLE and path.is_file()
    )
    if not files:
        raise ValueError(
            f"{folder}: holds no micrograph; files end in {' '.join(READABLE)}"
        )
    return [_placed(file) for file in files]


def _placed(file: Path) -> tuple[str, str, str]:
    """Read split and source off a path: [split/][source/].../name."""
    split = file.parts[0] if file.parts[0] in SPLITS and len(file.parts) > 1 else ""
    inner = file.relative_to(split) if split else file
    source = inner.parts[0] if len(inner.parts) > 1 else file.as_posix()
    return file.as_posix(), source, split


def _listed(manifest: Path) -> list[tuple[str, str, str]]:
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"file", "source"} <= rows[0].keys():
        raise ValueError(f"{manifest}: must have columns file and source, and a row a file")
    for row in rows:
        if row.get("split") not in (*SPLITS, None, ""):
            raise ValueError(
                f"{manifest}: split must be one of {' '.join(SPLITS)}, got {row['split']!r}"
            )
    return sorted((row["file"], row["source"], row.get("split") or "") for row in rows)


def _assign_splits(
    files: Sequence[tuple[str, str, str]], fractions: Sequence[float], seed: int
) -> list[Record]:
    """Give each source that has no split the one that lacks most."""
    sizes = Counter(source for _, source, split in files if not split)
    names = sorted(sizes)
    order = np.random.default_rng(seed).permutation(len(names))
    wanted = np.array(fractions) * sizes.total()
    splits: dict[str, Split] = {}
    for name in (names[index] for index in order):
        lacking = int(np.argmax(wanted))
        splits[name] = SPLITS[lacking]
        wanted[lacking] -= sizes[name]
    return [
        Record(file, source, split or splits[source])  # type: ignore[arg-type]
        for file, source, split in files
    ]


def _judge(record: Record, config: DataConfig) -> Record:
    """Read a file once; return its record with what was found."""
    path = config.folder / record.file
    try:
        image, _ = read_micrograph(path)
    except MicrographError as error:
        return record._replace(fault=str(error))
    height, width = image.shape[-2:]
    with np.errstate(invalid="ignore", over="ignore"):  # infinities get a fault below
        mean, ratio = float(image.mean(dtype=np.float64)), noise_to_signal(image)
    found = record._replace(
        height=height,
        width=width,
        mean=mean,
        noise_to_signal=ratio,
        digest=_digest(path),
    )
    return found._replace(fault=_fault(found, image, config))


def _fault(record: Record, image: NDArray, config: DataConfig) -> str:
    """Return why a readable micrograph is not used, or nothing."""
    if not math.isfinite(record.mean):
        return "holds NaN or infinities"
    if min(record.height, record.width) // config.downsizing < config.crop:
        return f"smaller than a crop of {config.crop} after downsizing"
    if image.min() == image.max():
        return "constant"
    if config.min_mean is not None and record.mean < config.min_mean:
        return f"mean below {config.min_mean:g}"
    limit = config.max_noise_to_signal
    if limit is not None and record.noise_to_signal >= limit:
        return f"noise-to-signal not below {limit:g}"
    return ""


def _digest(path: Path, size: int = 1 << 16) -> str:
    """Return a hash of a file's length and of some bytes from its middle."""
    length = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, (length - size) // 2))
        return hashlib.blake2b(
            file.read(size) + str(length).encode(), digest_size=12
        ).hexdigest()
