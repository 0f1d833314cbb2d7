"""A training that lives in a folder, and goes on there when it was interrupted (section 3).

    TrainingConfig --survey, Sampler--> pairs --Trainer.step--> weights --> checkpoints, log

A training that is started again on its folder goes on from the newest checkpoint, with the
pair that would have come next. A kill costs the steps since that checkpoint. The weights in
the end are the same as without it, to the last bit if operations are deterministic.
"""

import hashlib
import math
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich.console import Console

from emdn.console import progress as progress_bar
from emdn.data.corpus import (
    Record,
    describe,
    read_survey,
    require_unchanged,
    survey,
    write_survey,
)
from emdn.data.pipeline import pairs
from emdn.data.sampler import Sampler
from emdn.files import locked, write_or_compare, written_whole
from emdn.metrics import mse, ssim
from emdn.networks import build
from emdn.networks.onnx_graph import write_onnx
from emdn.noise import NoisyPair
from emdn.training.checkpoints import has_checkpoint, newest_state, save_state
from emdn.training.log import Log
from emdn.training.recipe import TrainingConfig
from emdn.training.step import Trainer, choose_strategy, cluster

RECIPE, SURVEY, LOCK = "recipe.json", "survey.csv", "lock"
WEIGHTS = "denoiser.keras"  # what a finished training leaves, for `Denoiser(...)`


class TrainingError(RuntimeError):
    """A training that cannot go on, told in one line: what, why, remedy."""


def train(
    config: TrainingConfig,
    folder: str | os.PathLike[str],
    *,
    strategy: tf.distribute.Strategy | None = None,
    progress: bool = False,
) -> Path | None:
    """Train a network, or go on with a training that was interrupted.

    Parameters
    ----------
    config : TrainingConfig
        How to train. Where the folder holds a checkpoint already, only the schedule, the
        place of the data, and how often things are logged, validated and saved may differ.
    folder : path
        Folder of the training: gets ``recipe.json``, ``survey.csv``, ``log.csv``,
        checkpoints, ``examples/``, ``tensorboard/`` if TensorBoard is installed, and, in
        the end, ``denoiser.keras`` and the same as ``denoiser.onnx``. Several machines
        share it.
    strategy : tf.distribute.Strategy, optional
        Devices that train: by default the processes that the environment variable
        TF_CONFIG names, else all GPUs of this machine, else its processor.
    progress : bool
        Whether to say which micrographs are used, and to show a progress bar.

    Returns
    -------
    Path or None
        The Keras file of the trained network; None where a SIGTERM or SIGINT came before
        the end. Then all is saved, and the same call goes on.

    Raises
    ------
    TrainingError
        If the folder cannot be written, or the loss is not finite any more. The last
        checkpoint stays.
    ValueError
        If the data are of no use, see `emdn.data.corpus.survey`; if another process trains
        in the folder, or it holds another training or a damaged one.
    """
    folder = Path(folder)
    strategy = strategy or choose_strategy()  # before all else that TensorFlow does
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    with _disk_errors(folder):
        (folder / "examples").mkdir(parents=True, exist_ok=True)
        with locked(folder / LOCK) if _chief() else nullcontext():
            return _train(config, folder, strategy, progress)


def _train(
    config: TrainingConfig, folder: Path, strategy: tf.distribute.Strategy, progress: bool
) -> Path | None:
    """Train in a folder that this process alone writes to."""
    checkpoint = newest_state(folder)
    records = find_records(config, folder)
    if checkpoint:
        _require_same_training(config, records, folder)
    if progress and _chief():
        console = Console(stderr=True)
        console.print(*describe(records), sep="\n", highlight=False, markup=False)
    trainer, done = Trainer(config, strategy), 0
    if checkpoint:
        done, state = checkpoint
        _restore(trainer, done, state, folder)
    if _chief():
        _write_down(config, records, folder, fresh=not checkpoint)
    finished = done == config.steps or _run(trainer, records, folder, done, progress)
    return _save_weights(trainer, folder / WEIGHTS) if finished else None


