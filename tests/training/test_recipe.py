"""The paper is a recipe, and a recipe with a mistake says where and what instead."""

import json
import math
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from emdn.data.augment import Augmentation
from emdn.data.corpus import DataConfig
from emdn.networks.dncnn import DNCNN, DnCNNConfig
from emdn.networks.ede2019 import PAPER, TINY
from emdn.networks.unet import UNET, UNetConfig
from emdn.training.recipe import (
    RECIPES,
    Phase,
    TrainingConfig,
    parse_recipe,
    read_recipe,
)

DATA = {"folder": "micrographs"}
BASE = {"data": DATA, "schedule": [{"steps": 100, "rate": 1e-3}]}
LOW, ORDINARY = (read_recipe(f"{name}-dose") for name in ("low", "ordinary"))


@pytest.fixture
def recipe(tmp_path):
    """Return a function that writes a recipe and reads it."""

    def read(text, folder=None):
        path = tmp_path / "recipe.yml"
        path.write_text(text)
        return read_recipe(path, folder)

    return read


def config_of(**changes):
    data, schedule = DataConfig(Path("micrographs")), (Phase(100, 1e-3),)
    return TrainingConfig(**{"data": data, "schedule": schedule, **changes})


# The paper's numbers.


def test_the_schedules_have_the_papers_numbers_of_batches():
    assert LOW.steps == 134_108 + 17_713 + 46_690 == 198_511
    assert ORDINARY.steps == 16_773 + 17_562 == 34_335
    assert LOW.steps + ORDINARY.steps == 232_846


@pytest.mark.parametrize(
    ("recipe", "step", "rate"),
    [
        (LOW, 0, 1e-3),
        (LOW, 134_107, 1e-3),
        (LOW, 134_108, 2.5e-4),
        (LOW, 151_820, 2.5e-4),
        (LOW, 151_821, 1e-4),
        (LOW, 198_510, 1e-4),
        (LOW, 10**9, 1e-4),
        (ORDINARY, 0, 2.5e-4),
        (ORDINARY, 16_772, 2.5e-4),
        (ORDINARY, 16_773, 1e-4),
        (ORDINARY, 34_334, 1e-4),
    ],
)
def test_the_learning_rate_changes_where_the_papers_did(recipe, step, rate):
    assert recipe.rate(step) == rate


def test_batch_normalisations_freeze_with_the_first_fall_of_the_rate():
    assert not LOW.freezes(134_107)
    assert LOW.freezes(134_108)
    assert ORDINARY.freezes(0)
    assert not config_of(freeze_batch_norm=None).freezes(10**9)


@pytest.mark.parametrize("recipe", [LOW, ORDINARY], ids=["low", "ordinary"])
def test_the_papers_recipes_have_its_settings(recipe):
    assert recipe.model == PAPER
    assert PAPER.batch_norm_decay == 0.999
    assert recipe.optimizer == "adam"
    assert recipe.beta_1 == 0.5
    assert recipe.l2 == 5e-5
    assert (recipe.batch, recipe.accumulation) == (10, 5)
    assert recipe.validate_every == 5
    assert (recipe.ssim_weight, recipe.clip, recipe.precision) == (0, False, "float32")
    assert (recipe.averaging, recipe.dose_exponent) == (0, 0)
    assert all(phase.end is None for phase in recipe.schedule)
    data = recipe.data
    assert (data.scenes, data.augmentation) == (0, None)
    assert (data.crop, data.downsizing) == (512, 2)
    assert data.fractions == (0.66, 0.14, 0.20)
    assert data.max_noise_to_signal == 0.02


def test_the_second_of_the_papers_trainings_goes_on_from_the_first():
    assert LOW.data.dose_range == "low"
    assert LOW.start is None
    assert ORDINARY.data.dose_range == "ordinary"
    assert ORDINARY.start == Path("runs/low/denoiser.keras")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yml")), ids=lambda path: path.stem)
def test_every_recipe_that_ships_can_be_read(path):
    config = read_recipe(path, Path("elsewhere"))
    assert config.data.folder == Path("elsewhere")
    assert read_recipe(path.stem, Path("elsewhere")) == config


