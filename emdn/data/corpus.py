"""Which micrographs a folder holds, which split each is in, and which are refused."""

import codecs
import csv
import hashlib
import io
import math
import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emdn.data.augment import Augmentation
from emdn.files import written_whole
from emdn.io import READABLE, MicrographError, is_readable, read_micrograph
from emdn.noise import DoseRange

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
MANIFEST = "manifest.csv"
DELIMITERS = ",;\t"  # that spreadsheet programs put between cells
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # beginnings of "Unicode text"
LOSSES = 100  # one of so many micrographs may be unreadable
SAMPLED = 1 << 16  # bytes of a file that decide whether it is the same as another
MOST_CROPS = 10**6  # more crops from a visit are taken for a mistake


@dataclass(frozen=True)
class DataConfig:
    """Which micrographs to train on, and what becomes of them.

    Fields that `may_change_on_resume` decide on no pair, so a training that goes on may
    have others.

    Parameters
    ----------
    folder : Path
        Holds micrographs of any size and format that `emdn.io` reads, in subfolders or
        not. Its manifest, if there is one, says which belong together, see
        `read_manifest`; without one a source is a subfolder, or else a single file.
        Subfolders train, val and test are splits.
    dose_range : {"low", "ordinary", "any", "wide"}
        Distribution of the scale, see `emdn.noise.sample_scale`.
    crop : int
        Side of a training crop in pixels, a multiple of 16.
    downsizing : int
        Side in pixels of the areas whose means become the pixels of crops; the paper's is
        2. It also averages the noise of micrographs away.
    fractions : tuple of 3 float
        Shares of the micrographs in train, val and test, where nothing else decides; the
        paper's by default.
    max_noise_to_signal : float, optional
        Micrographs, in counts, whose noise-to-signal ratio reaches this limit are refused;
        the paper's is 0.02.
    min_mean : float, optional
        Micrographs of a smaller mean, in their own units, are refused; the paper's limit
        is 2500 counts.
    source_exponent : float
        A source of n micrographs is drawn in proportion to n to this power: 1 draws all
        micrographs alike, 0 all sources.
    crops_per_visit : int
        Number of crops that are taken from a micrograph before its file is left again.
        More spare the disk, where the folder is larger than memory.
    cache : float
        Memory for micrographs, in GB.
    scenes : float
        Share of crops that are of random scenes, see `emdn.specimens.scenes`; in training.
    augmentation : Augmentation, optional
        Random changes of the magnification, contrast and sharpness of crops; in training.
        By default there are none.
    thinned : float, optional
        Share of the counts that the noisy image of a pair gets, where micrographs are noisy
        themselves and there is no truth; see `emdn.noise.thinned_pair`. Micrographs that
        are no whole counts are refused then, and `dose_range` is not used. By default
        micrographs are truths.
    """

    folder: Path = field(metadata={"may_change_on_resume": True})
    dose_range: DoseRange = "low"
    crop: int = 512
    downsizing: int = 1
    fractions: tuple[float, float, float] = (0.66, 0.14, 0.20)
    max_noise_to_signal: float | None = None
    min_mean: float | None = None
    source_exponent: float = 1.0
    crops_per_visit: int = 4
    cache: float = field(default=2.0, metadata={"may_change_on_resume": True})
    scenes: float = 0.0
    augmentation: Augmentation | None = None
    thinned: float | None = None

    def __post_init__(self) -> None:
        if self.crop < 16 or self.crop % 16:
            raise ValueError(f"crop must be a multiple of 16, got {self.crop}")
        if self.downsizing < 1:
            raise ValueError(f"downsizing must be at least 1, got {self.downsizing}")
        if not 1 <= self.crops_per_visit <= MOST_CROPS:
            raise ValueError(
                f"crops_per_visit must be from 1 to {MOST_CROPS}, got "
                f"{self.crops_per_visit}"
            )
        for name in ("max_noise_to_signal", "min_mean"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value}")
        if not self.cache >= 0:  # false for NaN as well
            raise ValueError(f"cache must be 0 or more, got {self.cache}")
        if not 0 <= self.scenes <= 1:
            raise ValueError(f"scenes must be a share from 0 to 1, got {self.scenes}")
        if not 0 <= self.source_exponent <= 1:
            raise ValueError(
                f"source_exponent must be from 0 to 1, got {self.source_exponent}"
            )
        if not min(self.fractions) >= 0 or not math.isclose(sum(self.fractions), 1):
            raise ValueError(f"fractions must be three that add to 1, got {self.fractions}")
        if self.thinned is not None:
            self._require_counts_as_they_are(self.thinned)

    def _require_counts_as_they_are(self, share: float) -> None:
        """Refuse what would make other numbers of counts, whose noise is no shot noise."""
        if not 0 < share < 1:
            raise ValueError(f"thinned must be between 0 and 1, got {share}")
        if self.downsizing > 1 or self.scenes or self.augmentation is not None:
            raise ValueError(
                "thinned divides counts as they are; remove downsizing, scenes and "
                "augmentation"
            )


