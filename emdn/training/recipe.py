"""Recipes: all that decides about a training, from Python or from a YAML file.

The keys of the file are the fields of `TrainingConfig`::

    data: {folder: micrographs, dose_range: low, crop: 128}
    model: SMALL
    schedule:
      - {steps: 200, rate: 1.0e-5, end: 1.0e-3}
      - {steps: 9000, rate: 1.0e-3, end: 1.0e-6}
"""

import math
import reprlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from emdn.data.augment import Augmentation
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

    @property
    def possible(self) -> bool:
        """Whether there are steps and finite rates, of which the first is positive."""
        end = self.rate if self.end is None else self.end
        return (
            1 <= self.steps <= MOST_STEPS
            and 0 < self.rate < math.inf
            and 0 <= end < math.inf
        )

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
"""Folder of the recipes that the package brings along.

:meta hide-value:
"""

INNER = {
    ("data",): DataConfig,
    ("data", "augmentation"): Augmentation,
    ("schedule",): Phase,
}
"""Dataclasses of settings within settings, by the keys that lead there."""

BRIEF = reprlib.Repr()  # whatever was written in place of a value, in some 200 letters
BRIEF.maxlevel, BRIEF.maxstring, BRIEF.maxother = 2, 60, 60
LONGEST = 200  # letters of a text in a message
MOST_MISTAKES = 10  # named in a message
MOST_PAIRS = 100_000  # a larger batch is taken for a mistake
MOST_STEPS = 10**12  # a longer phase or interval is taken for a mistake
SEEDS = 2**32  # NumPy's and Keras's seeds lie below