def test_truths_had_no_grain_in_the_first_two_parts_of_what_ships():
    names = ("any-dose", "any-dose-2", "any-dose-3")
    shares = [read_recipe(name).data.augmentation.grained for name in names]
    assert shares == [0, 0, 0.5]


def test_an_unknown_name_lists_those_of_the_recipes_that_ship():
    with pytest.raises(ValueError, match="lowdose: is no recipe; name a YAML") as caught:
        read_recipe("lowdose")
    assert {path.stem for path in RECIPES.glob("*.yml")} <= set(
        str(caught.value).replace(",", "").split()
    )


# Warm-up and cool-down.


@pytest.mark.parametrize("step", [0, 1, 50, 99, 100])
def test_a_phase_without_an_end_has_one_rate(step):
    assert Phase(100, 3e-4).rate_at(step) == 3e-4


@pytest.mark.parametrize(("rate", "end"), [(1e-6, 1e-3), (1e-3, 1e-5), (2e-3, 0.0)])
def test_a_phase_with_an_end_goes_there_along_half_a_cosine(rate, end):
    """Level at both ends, steepest in the middle, and the same backwards."""
    phase = Phase(1000, rate, end)
    rates = np.array([phase.rate_at(step) for step in range(1001)])
    assert rates[[0, 500, 1000]] == pytest.approx([rate, (rate + end) / 2, end])
    assert rates[250] == pytest.approx(rate + (end - rate) * (1 - math.sqrt(1 / 2)) / 2)
    np.testing.assert_allclose(rates + rates[::-1], rate + end, rtol=1e-9)
    moves = np.diff(rates) / (end - rate)
    assert moves.min() > 0
    assert moves.argmax() in (499, 500)
    assert moves.max() == pytest.approx(np.pi / 2000, rel=1e-3)
    assert moves[[0, -1]].max() < 0.01 * moves.max()


def test_a_warm_up_and_a_cool_down_make_one_curve():
    """No step of it is longer than the steepest of the cosines; afterwards it stays."""
    schedule = (Phase(100, 1e-5, 1e-3), Phase(50, 1e-3), Phase(400, 1e-3, 1e-5))
    config = config_of(schedule=schedule)
    rates = np.array([config.rate(step) for step in range(config.steps + 20)])
    assert rates[0] == pytest.approx(1e-5)
    assert rates[100:151] == pytest.approx(np.full(51, 1e-3))
    assert rates[550:] == pytest.approx(np.full(20, 1e-5))
    assert rates.max() == pytest.approx(1e-3)
    assert np.abs(np.diff(rates)).max() < 1.01 * np.pi / 200 * 1e-3


# Reading.


def test_a_recipe_may_leave_out_all_but_the_folder_and_the_schedule(recipe):
    schedule = "schedule: [{steps: 100, rate: 1.0e-3}]"
    assert recipe(f"data: {{folder: micrographs}}\n{schedule}") == config_of()
    assert recipe(schedule, Path("micrographs")) == config_of()
    more = f"{schedule}\nbatch: 20"
    assert recipe(more, Path("micrographs")) == config_of(batch=20)


def test_a_folder_takes_the_place_of_the_recipes(recipe):
    text = "data: {folder: a, crop: 64}\nschedule: [{steps: 100, rate: 1.0e-3}]"
    config = recipe(text, Path("b"))
    assert config.data == DataConfig(Path("b"), crop=64)


@pytest.mark.parametrize("rate", ["1e-3", "1.0e-3", "0.001", "1E-3", "'1e-3'"])
def test_a_rate_may_be_written_in_any_way(rate, recipe):
    """YAML 1.1 takes 1e-3 for text, since it lacks a point."""
    config = recipe(f"data: {DATA}\nschedule: [{{steps: 3, rate: {rate}}}]")
    assert config.schedule == (Phase(3, 1e-3),)