class Entry(NamedTuple):
    """What a manifest says of one micrograph.

    Parameters
    ----------
    file : str
        Path below the folder, with forward slashes.
    source : str
        What the micrograph shares with others: a specimen, a session, a repository.
    split : {"train", "val", "test", ""}
        Part that the micrograph belongs to; empty where the manifest leaves it open.
    modality : str
        Kind of microscopy, to group scores by; empty where the manifest leaves it open.
    """

    file: str
    source: str
    split: Split | Literal[""] = ""
    modality: str = ""


def read_manifest(folder: Path) -> list[Entry]:
    """Read which micrographs a folder holds, as its ``manifest.csv`` says.

    The file has a header and a line for each micrograph, with columns file and source and,
    if wanted, split and modality; other columns are left aside. It may come from a
    spreadsheet program: commas, semicolons or tabs stand between the cells, the names of
    columns and splits are in any case, blanks around cells and empty lines do not count,
    and paths may have the backslashes of Windows.

    Parameters
    ----------
    folder : Path
        Folder of the micrographs and the manifest.

    Returns
    -------
    list of Entry
        Entries in the order of the lines.

    Raises
    ------
    ValueError
        If there is no manifest, or it cannot be meant: a column or a cell is missing, a
        file lies outside the folder or has two lines, a split has another name. The
        message names the line and the remedy.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise ValueError(
            f"{manifest}: does not exist; write one, with columns file, source and split"
        )
    rows = _rows(manifest)
    columns = _columns(manifest, next(rows, (1, []))[1])
    entries: list[Entry] = []
    lines: dict[str, int] = {}
    for line, cells in rows:
        where = f"{manifest}, line {line}"
        if len(cells) > len(columns):
            raise ValueError(
                f"{where}: has {len(cells)} cells under {len(columns)} columns; put "
                "quotes around a cell that holds a delimiter"
            )
        values = dict(zip(columns, cells, strict=False))
        entry = _entry(folder, values, where)
        if entry.file in lines:
            raise ValueError(
                f"{where}: names {entry.file} again, as line {lines[entry.file]}; "
                "remove one of them"
            )
        lines[entry.file] = line
        entries.append(entry)
    if not entries:
        raise ValueError(f"{manifest}: names no micrograph; add a line for each")
    return entries


def write_manifest(folder: Path, entries: Sequence[Entry]) -> None:
    """Write the ``manifest.csv`` of a folder, whole or not at all."""
    path = folder / MANIFEST
    with (
        written_whole(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(Entry._fields)
        writer.writerows(entries)


def _rows(manifest: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each line of a CSV file that has any."""
    contents = manifest.read_bytes()
    encoding = "utf-16" if contents.startswith(UTF_16) else "utf-8-sig"
    try:
        text = contents.decode(encoding)
    except UnicodeDecodeError as error:
        line = contents[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{manifest}, line {line}: is no text in UTF-8; save the file as CSV UTF-8"
        ) from error
    head = next((line for line in text.splitlines() if line.strip()), "")
    named = head.lower().startswith("sep=")  # by a line of its own, as Excel reads
    delimiter = head[4:5] or "," if named else max(DELIMITERS, key=head.count)
    # Old programs end a line by a carriage return alone.
    lines = io.StringIO(text, newline=None)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells) and not (named and reader.line_num == 1):
                yield reader.line_num, cells
    except csv.Error as error:
        raise ValueError(
            f"{manifest}, line {reader.line_num}: is no line of a CSV file ({error}); "
            "save the file as CSV UTF-8"
        ) from error


