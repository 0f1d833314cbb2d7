"""What decides about a training: the paper's settings (section 3), or others from a file.

A recipe is a YAML file whose keys are the fields of `TrainingConfig`::

    data: {folder: micrographs, dose_range: low}
    model: PAPER
    schedule:
      - {steps: 134108, rate: 1.0e-3}
      - {steps: 17713, rate: 2.5e-4}
      - {steps: 46690, rate: 1.0e-4}
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from emdn.data.corpus import DataConfig
from emdn.networks import CONFIGS, AnyConfig
from emdn.networks.ede2019 import PAPER


@dataclass(frozen=True)
class Phase:
    """Some steps at one learning rate, or on the way from one to another.

    Parameters
    ----------
    steps : int
        Batches, each an update of the weights.
    rate : float
        Learning rate.
    end : float, optional
        Learning rate at the end of the phase, which half a cosine leads to: a warm-up if
        it is the higher one, else a cool-down.
    """

    steps: int
    rate: float
    end: float | None = None

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from the beginning of the phase.

        Examples
        --------
        >>> phase = Phase(steps=100, rate=1e-3, end=0.0)
        >>> [round(phase.rate_at(step), 6) for step in (0, 50, 75)]
        [0.001, 0.0005, 0.000146]
        """
        if self.end is None:
            return self.rate
        left = (1 + math.cos(math.pi * step / self.steps)) / 2
        return self.end + (self.rate - self.end) * left


RECIPES = Path(__file__).parent / "recipes"
"""Folder of the recipes that the package brings along."""


LOW_DOSE = (Phase(134_108, 1e-3), Phase(17_713, 2.5e-4), Phase(46_690, 1e-4))
"""The paper's schedule for low doses (section 3.3), from random weights."""


ORDINARY_DOSE = (Phase(16_773, 2.5e-4), Phase(17_562, 1e-4))
"""The paper's schedule for ordinary doses, which starts from the low-dose weights."""


