"""What a training reports: a CSV file to plot, TensorBoard's files to watch, pictures."""

import csv
import importlib.util
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emdn.files import written_whole
from emdn.io import write_micrograph

COLUMNS: tuple[str, ...] = ("step", "seconds", "rate", "loss", "mse", "val_mse", "val_ssim")


def read_log(path: Path) -> list[dict[str, float]]:
    """Read the rows of a training's ``log.csv``.

    Parameters
    ----------
    path : Path
        The log. A last line that a full disk cut short is left aside.

    Returns
    -------
    list of dict
        The values of each row by column; a score that a row lacks is NaN.

    Raises
    ------
    ValueError
        If another line is damaged.
    """
    with path.open("rb") as file:
        lines = [line for line in file if line.endswith(b"\n")]
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            cells = line.decode().rstrip("\r\n").split(",")
            if number > 1:
                values = [float(cell or math.nan) for cell in cells]
                rows.append(dict(zip(COLUMNS, values, strict=True)))
            elif tuple(cells) != COLUMNS:
                raise ValueError("another header")
        except ValueError as error:
            raise ValueError(
                f"{path}, line {number}: is damaged; remove the line, or the file if it is "
                "the first"
            ) from error
    return rows


class Log:
    """Means since the last row, as rows of ``log.csv``, and for TensorBoard if installed.

    Parameters
    ----------
    folder : Path
        Folder of the training.
    done : int
        Number of steps that were done before. Rows of later ones, which will come again,
        are dropped.
    writes : bool
        Whether to touch files at all; one of several workers does.
    """

    def __init__(self, folder: Path, done: int, *, writes: bool = True) -> None:
        self.folder, self.writes = folder, writes
        self.path = folder / "log.csv"
        self.notes: dict[str, list[Any]] = defaultdict(list)
        rows = read_log(self.path) if self.path.is_file() else []
        rows = [row for row in rows if row["step"] <= done]
        self.begun = time.monotonic() - (rows[-1]["seconds"] if rows else 0.0)
        if writes:
            self._start(rows)
        self.board = self._open_board() if writes else None

    def note(self, **scores: Any) -> None:
        """Remember the scores of a step; tensors are not waited for."""
        for name, score in scores.items():
            self.notes[name].append(score)

    def write(self, step: int, rate: float) -> dict[str, float]:
        """Add a row of the means since the last one, and return it."""
        means = {name: float(np.mean(scores)) for name, scores in self.notes.items()}
        self.notes.clear()
        row = {
            "step": step,
            "seconds": time.monotonic() - self.begun,
            "rate": rate,
            **means,
        }
        if self.writes:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, COLUMNS).writerow(row)
        if self.board is not None:
            import tensorflow as tf

            with _plain_errors(), self.board.as_default(step=step):
                for name in (*means, "rate"):
                    tf.summary.scalar(name, row[name])
                self.board.flush()
        return row

    def picture(self, step: int, triplet: NDArray[np.float32]) -> None:
        """Save a noisy, a denoised and a clean crop, (3, crop, crop), as a stack."""
        if not self.writes:
            return
        path = self.folder / "examples" / f"{step:09}.tif"
        write_micrograph(path, triplet, overwrite=True)
        if self.board is not None:
            import tensorflow as tf

            row = np.concatenate(triplet, axis=1)[np.newaxis, ..., np.newaxis]
            with _plain_errors(), self.board.as_default(step=step):
                tf.summary.image("noisy, denoised, clean", row)

    def _start(self, rows: list[dict[str, float]]) -> None:
        """Write a log of the rows that stay, whole or not at all."""
        with written_whole(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    def _open_board(self) -> Any:
        if not importlib.util.find_spec("tensorboard"):
            return None
        import tensorflow as tf

        with _plain_errors():
            return tf.summary.create_file_writer(str(self.folder / "tensorboard"))


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise what goes wrong with TensorBoard's files as Python would."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        text = error.message.split("}} ")[-1].split(" [Op:")[0].splitlines()[0]
        raise OSError(text) from error