def _columns(manifest: Path, header: Sequence[str]) -> list[str]:
    """Return the names of a manifest's columns, if all that are needed are there."""
    columns = [cell.casefold() for cell in header]
    for name in ("file", "source"):
        if name not in columns:
            raise ValueError(
                f"{manifest}, line 1: must name columns file and source, got "
                f"{', '.join(filter(None, header)) or 'nothing'}"
            )
    for name in Entry._fields:
        if columns.count(name) > 1:
            raise ValueError(
                f"{manifest}, line 1: names column {name} twice; rename one of them"
            )
    return columns


def _entry(folder: Path, values: Mapping[str, str], where: str) -> Entry:
    """Return the entry of a line's cells by column, or say what is wrong with them."""
    for name in ("file", "source"):
        if not values.get(name):
            raise ValueError(f"{where}: has no {name}; fill it in, or remove the line")
    split = values.get("split", "").casefold()
    if split not in (*SPLITS, ""):
        raise ValueError(
            f"{where}: split must be one of {' '.join(SPLITS)}, got {values['split']!r}"
        )
    file = _inside(folder, values["file"], where)
    return Entry(file, values["source"], split, values.get("modality", ""))


def _inside(folder: Path, file: str, where: str) -> str:
    """Return a path below a folder in its plain form; refuse one that leads out of it."""
    if any(ord(letter) < ord(" ") for letter in file):
        raise ValueError(f"{where}: {file!r} is no name of a file; mend the line")
    drive = ""
    if not (folder / file).exists():  # else backslash and colon are parts of a name
        drive, file = PureWindowsPath(file).drive, file.replace("\\", "/")
    plain = posixpath.normpath(file)
    if drive or plain.startswith("/") or plain.split("/")[0] == "..":
        raise ValueError(
            f"{where}: {file} is no file inside the folder; copy or link it there, and "
            "name it from there"
        )
    return plain


class Record(NamedTuple):
    """What the survey found out about one file.

    Parameters
    ----------
    file : str
        Path below the folder.
    source : str
        What the micrograph shares with others: a specimen, a session, a repository.
    split : {"train", "val", "test"}
        Part that all micrographs of the source belong to.
    height, width : int
        Sides in pixels before downsizing; 0 if the file is unreadable.
    mean : float
        Mean of the pixels, in the file's units.
    noise_to_signal : float
        Noise-to-signal ratio, were the units counts; see `noise_to_signal`.
    digest : str
        Hash of some of the file's bytes. Equal files have equal ones.
    fault : str
        Reason why the file is not used; empty if it is.
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
    """Read all micrographs of a folder once, split them by source, and refuse the useless.

    Parameters
    ----------
    config : DataConfig
        Names the folder, and the limits of what is useful.
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
        records = list(pool.map(lambda record: _examine(record, config), records))
    lost = [record for record in records if record.unreadable]
    if too_many_lost(len(lost), len(records)):
        raise ValueError(
            f"{len(lost)} of {len(records)} micrographs cannot be read, more than "
            f"{1 / LOSSES:.0%}; mend or remove them. The first: {lost[0].fault}"
        )
    _require_disjoint(records)
    if not any(record.split == "train" and not record.fault for record in records):
        faults = Counter(record.fault for record in records if record.fault)
        reason = f"; most are refused: {faults.most_common(1)[0][0]}" if faults else ""
        raise ValueError(f"{config.folder}: no micrograph is left to train on{reason}")
    return records


def too_many_lost(lost: int, total: int) -> bool:
    """Whether more than 1 % of micrographs cannot be read.

    Examples
    --------
    >>> too_many_lost(1, 100), too_many_lost(2, 100)
    (False, True)
    """
    return lost * LOSSES > total