def find_records(config: TrainingConfig, folder: Path) -> list[Record]:
    """Return what is known about the micrographs of a training.

    Parameters
    ----------
    config : TrainingConfig
        Names the folder of the micrographs.
    folder : Path
        Folder of the training. Only if it holds a checkpoint, the survey that it was begun
        with counts; otherwise there is a new one.

    Raises
    ------
    ValueError
        If the data are of no use, or others than when the training began.
    """
    path = folder / SURVEY
    if not (has_checkpoint(folder) and path.is_file()):
        return survey(config.data, seed=config.seed)
    records = read_survey(path)
    require_unchanged(records, config.data.folder)
    return records


def _description(config: TrainingConfig, records: list[Record]) -> dict[str, Any]:
    """Return all that decides on the weights: the settings and the micrographs."""
    text = "".join(f"{each.file}\0{each.split}\0{each.digest}\0" for each in records)
    digest = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
    return {**asdict(config), "micrographs": f"{len(records)} files of digest {digest}"}


def _may_change(config: TrainingConfig) -> list[str]:
    """Return full names of the settings that may change in the course of a training."""
    groups = {"": fields(config), "data.": fields(config.data)}
    return [
        f"{prefix}{each.name}"
        for prefix, group in groups.items()
        for each in group
        if each.metadata.get("may_change_on_resume")
    ]


def _require_same_training(
    config: TrainingConfig, records: list[Record], folder: Path
) -> None:
    """Refuse to go on with a training of other settings or micrographs."""
    path = folder / RECIPE
    if not path.is_file():
        raise ValueError(
            f"{folder}: holds checkpoints, but no {RECIPE}; choose another folder"
        )
    may_change = _may_change(config)
    write_or_compare(path, _description(config, records), may_change=may_change)


def _write_down(
    config: TrainingConfig, records: list[Record], folder: Path, *, fresh: bool
) -> None:
    """Write survey and recipe, once all that may be wrong with a start went well."""
    if fresh or not (folder / SURVEY).is_file():
        write_survey(folder / SURVEY, records)
    if fresh:  # a recipe without a checkpoint is one of a start that failed
        (folder / RECIPE).unlink(missing_ok=True)
        write_or_compare(folder / RECIPE, _description(config, records))


def _restore(trainer: Trainer, done: int, state: dict[str, NDArray], folder: Path) -> None:
    """Set a trainer to a checkpoint, which must fit the schedule and be finite."""
    if done > trainer.config.steps:
        raise ValueError(
            f"{folder}: {done} steps are done, more than the {trainer.config.steps} of the "
            "schedule; lengthen it, or choose another folder"
        )
    if not all(np.isfinite(each).all() for each in state.values()):
        raise ValueError(
            f"{folder}: the newest checkpoint holds numbers that are not finite; remove it "
            "to go on from the one before"
        )
    try:
        trainer.restore(state)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}; choose another folder") from error


def _run(
    trainer: Trainer, records: list[Record], folder: Path, done: int, progress: bool
) -> bool:
    """Do the steps that are left; return whether all are done."""
    config = trainer.config
    sampler = Sampler(records, config.data, "train", seed=config.seed)
    validation = _Validation(trainer, records, sampler)
    part = config.batch // config.accumulation
    first = done * config.accumulation
    made = pairs(sampler, part, first=first, share=cluster())
    batches = _with_faults_of(sampler, made)
    log, count, shown = Log(folder, done, writes=_chief()), done, done
    begun = time.monotonic()
    bar = progress_bar(
        config.steps, done, description="training", show=progress and _chief()
    )
    with _interrupts() as interrupts, bar as advance:
        for step in range(done, config.steps):
            loss, error = trainer.step(batches, step)
            count = step + 1
            log.note(loss=loss, mse=error)
            if count % config.validate_every == 0:
                log.note(**validation.scores(count))
            last = count == config.steps or _any_worker(trainer.strategy, interrupts)
            saving = last or count % config.checkpoint_every == 0
            if saving or count % config.log_every == 0:
                row = log.write(count, config.rate(step))
                _require_finite("the loss", [row["loss"]], count, folder)
                speed = (count - done) * config.batch / (time.monotonic() - begun)
                advance(count - shown, _in_words(row, speed))
                shown = count
            if saving:
                state = trainer.state()
                _require_finite("a variable", state.values(), count, folder)
                if _chief():
                    save_state(folder, count, state)
            if last or count % config.examples_every == 0:
                log.picture(count, validation.example())
            if last:
                break
    return count == config.steps


