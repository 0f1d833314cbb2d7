"""A training that lives in a folder, and goes on there when it was interrupted (section 3).

    TrainingConfig --survey, Sampler--> pairs --Trainer.step--> weights --> checkpoints, log

Started again on its folder, it goes on from the newest checkpoint with the pair that would
have come next. What is killed loses no more than the steps since then, and ends with the
same weights, to the last bit if operations are deterministic.
"""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from emdn.data.corpus import Record, describe, read_survey, survey, write_survey
from emdn.data.pipeline import pairs
from emdn.data.sampler import Sampler
from emdn.files import written_whole
from emdn.metrics import mse, ssim
from emdn.networks import build
from emdn.noise import NoisyPair
from emdn.training.checkpoints import newest_state, save_state
from emdn.training.log import Log
from emdn.training.recipe import TrainingConfig
from emdn.training.step import Trainer, choose_strategy, cluster

WEIGHTS = "denoiser.keras"  # what a finished run leaves, for `Denoiser(model=...)`


class TrainingError(RuntimeError):
    """A training that cannot start or go on, told in one line: what, why, remedy."""


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
        How to train. Where the folder holds a run already, only the schedule, the place of
        the data, and how often things are logged, validated and saved may differ.
    folder : path
        Of the run: gets ``recipe.json``, ``survey.csv``, ``log.csv``, checkpoints,
        ``examples/``, ``tensorboard/`` if TensorBoard is installed, and, in the end,
        ``denoiser.keras``. Several machines share it.
    strategy : tf.distribute.Strategy, optional
        Who trains: by default the processes that the environment variable TF_CONFIG names,
        else all GPUs of this machine, else its processor.
    progress : bool
        Say which micrographs are used, and show a progress bar.

    Returns
    -------
    Path or None
        The Keras file of the trained network; None where a SIGTERM or SIGINT came before
        the end. Then all is saved, and the same call goes on.

    Raises
    ------
    TrainingError
        If the folder holds another run or cannot be written, or the loss is not finite any
        more. The last checkpoint stays.
    ValueError
        If the data are of no use, see `emdn.data.corpus.survey`.
    """
    folder = Path(folder)
    strategy = strategy or choose_strategy()  # before all else that TensorFlow does
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    with _disk_errors(folder):
        (folder / "examples").mkdir(parents=True, exist_ok=True)
        _settle_recipe(config, folder)
        records = settle_records(config, folder)
        if progress and _chief():
            Console(stderr=True).print(
                *describe(records), sep="\n", highlight=False, markup=False
            )
        trainer = Trainer(config, strategy)
        done, state = newest_state(folder) or (0, None)
        if state is not None:
            trainer.restore(state)
        finished = done >= config.steps or _run(trainer, records, folder, done, progress)
        return _save_weights(trainer, folder / WEIGHTS) if finished else None


def settle_records(config: TrainingConfig, folder: Path) -> list[Record]:
    """Return what an earlier survey found out about a run's micrographs, or a new one."""
    path = folder / "survey.csv"
    if path.is_file():
        return read_survey(path)
    records = survey(config.data, seed=config.seed)
    if folder.is_dir() and _chief():
        write_survey(path, records)
    return records


def _run(
    trainer: Trainer, records: list[Record], folder: Path, done: int, progress: bool
) -> bool:
    """Do the steps that are left; return whether all are done."""
    config = trainer.config
    sampler = Sampler(records, config.data, "train", seed=config.seed)
    validation = _Validation(trainer, records, sampler)
    part = config.batch // config.accumulation
    first = done * config.accumulation
    batches = _plainly(pairs(sampler, part, first=first, share=cluster()), sampler)
    log, count = Log(folder, done, writes=_chief()), done
    with _interrupts() as interrupted, _bar(config, done, progress) as show:
        for step in range(done, config.steps):
            loss, error = trainer.step(batches, step)
            count = step + 1
            log.note(loss=loss, mse=error)
            if count % config.validate_every == 0:
                log.note(**validation.scores(count))
            last = count == config.steps or _any(trainer, bool(interrupted))
            saving = last or count % config.checkpoint_every == 0
            if saving or count % config.log_every == 0:
                row = log.write(count, config.rate(step))
                _require_finite("the loss", [row["loss"]], count, folder)
                show(count, row)
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


def _plainly(batches: Iterable[Any], sampler: Sampler) -> Iterator[Any]:
    """Tell what stopped a thread that makes pairs without TensorFlow's words around it."""
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
    """Write the network as a Keras file of plain float32 layers, whole or not at all."""
    model = build(trainer.config.model)
    model.set_weights([np.asarray(each) for each in trainer.average().weights])
    if _chief():
        with written_whole(path, beside=f"{path.stem}.part.keras") as temporary:
            model.save(temporary)
    return path


def _settle_recipe(config: TrainingConfig, folder: Path) -> None:
    """Write down what a run is, or compare with what was written."""
    path = folder / "recipe.json"
    now = json.loads(json.dumps(asdict(config), default=str))
    if path.is_file():
        before, after = _fixed(config, json.loads(path.read_text())), _fixed(config, now)
        changed = [
            f"{name} from {before.get(name)} to {after.get(name)}"
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name)
        ]
        if changed:
            raise TrainingError(
                f"{folder}: holds a run of another recipe, changed: {', '.join(changed)}; "
                "choose another folder, or go back to the old values"
            )
    elif any(folder.glob("checkpoint-*.npz")):
        raise TrainingError(
            f"{folder}: holds checkpoints, but no recipe.json; choose another"
        )
    elif _chief():
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(now, indent=1) + "\n")


def _fixed(config: TrainingConfig, recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that must not change in the course of a run, by full name."""
    free = {each.name for each in fields(config) if each.metadata.get("free")}
    free_data = {each.name for each in fields(config.data) if each.metadata.get("free")}
    fixed = {name: value for name, value in recipe.items() if name not in free}
    data = fixed.pop("data")
    return fixed | {f"data.{n}": value for n, value in data.items() if n not in free_data}


def _chief() -> bool:
    """Whether this process writes files: the first worker, or the only one."""
    return cluster()[0] == 0


def _any(trainer: Trainer, flag: bool) -> bool:
    """Return whether any worker raises a flag, so that all leave at the same step."""
    if cluster()[1] == 1:
        return flag
    strategy = trainer.strategy
    flags = strategy.experimental_distribute_values_from_function(
        lambda _: tf.constant(float(flag))
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


@contextmanager
def _bar(
    config: TrainingConfig, done: int, wanted: bool
) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Show steps, loss, learning rate, images per second and the time left."""
    text = TextColumn("{task.description}")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    begun = time.monotonic()
    hidden = not (wanted and _chief())
    with Progress(*columns, console=Console(stderr=True), disable=hidden) as bar:
        task = bar.add_task("training", total=config.steps, completed=done)

        def show(step: int, row: dict[str, float]) -> None:
            speed = (step - done) * config.batch / (time.monotonic() - begun)
            line = f"loss {row['loss']:.3g}  rate {row['rate']:.3g}  {speed:.3g} images/s"
            bar.update(task, completed=step, description=line)

        yield show