def require_unchanged(records: Sequence[Record], folder: Path) -> None:
    """Refuse micrographs whose contents are others than in an earlier survey.

    What cannot be read any more is let pass: `emdn.data.sampler.Sampler` draws others.

    Parameters
    ----------
    records : sequence of Record
        What the survey found.
    folder : Path
        Folder of the micrographs.

    Raises
    ------
    ValueError
        If a micrograph that is used is another one under the same name.
    """
    for record in records:
        path = folder / record.file
        try:
            if record.fault or _digest(path) == record.digest:
                continue
            read_micrograph(path)
        except (OSError, MicrographError):
            continue
        raise ValueError(
            f"{path}: is another micrograph than when the training began; put the old one "
            "back, or train in another folder"
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


def write_survey(path: Path, records: Sequence[Record]) -> None:
    """Write what a survey found as a CSV file, whole or not at all."""
    with written_whole(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Record._fields)
        writer.writerows(records)


def read_survey(path: Path) -> list[Record]:
    """Read what `write_survey` wrote.

    Raises
    ------
    ValueError
        If a line of the file was damaged.
    """
    types = {"height": int, "width": int, "mean": float, "noise_to_signal": float}
    records = []
    with path.open(newline="") as file:
        rows = csv.DictReader(file, strict=True)
        try:
            for row in rows:
                values = {name: types.get(name, str)(row[name]) for name in Record._fields}
                records.append(Record(**values))
        except (csv.Error, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: is damaged; remove the file to survey again"
            ) from error
    return records


def noise_to_signal(counts: NDArray) -> float:
    """Return the mean shot noise of a micrograph over its mean.

    The shot noise of n counts has the standard deviation sqrt(n). An even micrograph of
    2500 counts has the ratio 0.02, the paper's limit.

    Parameters
    ----------
    counts : array
        Pixels in electron counts; negative ones have no noise.

    Returns
    -------
    float
        mean(sqrt(n)) / mean(n); infinity where the mean is not positive and finite.

    Examples
    --------
    >>> noise_to_signal(np.full((8, 8), 2500.0))
    0.02
    """
    mean = counts.mean(dtype=np.float64)
    noise = np.sqrt(np.maximum(counts, 0)).mean(dtype=np.float64)
    return float(noise / mean) if 0 < mean < math.inf else math.inf


def _find(folder: Path) -> list[tuple[str, str, str]]:
    """Return file, source and split (or nothing) of each micrograph in a folder."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: is no folder; name one that holds micrographs")
    if (folder / MANIFEST).is_file():
        return sorted(entry[:3] for entry in read_manifest(folder))
    files = sorted(
        path.relative_to(folder)
        for path in folder.rglob("*")
        if is_readable(path) and path.is_file()
    )
    # Names with a dot in front are what macOS and killed programs leave behind.
    files = [f for f in files if not any(part.startswith(".") for part in f.parts)]
    if not files:
        raise ValueError(
            f"{folder}: holds no micrograph; files end in {' '.join(READABLE)}"
        )
    return [_split_path(file) for file in files]


def _split_path(file: Path) -> tuple[str, str, str]:
    """Read file, source and split off a path: [split/][source/].../name."""
    split = file.parts[0] if file.parts[0] in SPLITS and len(file.parts) > 1 else ""
    inner = file.relative_to(split) if split else file
    source = inner.parts[0] if len(inner.parts) > 1 else file.as_posix()
    return file.as_posix(), source, split


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


def _examine(record: Record, config: DataConfig) -> Record:
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
    if config.thinned is not None and not _whole_counts(image):
        return "no whole counts, which thinning needs"
    return ""


def _whole_counts(image: NDArray) -> bool:
    return bool(image.min() >= 0 and np.array_equal(image, np.rint(image)))


def _digest(path: Path) -> str:
    """Return a hash of a file's length and of some bytes from its middle."""
    length = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, (length - SAMPLED) // 2))
        sample = file.read(SAMPLED) + str(length).encode()
    return hashlib.blake2b(sample, digest_size=12).hexdigest()


def _require_disjoint(records: Sequence[Record]) -> None:
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