def _in_words(row: dict[str, float], speed: float) -> str:
    """Return what a progress bar says of a row of the log; the speed is in images/s."""
    return f"loss {row['loss']:.3g}  rate {row['rate']:.3g}  {speed:.3g} images/s"


def _with_faults_of(sampler: Sampler, batches: Iterable[Any]) -> Iterator[Any]:
    """Pass batches on; raise the sampler's own fault in place of TensorFlow's."""
    try:
        yield from batches
    except tf.errors.OpError as error:
        if sampler.fault is None:
            raise
        raise sampler.fault from error


def _require_finite(what: str, values: Iterable[Any], step: int, folder: Path) -> None:
    """Stop before weights that are lost would be saved."""
    if not all(np.isfinite(each).all() for each in values):
        raise TrainingError(
            f"{folder}: {what} is not finite by step {step}; the last checkpoint stays. "
            "Try a lower learning rate in another folder, or look into the data"
        )


class _Validation:
    """Scores pairs of the validation split in turn, one for each of its micrographs."""

    def __init__(self, trainer: Trainer, records: list[Record], training: Sampler) -> None:
        config = trainer.config
        self.trainer, self.training = trainer, training
        self.size = sum(each.split == "val" and not each.fault for each in records)
        self.sampler = (
            Sampler(records, config.data, "val", seed=config.seed) if self.size else None
        )

    def scores(self, step: int) -> dict[str, float]:
        """Return mean MSE and SSIM of the pairs whose turn it is, outputs clipped."""
        config = self.trainer.config
        if self.sampler is None or not _chief():
            return {}
        first = (step // config.validate_every - 1) * config.validation_pairs
        rows = []
        for number in range(first, first + config.validation_pairs):
            pair = self.sampler.pair(number % self.size)
            denoised, clean = self._denoise(pair), pair.clean
            if np.isfinite(denoised).all():
                rows.append((mse(clean, denoised), ssim(clean, denoised, data_range=1)))
            else:  # the loss, as the log finds out, is not finite either
                rows.append((math.nan, math.nan))
        error, similarity = np.mean(rows, axis=0)
        return {"val_mse": float(error), "val_ssim": float(similarity)}

    def example(self) -> NDArray[np.float32]:
        """Return a noisy, a denoised and a clean crop, (3, crop, crop)."""
        pair = (self.sampler or self.training).pair(0)
        return np.stack([pair.noisy, self._denoise(pair), pair.clean])

    def _denoise(self, pair: NoisyPair) -> NDArray[np.float32]:
        gain = np.array([pair.gain], np.float32)
        denoised = self.trainer.predict(pair.noisy[np.newaxis], gain)
        return np.clip(denoised[0], 0, 1)


def _save_weights(trainer: Trainer, path: Path) -> Path:
    """Write the network as a Keras file of plain float32 layers, and as an ONNX file."""
    model = build(trainer.config.model)
    model.set_weights([np.asarray(each) for each in trainer.average().weights])
    if _chief():
        with written_whole(path, beside=f"{path.stem}.part.keras") as temporary:
            model.save(temporary)
        write_onnx(model, path.with_suffix(".onnx"))
    return path


def _chief() -> bool:
    """Whether this process writes files: the first worker, or the only one."""
    return cluster()[0] == 0


def _any_worker(strategy: tf.distribute.Strategy, interrupts: list[int]) -> bool:
    """Return whether any worker was interrupted, so that all leave at the same step."""
    if cluster()[1] == 1:
        return bool(interrupts)
    flags = strategy.experimental_distribute_values_from_function(
        lambda _: tf.constant(float(len(interrupts)))
    )
    total = strategy.reduce(tf.distribute.ReduceOp.SUM, flags, axis=None)
    return bool(total > 0)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Tell in one line what is wrong with the folder of a run."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise TrainingError(
            f"{folder}: cannot be written ({reason}); free some space or name another "
            "folder. The last checkpoint, if there was one, stays"
        ) from error


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT, so that a step is finished before they count."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [
        signal.signal(each, lambda number, _: caught.append(number)) for each in signals
    ]
    try:
        yield caught
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)