def test_a_network_is_a_name_or_a_name_and_changes():
    assert parse_recipe({**BASE, "model": "TINY"}).model == TINY
    assert parse_recipe({**BASE, "model": "DNCNN"}).model == DNCNN
    changes = {"batch_renorm": True, "aspp_rates": [1, 2]}
    config = parse_recipe({**BASE, "model": {"name": "TINY", **changes}})
    assert config.model == replace(TINY, batch_renorm=True, aspp_rates=(1, 2))
    config = parse_recipe({**BASE, "model": {"name": "DNCNN", "depth": 5}})
    assert config.model == DnCNNConfig(depth=5)
    config = parse_recipe({**BASE, "model": {"middle_blocks": 3}})
    assert config.model == replace(PAPER, middle_blocks=3)


def test_a_u_net_is_a_name_or_a_name_and_changes():
    assert parse_recipe({**BASE, "model": "UNET"}).model == UNET
    changes = {"features": [8, 12], "blocks": [1, 1], "stabilised": False}
    config = parse_recipe({**BASE, "model": {"name": "UNET", **changes}})
    assert config.model == UNetConfig((8, 12), (1, 1), stabilised=False)


def test_a_configuration_written_as_yaml_is_read_as_it_was(recipe):
    config = config_of(
        model=UNetConfig((8, 12), (1, 2)),
        schedule=(Phase(20, 1e-5, 6e-4), Phase(80, 6e-4, 0.0), Phase(5, 1e-5)),
        averaging=0.998,
        dose_exponent=0.5,
    )
    augmentation = Augmentation(grained=0.25, blur=(0.5, 1.0))
    data = DataConfig(
        config.data.folder, "any", crop=64, scenes=0.35, augmentation=augmentation
    )
    config = replace(config, data=data)
    settings = json.loads(json.dumps(asdict(config), default=str))
    settings["model"]["name"] = "UNET"
    assert recipe(yaml.safe_dump(settings)) == config


def test_reading_leaves_the_settings_alone():
    settings = {**BASE, "model": {"name": "TINY", "batch_renorm": True}}
    before = repr(settings)
    parse_recipe(settings)
    assert repr(settings) == before