@dataclass(frozen=True)
class TrainingConfig:
    """All that decides about a training. The defaults are the paper's for low doses.

    Parameters
    ----------
    data : DataConfig
        Micrographs, crops and doses.
    model : Ede2019Config, DnCNNConfig or UNetConfig
        The network.
    start : Path, optional
        A Keras file whose weights to begin with, of the same `model`; otherwise random.
    schedule : tuple of Phase
        Learning rates and how long each lasts.
    batch : int
        Pairs in an update of the weights, over all replicas.
    accumulation : int
        Parts of a batch, computed one after another and added, for the memory of one part.
    optimizer : {"adam", "rmsprop", "nesterov"}
        Adam, or RMSProp or Nesterov's accelerated gradient with a momentum of 0.9.
    beta_1 : float
        Decay of Adam's first moments.
    l2 : float
        Adds ``l2 * sum(w**2) / 2`` over all trainable variables to the loss, as the
        original's code does. For ``l2 * sum(w**2)``, as one may read the paper, double it.
    ssim_weight : float
        Adds so many times (1 - SSIM) to the loss of an image (section 5).
    clip : bool
        Clip outputs to [0, 1] in the loss too, not only in scores (section 5).
    averaging : float
        Share of the old that a step keeps of a running average of the weights, which is
        what is validated and saved in the end; 0 for no average.
    dose_exponent : float
        Multiplies the squared error of an image by the counts that 1 stands for, in
        hundreds, to this power. Where doses differ much, low ones would otherwise be all
        that counts.
    freeze_batch_norm : int, optional
        Step from which on the moving statistics of batch normalisations are used and kept;
        gains and offsets go on being trained.
    precision : {"float32", "mixed_float16", "mixed_bfloat16"}
        Of the arithmetic. Weights are float32 in any case.
    seed : int
        Of weights, splits, crops and noise.
    deterministic : bool
        Use only operations that always round alike, so that two runs agree in every bit.
    validate_every : int
        Steps from one validation to the next.
    validation_pairs : int
        Pairs of a validation. They come in turn from a set of one for each micrograph.
    log_every, checkpoint_every, examples_every : int
        Steps between rows of the log, between checkpoints, and between triplets of a noisy,
        a denoised and a clean crop.
    """

    data: DataConfig
    model: AnyConfig = PAPER
    start: Path | None = None
    schedule: tuple[Phase, ...] = field(default=LOW_DOSE, metadata={"free": True})
    batch: int = 10
    accumulation: int = 5
    optimizer: Literal["adam", "rmsprop", "nesterov"] = "adam"
    beta_1: float = 0.5
    l2: float = 5e-5
    ssim_weight: float = 0.0
    clip: bool = False
    averaging: float = 0.0
    dose_exponent: float = 0.0
    freeze_batch_norm: int | None = LOW_DOSE[0].steps
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    seed: int = 0
    deterministic: bool = False
    validate_every: int = field(default=5, metadata={"free": True})
    validation_pairs: int = field(default=1, metadata={"free": True})
    log_every: int = field(default=100, metadata={"free": True})
    checkpoint_every: int = field(default=1000, metadata={"free": True})
    examples_every: int = field(default=5000, metadata={"free": True})

    def __post_init__(self) -> None:
        for name in ("batch", "accumulation", "validate_every", "validation_pairs"):
            _require_natural(name, getattr(self, name))
        for name in ("log_every", "checkpoint_every", "examples_every"):
            _require_natural(name, getattr(self, name))
        if self.batch % self.accumulation:
            raise ValueError(
                f"batch must be a multiple of accumulation, got {self.batch} and "
                f"{self.accumulation}"
            )
        wrong = [
            phase
            for phase in self.schedule
            if phase.steps < 1
            or not 0 < phase.rate < math.inf
            or not 0 <= (phase.end or 0) < math.inf
        ]
        if wrong or not self.schedule:
            raise ValueError(
                f"schedule must be phases of steps >= 1, rate > 0 and end >= 0, got {wrong}"
            )
        for name in ("beta_1", "averaging"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 0 and below 1, got {getattr(self, name)}"
                )
        for name in ("l2", "ssim_weight", "dose_exponent"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")

    @property
    def steps(self) -> int:
        """Number of all steps."""
        return sum(phase.steps for phase in self.schedule)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        for phase in self.schedule:
            if step < phase.steps:
                return phase.rate_at(step)
            step -= phase.steps
        return self.schedule[-1].rate_at(self.schedule[-1].steps)

    def freezes(self, step: int) -> bool:
        """Return whether a step, counted from 0, uses the moving statistics."""
        return self.freeze_batch_norm is not None and step >= self.freeze_batch_norm


def read_recipe(path: Path, folder: Path | None = None) -> TrainingConfig:
    """Read a recipe from a YAML file.

    Parameters
    ----------
    path : Path
        Relative folders and files in it start from where the command is run.
    folder : Path, optional
        Takes the place of ``data.folder``.

    Raises
    ------
    ValueError
        If the file is no YAML, or a key or a value is wrong; all of them are named, each
        unknown key with the nearest one that exists.
    """
    try:
        settings = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(
            f"{path}: is no YAML file ({' '.join(str(error).split())})"
        ) from error
    if not isinstance(settings, Mapping):
        raise ValueError(
            f"{path}: must hold settings, key: value, as in a recipe of the book"
        )
    data = settings.get("data", {})
    if folder is not None and isinstance(data, Mapping):
        settings = {**settings, "data": {**data, "folder": folder}}
    try:
        return parse_recipe(settings)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_recipe(settings: Mapping[str, Any]) -> TrainingConfig:
    """Make a configuration of nested settings, as a YAML file holds them.

    Parameters
    ----------
    settings : mapping
        Fields of `TrainingConfig` and their values; `data` is a mapping of fields of
        `DataConfig`, `model` the name of a network in `emdn.networks.CONFIGS`, or a mapping
        of one under the key `name` and fields that differ from it.

    Examples
    --------
    >>> recipe = parse_recipe({"data": {"folder": "micrographs"}, "model": "SMALL"})
    >>> recipe.steps, recipe.rate(0), recipe.rate(140_000)
    (198511, 0.001, 0.00025)
    >>> parse_recipe({"data": {"folder": "micrographs", "corp": 256}})
    Traceback (most recent call last):
    ValueError: data.corp: is no setting; did you mean crop?
    """
    settings = dict(settings)
    if "model" in settings:
        settings["model"] = _parse_model(settings["model"])
    return _parse(TrainingConfig, settings)


def _parse_model(settings: Any) -> AnyConfig:
    """Return a network by its name, or by name and the fields that differ."""
    differing = dict(settings) if isinstance(settings, Mapping) else {"name": settings}
    name = differing.pop("name", "PAPER")
    if not isinstance(name, str) or name not in CONFIGS:
        raise ValueError(f"model: must be one of {', '.join(CONFIGS)}, got {name!r}")
    base = CONFIGS[name]
    return _parse(type(base), {**asdict(base), **differing}, "model")


def _parse(kind: type, settings: Mapping[str, Any], where: str = "") -> Any:
    """Check settings against the fields of a dataclass and make one of them."""
    strict = with_config(ConfigDict(extra="forbid", arbitrary_types_allowed=True))(kind)
    try:
        return TypeAdapter(strict).validate_python(settings)
    except ValidationError as error:
        lines = [_explain(kind, each, where) for each in error.errors()]
        raise ValueError("; ".join(lines)) from None


def _explain(kind: type, error: Any, where: str) -> str:
    """Say in one line what is wrong with a setting."""
    *outer, last = error["loc"] or ("",)
    name = ".".join(str(part) for part in (where, *outer, last) if part != "")
    if error["type"] == "unexpected_keyword_argument":
        kind = {"data": DataConfig, "schedule": Phase}[outer[0]] if outer else kind
        known = [each.name for each in fields(kind)]
        nearest = get_close_matches(str(last), known, n=1, cutoff=0.5)
        remedy = f"did you mean {nearest[0]}?" if nearest else f"use {', '.join(known)}"
        return f"{name}: is no setting; {remedy}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] in ("missing", "value_error"):
        return f"{name}: {message}" if name else message
    return f"{name}: {message}, got {error['input']!r}"


def _require_natural(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