@dataclass(frozen=True)
class TrainingConfig:
    """All that decides about a training.

    Fields that `may_change_on_resume` decide on no step that was done, so a training that
    goes on may have others. The recipes ``low-dose`` and ``ordinary-dose`` are the paper's.

    Parameters
    ----------
    data : DataConfig
        Micrographs, crops and doses.
    schedule : tuple of Phase
        Learning rates and how long each lasts.
    model : Ede2019Config, DnCNNConfig or UNetConfig
        The network.
    start : Path, optional
        A Keras file of the same `model`, or the name of weights that ship, whose weights to
        begin with; otherwise they are random.
    batch : int
        Pairs in an update of the weights, over all replicas.
    accumulation : int
        Parts of a batch, computed one after another and added, for the memory of one part.
    optimizer : {"adam", "rmsprop", "nesterov"}
        Adam, or RMSProp or Nesterov's accelerated gradient with a momentum of 0.9.
    beta_1 : float
        Decay of Adam's first moments for each step.
    l2 : float
        Strength of the L2 term: ``l2 * sum(w**2) / 2`` over all trainable variables is
        added to the loss, as the original's code does. For ``l2 * sum(w**2)``, as one may
        read the paper, double it.
    ssim_weight : float
        Factor of (1 - SSIM), which is added to the loss of an image (section 5).
    clip : bool
        Whether outputs are clipped to [0, 1] in the loss too, not only in scores
        (section 5).
    averaging : float
        Share of the old that a step keeps of a running average of the weights, which is
        what is validated and saved in the end; 0 for no average.
    dose_exponent : float
        Power of an image's exposure that multiplies its squared error; the exposure is
        1 / gain, in hundreds of counts. Where doses differ much, low ones would otherwise
        be all that counts.
    freeze_batch_norm : int, optional
        Step from which on the moving statistics of batch normalisations are used and kept;
        their gains and offsets go on being trained. By default they are never frozen.
    precision : {"float32", "mixed_float16", "mixed_bfloat16"}
        Precision of the arithmetic. Weights are float32 in any case.
    seed : int
        Seed of weights, splits, crops and noise, from 0 to 2**32 - 1.
    deterministic : bool
        Whether to use only operations that always round alike, so that two runs agree in
        every bit.
    validate_every : int
        Steps from one validation to the next.
    validation_pairs : int
        Pairs of a validation. They come in turn from a set of one for each micrograph.
    log_every, checkpoint_every, examples_every : int
        Steps between rows of the log, between checkpoints, and between triplets of a noisy,
        a denoised and a clean crop.
    """

    data: DataConfig
    schedule: tuple[Phase, ...] = field(metadata={"may_change_on_resume": True})
    model: AnyConfig = PAPER
    start: Path | None = None
    batch: int = 10
    accumulation: int = 1
    optimizer: Literal["adam", "rmsprop", "nesterov"] = "adam"
    beta_1: float = 0.9
    l2: float = 0.0
    ssim_weight: float = 0.0
    clip: bool = False
    averaging: float = 0.0
    dose_exponent: float = 0.0
    freeze_batch_norm: int | None = None
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    seed: int = 0
    deterministic: bool = False
    validate_every: int = field(default=1000, metadata={"may_change_on_resume": True})
    validation_pairs: int = field(default=1, metadata={"may_change_on_resume": True})
    log_every: int = field(default=100, metadata={"may_change_on_resume": True})
    checkpoint_every: int = field(default=1000, metadata={"may_change_on_resume": True})
    examples_every: int = field(default=5000, metadata={"may_change_on_resume": True})

    def __post_init__(self) -> None:
        for name in ("batch", "accumulation", "validation_pairs"):
            self._require_natural(name, MOST_PAIRS)
        for name in ("validate_every", "log_every", "checkpoint_every", "examples_every"):
            self._require_natural(name, MOST_STEPS)
        if self.batch % self.accumulation:
            raise ValueError(
                f"batch must be a multiple of accumulation, got {self.batch} and "
                f"{self.accumulation}"
            )
        wrong = [phase for phase in self.schedule if not phase.possible]
        if wrong or not self.schedule:
            raise ValueError(
                "schedule must be phases of steps >= 1, rate > 0 and end >= 0, got "
                f"{wrong[:2]}"
            )
        for name in ("beta_1", "averaging"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 0 and below 1, got {getattr(self, name)}"
                )
        for name in ("l2", "ssim_weight", "dose_exponent"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if (self.freeze_batch_norm or 0) < 0:
            raise ValueError(
                f"freeze_batch_norm must be 0 or more, got {self.freeze_batch_norm}"
            )
        if not 0 <= self.seed < SEEDS:
            raise ValueError(f"seed must be from 0 to {SEEDS - 1}, got {self.seed}")

    def _require_natural(self, name: str, most: int) -> None:
        value = getattr(self, name)
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
        if value > most:
            raise ValueError(f"{name} must be at most {most}, got {value}")

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


def read_recipe(recipe: str | Path, folder: Path | None = None) -> TrainingConfig:
    """Read a recipe from a YAML file.

    Parameters
    ----------
    recipe : str or Path
        A file, or the name of a recipe that the package brings along, such as
        ``low-dose``. Relative folders and files in it start from where the command is run.
    folder : Path, optional
        Takes the place of ``data.folder``.

    Raises
    ------
    ValueError
        If there is no such recipe, the file is no YAML, or a key or a value is wrong. All
        of them are named, each unknown key with the nearest one that exists.

    Examples
    --------
    >>> read_recipe("low-dose").steps
    198511
    """
    path = _find_recipe(recipe)
    try:
        settings = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: is no YAML file ({_shortened(error)})") from error
    except RecursionError:
        raise ValueError(f"{path}: is no YAML file (nested too deeply)") from None
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

    Raises
    ------
    ValueError
        If a key or a value is wrong, in one line that names them.

    Examples
    --------
    >>> data, schedule = {"folder": "micrographs"}, [{"steps": 500, "rate": "1e-3"}]
    >>> recipe = parse_recipe({"data": data, "schedule": schedule, "model": "SMALL"})
    >>> recipe.steps, recipe.rate(0)
    (500, 0.001)
    >>> parse_recipe({"data": {**data, "corp": 256}, "schedule": schedule})
    Traceback (most recent call last):
    ValueError: data.corp: is no setting; did you mean crop?
    """
    settings = dict(settings)
    if "model" in settings:
        settings["model"] = _parse_model(settings["model"])
    return _parse(TrainingConfig, settings)


class _Loader(yaml.SafeLoader):
    """Reads plain YAML, and refuses a key that a mapping has twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Return a mapping whose keys are all different."""
        mapping = super().construct_mapping(node, deep)
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name, count in Counter(names).items():
            if count > 1:
                raise yaml.YAMLError(f"the key {name} comes {count} times")
        return mapping


def _find_recipe(recipe: str | Path) -> Path:
    """Return the file of a recipe by its path or its name."""
    path, shipped = Path(recipe), RECIPES / f"{recipe}.yml"
    if path.suffix or len(path.parts) != 1 or path.exists():
        return path
    if shipped.is_file():
        return shipped
    names = ", ".join(sorted(each.stem for each in RECIPES.glob("*.yml")))
    raise ValueError(f"{recipe}: is no recipe; name a YAML file, or one of {names}")


def _parse_model(settings: Any) -> AnyConfig:
    """Return a network by its name, or by name and the fields that differ."""
    differing = dict(settings) if isinstance(settings, Mapping) else {"name": settings}
    name = differing.pop("name", "PAPER")
    if not isinstance(name, str) or name not in CONFIGS:
        raise ValueError(
            f"model: must be one of {', '.join(CONFIGS)}, got {BRIEF.repr(name)}"
        )
    base = CONFIGS[name]
    return _parse(type(base), {**asdict(base), **differing}, "model")


def _parse(kind: type, settings: Mapping[str, Any], where: str = "") -> Any:
    """Check settings against the fields of a dataclass and make one of them."""
    strict = with_config(ConfigDict(extra="forbid", arbitrary_types_allowed=True))(kind)
    try:
        return TypeAdapter(strict).validate_python(settings)
    except ValidationError as error:
        lines = [_explain(kind, each, where) for each in error.errors()[:MOST_MISTAKES]]
        raise ValueError("; ".join(lines)) from None


def _explain(kind: type, error: Any, where: str) -> str:
    """Say in one line what is wrong with a setting."""
    *outer, last = error["loc"] or ("",)
    name = ".".join(_shortened(part) for part in (where, *outer, last) if part != "")
    if error["type"] == "unexpected_keyword_argument":
        inside = tuple(part for part in outer if isinstance(part, str))
        known = [each.name for each in fields(INNER.get(inside, kind))]
        nearest = get_close_matches(str(last), known, n=1, cutoff=0.5)
        remedy = f"did you mean {nearest[0]}?" if nearest else f"use {', '.join(known)}"
        return f"{name}: is no setting; {remedy}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] in ("missing", "value_error"):
        return f"{name}: {message}" if name else message
    return f"{name}: {message}, got {BRIEF.repr(error['input'])}"


def _shortened(text: Any) -> str:
    """Return a text that may be long, or hold line breaks, as one short line."""
    line = " ".join(str(text).split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."