# Mistakes.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bath": 10}, "bath: is no setting; did you mean batch?"),
        ({"learning_rate": 1}, "learning_rate: is no setting; "),
        ({"Seed": 1}, "Seed: is no setting; did you mean seed?"),
        ({"data": {**DATA, "corp": 64}}, "data.corp: is no setting; did you mean crop?"),
        (
            {"data": {**DATA, "fraction": [1, 0, 0]}},
            "data.fraction: is no setting; did you mean fractions?",
        ),
        (
            {"schedule": [{"steps": 3, "rate": 1, "stps": 4}]},
            "schedule.0.stps: is no setting; did you mean steps?",
        ),
        (
            {"schedule": [{"steps": 1, "rate": 1}, {"steps": 3, "rates": 1, "rate": 1}]},
            "schedule.1.rates: is no setting; did you mean rate?",
        ),
        (
            {"model": {"name": "TINY", "batch_nrom": "once"}},
            "model.batch_nrom: is no setting; did you mean batch_norm?",
        ),
        (
            {"model": {"name": "DNCNN", "deepth": 5}},
            "model.deepth: is no setting; did you mean depth?",
        ),
        (
            {"model": {"name": "DNCNN", "aspp_rates": [1]}},
            "model.aspp_rates: is no setting; use depth, features, batch_norm_decay",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest_one(settings, message):
    with pytest.raises(ValueError, match=r"is no setting") as caught:
        parse_recipe({**BASE, **settings})
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", [TrainingConfig, DataConfig, Augmentation, Phase])
def test_every_key_with_a_letter_missing_names_the_right_one(kind):
    for each in fields(kind):
        wrong = {each.name[:-1]: 1}
        settings = {
            TrainingConfig: {**BASE, **wrong},
            DataConfig: {**BASE, "data": {**DATA, **wrong}},
            Augmentation: {**BASE, "data": {**DATA, "augmentation": wrong}},
            Phase: {**BASE, "schedule": [{"steps": 1, "rate": 1, **wrong}]},
        }[kind]
        with pytest.raises(ValueError, match=f"did you mean {each.name}\\?"):
            parse_recipe(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": "ten"}, r"batch: .*integer.*, got 'ten'"),
        ({"batch": 2.5}, r"batch: .*integer.*, got 2.5"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"accumulation": -1}, "accumulation must be at least 1, got -1"),
        ({"batch": 10, "accumulation": 4}, "multiple of accumulation, got 10 and 4"),
        ({"validate_every": 0}, "validate_every must be at least 1, got 0"),
        ({"validation_pairs": 0}, "validation_pairs must be at least 1, got 0"),
        ({"log_every": 0}, "log_every must be at least 1, got 0"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1, got 0"),
        ({"examples_every": 0}, "examples_every must be at least 1, got 0"),
        ({"beta_1": 1.0}, "beta_1 must be at least 0 and below 1, got 1.0"),
        ({"beta_1": -0.5}, "beta_1 must be at least 0 and below 1, got -0.5"),
        ({"averaging": 1}, "averaging must be at least 0 and below 1, got 1.0"),
        ({"averaging": -0.1}, "averaging must be at least 0 and below 1, got -0.1"),
        ({"averaging": "nan"}, "averaging must be at least 0 and below 1, got nan"),
        ({"dose_exponent": -1}, "dose_exponent must be 0 or more, got -1.0"),
        ({"dose_exponent": "inf"}, "dose_exponent must be 0 or more, got inf"),
        ({"l2": -1e-5}, "l2 must be 0 or more, got -1e-05"),
        ({"ssim_weight": "nan"}, "ssim_weight must be 0 or more, got nan"),
        ({"optimizer": "adma"}, "optimizer: .*'adam', 'rmsprop' or 'nesterov', got 'adma'"),
        ({"precision": "float16"}, "precision: .*'mixed_float16'.*, got 'float16'"),
        ({"clip": "perhaps"}, "clip: .*boolean.*, got 'perhaps'"),
        ({"schedule": []}, r"schedule must be phases .*, got \[\]"),
        ({"schedule": 5}, "schedule: .*, got 5"),
        ({"schedule": [{"steps": 0, "rate": 1}]}, "steps >= 1, .*steps=0"),
        ({"schedule": [{"steps": 1, "rate": 0}]}, r"rate > 0 .*, got .*rate=0\.0"),
        ({"schedule": [{"steps": 1, "rate": "nan"}]}, "rate > 0 .*, got .*rate=nan"),
        ({"schedule": [{"steps": 1, "rate": "inf"}]}, "rate > 0 .*, got .*rate=inf"),
        ({"schedule": [{"steps": 1, "rate": 1, "end": -1}]}, "end >= 0, got .*end=-1"),
        ({"schedule": [{"steps": 1, "rate": 1, "end": "nan"}]}, "end >= 0, got .*end=nan"),
        ({"schedule": [{"steps": 1, "rate": 1, "end": "inf"}]}, "end >= 0, got .*end=inf"),
        ({"data": {**DATA, "scenes": 2}}, "data: scenes must be a share .*, got 2"),
        ({"schedule": [{"rate": 1}]}, r"schedule\.0\.steps: Field required"),
        ({"schedule": [{"steps": 1, "rate": "fast"}]}, r"schedule\.0\.rate: .*got 'fast'"),
        ({"data": {}}, r"data\.folder: Field required"),
        ({"data": None}, "data: .*, got None"),
        ({"data": {**DATA, "dose_range": "high"}}, r"data\.dose_range: .*got 'high'"),
        ({"data": {**DATA, "crop": 40}}, "data: crop must be a multiple of 16, got 40"),
        ({"data": {**DATA, "fractions": [1, 0]}}, r"data\.fractions\.2: Field required"),
        (
            {"model": "HUGE"},
            "model: must be one of PAPER, SMALL, COMPACT, TINY, DNCNN, UNET, got 'HUGE'",
        ),
        ({"model": None}, "model: must be one of .*, got None"),
        ({"model": ["TINY"]}, r"model: must be one of .*, got \['TINY'\]"),
        ({"model": {"name": ["TINY"]}}, r"model: must be one of .*, got \['TINY'\]"),
        (
            {"model": {"name": "TINY", "batch_norm": "thrice"}},
            r"model\.batch_norm: .*'twice', 'once' or 'between', got 'thrice'",
        ),
        ({1: 2}, "1: .*got 1"),
        ({"schedule": None}, "schedule: .*, got None"),
        ({"batch": 10**30}, "batch must be at most 100000, got 1000000000"),
        ({"validate_every": 10**30}, "validate_every must be at most 10000000"),
        ({"schedule": [{"steps": 10**30, "rate": 1}]}, "steps >= 1, .*steps=1000"),
        ({"seed": -1}, "seed must be from 0 to 4294967295, got -1"),
        ({"seed": 2**32}, "seed must be from 0 to 4294967295, got 4294967296"),
        ({"freeze_batch_norm": -1}, "freeze_batch_norm must be 0 or more, got -1"),
        ({"data": {**DATA, "crops_per_visit": 10**30}}, "crops_per_visit must be from"),
        ({"data": {**DATA, "min_mean": "nan"}}, "min_mean must be a finite number, got"),
        ({"data": {**DATA, "max_noise_to_signal": "nan"}}, "max_noise_to_signal must be"),
        ({"data": {**DATA, "source_exponent": "nan"}}, "source_exponent must be from"),
        ({"data": {**DATA, "augmentation": True}}, r"data\.augmentation: .*, got True"),
        ({"data": {**DATA, "augment": True}}, "data.augment: .* mean augmentation?"),
        (
            {"data": {**DATA, "augmentation": {"grained": 2}}},
            r"data\.augmentation: grained must be a share from 0 to 1, got 2",
        ),
    ],
    ids=str,
)
def test_a_wrong_value_is_named_with_its_field(settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_recipe({**BASE, **settings})
    assert "\n" not in str(caught.value)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ValueError, match="is no setting") as caught:
        parse_recipe({**BASE, "data": {**DATA, "corp": 64}, "bath": 3, "seed": "x"})
    text = str(caught.value)
    assert "did you mean crop?" in text
    assert "did you mean batch?" in text
    assert "got 'x'" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: b: c", "is no YAML file"),
        ("data: {folder: x", "is no YAML file"),
        ("\0", "is no YAML file"),
        ("", "must hold settings"),
        ("- batch", "must hold settings"),
        ("words", "must hold settings"),
        ("data: null", "data: .*got None"),
        ("data: words", "data: .*got 'words'"),
        ("data: [words]", r"data: .*got \['words'\]"),
        ("[" * 5000, r"is no YAML file \(nested too deeply\)"),
        ("seed: 1\nseed: 2", r"is no YAML file \(the key seed comes 2 times\)"),
        ("data: {crop: 16, crop: 32}", r"is no YAML file \(the key crop comes 2 times\)"),
    ],
)
@pytest.mark.parametrize("folder", [None, Path("micrographs")])
def test_a_file_that_holds_no_settings_is_named_in_one_line(text, message, folder, recipe):
    with pytest.raises(ValueError, match=rf"recipe\.yml: {message}") as caught:
        recipe(text, folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["schedule", "model", "batch", "unknown", "data"])
def test_a_value_that_unfolds_without_end_is_told_in_short(key, recipe):
    """Seven aliases of ten aliases each are 520 million letters, written out."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for number in range(1, 8):
        aliases = ", ".join([f"*a{number - 1}"] * 10)
        lines.append(f"a{number}: &a{number} [{aliases}]")
    with pytest.raises(ValueError, match=r"recipe\.yml: ") as caught:
        recipe("\n".join([*lines, f"{key}: *a7"]))
    assert len(str(caught.value)) < 5000
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path):
    binary = tmp_path / "binary.yml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.yml", tmp_path, binary):
        with pytest.raises(ValueError, match=r"is no YAML file \(.*\)") as caught:
            read_recipe(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
