"""A step is the same in parts, on replicas or at once; what is frozen stays."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.two_replicas import CONFIG, batch, parts_of, run, scatter_norms
from keras import layers

from emdn.losses import HuberisedMSE, ssim_loss
from emdn.networks import build
from emdn.networks.dncnn import DnCNNConfig
from emdn.networks.unet import UNetConfig
from emdn.training.recipe import Phase, read_recipe
from emdn.training.step import Trainer, cluster
from emdn.weights import read_model

FROZEN = replace(CONFIG, freeze_batch_norm=0)
AWARE = replace(CONFIG, model=UNetConfig(features=(4, 6), blocks=(1, 1)))


def step(trainer, number=0, seed=0):
    """Do one step on a batch of its own, and return its scores as numbers."""
    images = batch(seed, trainer.config.batch)
    scores = trainer.step(parts_of(images, trainer.config.accumulation), number)
    return [float(score) for score in scores]


def names_of(variables):
    """Return names that the same variables of another trainer have, too."""
    return [f"{number} {variable.name}" for number, variable in enumerate(variables)]


def gradients(trainer, images=None):
    """Return gradients by name of trainable variable, batch normalisations frozen."""
    images = batch(0) if images is None else images
    found, *_ = trainer.gradients(*map(tf.constant, images), training=False)
    names = names_of(trainer.model.trainable_variables)
    return dict(zip(names, map(np.asarray, found), strict=True))


def weights_of(trainer):
    """Return the trainable variables of the network by name."""
    variables = trainer.model.trainable_variables
    return dict(zip(names_of(variables), map(np.array, variables), strict=True))


def statistics_of(trainer):
    """Return the moving means and variances by name."""
    variables = trainer.model.non_trainable_variables
    return dict(zip(names_of(variables), map(np.array, variables), strict=True))


def convolutions(trainer):
    return [each for each in trainer.model.layers if isinstance(each, layers.Conv2D)]


def shift_outputs(trainer, shift):
    """Add to all outputs; the network subtracts what its last convolution finds."""
    last = convolutions(trainer)[-1]
    last.bias.assign(last.bias - shift)


def predict(trainer, images):
    """Return what the network makes of a batch, (N, H, W, 1)."""
    noisy, _, gains = images
    return trainer.predict(noisy[..., 0], gains)[..., np.newaxis]


def assert_same(found, expected, *, tolerance=1e-5):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(
            found[name], array, rtol=tolerance, atol=tolerance, err_msg=name
        )


# Parts and replicas.


@pytest.mark.parametrize("parts", [2, 8])
def test_a_batch_in_parts_is_the_same_as_at_once(parts):
    """In two steps, so that what was added up must be forgotten in between."""
    batches = [batch(0), batch(1)]
    whole = run(FROZEN, batches)
    assert_same(run(replace(FROZEN, accumulation=parts), batches), whole)
    start = Trainer(FROZEN).state()
    assert not np.allclose(whole["model/0000"], start["model/0000"], atol=1e-4)


@pytest.fixture(scope="module")
def replicas(tmp_path_factory):
    """Return what `two_replicas` saves: for each case, the variables by name."""
    path = tmp_path_factory.mktemp("replicas") / "states.npz"
    script = Path(__file__).parents[1] / "helpers" / "two_replicas.py"
    subprocess.run([sys.executable, script, path], check=True, capture_output=True)
    cases = {}
    with np.load(path) as archive:
        for name in archive.files:
            case, _, variable = name.partition("/")
            cases.setdefault(case, {})[variable] = archive[name]
    return cases


@pytest.mark.slow
@pytest.mark.parametrize("case", ["frozen on two", "in parts on two"])
def test_two_replicas_train_as_one(case, replicas):
    assert_same(replicas[case], replicas["frozen on one"])


@pytest.mark.slow
@pytest.mark.parametrize("case", ["aware on two", "aware in parts on two"])
def test_two_replicas_share_gains_and_averages(case, replicas):
    """Each has its part of the gains; the averages are of the weights of both."""
    one = replicas["aware on one"]
    assert_same(replicas[case], one)
    assert not np.allclose(one["average/0000"], one["model/0000"], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_each_replica_normalises_by_its_share_of_the_batch(replicas):
    """Two are the mean of two trainings on half of the batch: gradients and statistics."""
    halves = replicas["first half"], replicas["second half"]
    mean = {name: (array + halves[1][name]) / 2 for name, array in halves[0].items()}
    assert_same(replicas["trained on two"], mean)
    whole = replicas["trained on one"]
    differing = [name for name in mean if not np.allclose(mean[name], whole[name])]
    assert len(differing) > 10  # one replica normalises by the whole batch


@pytest.mark.slow
def test_a_batch_that_replicas_cannot_share_is_refused(replicas):
    assert replicas["refusal"][""] == (
        "batch must be a multiple of accumulation times replicas, 3 x 2, got 9"
    )


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ("", (0, 1)),
        ("{}", (0, 1)),
        (json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"index": 0}}), (0, 1)),
        (
            json.dumps(
                {
                    "cluster": {"worker": ["a:1", "b:1", "c:1"]},
                    "task": {"type": "worker", "index": 2},
                }
            ),
            (2, 3),
        ),
    ],
)
def test_a_process_learns_its_place_from_the_environment(settings, place, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", settings)
    assert cluster() == place


def test_without_the_variable_a_process_is_alone():
    assert "TF_CONFIG" not in os.environ
    assert cluster() == (0, 1)


# Batch normalisation.


def test_frozen_statistics_stay_while_gains_and_offsets_are_trained():
    trainer = Trainer(FROZEN)
    scatter_norms(trainer)
    weights, statistics = weights_of(trainer), statistics_of(trainer)
    assert len(statistics) == 4  # of two normalisations
    step(trainer)
    assert_same(statistics_of(trainer), statistics, tolerance=0)
    for name, after in weights_of(trainer).items():
        assert not np.array_equal(after, weights[name]), name


def test_statistics_freeze_at_their_step():
    trainer = Trainer(replace(CONFIG, freeze_batch_norm=2))
    moved = []
    for number in range(4):
        before = statistics_of(trainer)
        step(trainer, number, seed=number)
        after = statistics_of(trainer)
        moved.append(sum((after[name] != before[name]).any() for name in before))
    assert moved == [4, 4, 0, 0]  # means and variances of two normalisations


def test_frozen_statistics_are_those_that_inference_uses():
    trainer = Trainer(replace(FROZEN, l2=0.0))
    scatter_norms(trainer)
    _, clean, _ = batch(0)
    outputs = predict(trainer, batch(0))
    loss, error = step(trainer)
    assert loss == pytest.approx(float(HuberisedMSE()(clean, outputs)), rel=1e-5)
    assert error == pytest.approx(np.square(outputs.clip(0, 1) - clean).mean(), rel=1e-5)


# The loss.


def test_the_l2_term_pulls_each_variable_by_l2_times_itself():
    """Kernels, biases, gains and offsets alike; half the square has this slope."""
    l2 = 0.03
    with_l2, without = (Trainer(replace(FROZEN, l2=each)) for each in (l2, 0.0))
    scatter_norms(with_l2)
    scatter_norms(without)
    pull, plain = gradients(with_l2), gradients(without)
    weights = weights_of(with_l2)
    expected = {name: plain[name] + l2 * weights[name] for name in plain}
    assert_same(pull, expected)


def test_the_reported_loss_lacks_the_l2_term():
    assert step(Trainer(replace(FROZEN, l2=10.0))) == step(Trainer(replace(FROZEN, l2=0.0)))


@pytest.mark.parametrize("weight", [0.0, 2.5])
@pytest.mark.parametrize("clip", [False, True])
def test_the_loss_is_of_outputs_as_they_are_and_the_mse_of_clipped_ones(weight, clip):
    """Unless the loss is told to clip as well."""
    trainer = Trainer(replace(FROZEN, clip=clip, ssim_weight=weight))
    shift_outputs(trainer, 0.8)
    _, clean, _ = batch(0)
    outputs = predict(trainer, batch(0))
    clipped = outputs.clip(0, 1)
    assert 0.1 < np.mean(outputs != clipped) < 1
    loss, error = step(trainer)
    assert error == pytest.approx(np.square(clipped - clean).mean(), rel=1e-4)
    seen = clipped if clip else outputs
    each = HuberisedMSE().call(clean, seen) + weight * ssim_loss(clean, seen)
    assert loss == pytest.approx(np.mean(each), rel=1e-4)


@pytest.mark.parametrize("shift", [10.0, -10.0])
def test_clipped_outputs_have_no_gradient(shift):
    trainer = Trainer(replace(FROZEN, clip=True, l2=0.0))
    shift_outputs(trainer, shift)
    assert all((gradient == 0).all() for gradient in gradients(trainer).values())
    free = Trainer(replace(FROZEN, clip=False, l2=0.0))
    shift_outputs(free, shift)
    assert any((gradient != 0).any() for gradient in gradients(free).values())


def test_outputs_within_0_to_1_have_the_same_gradient_clipped_or_not():
    both = []
    for clip in (True, False):
        trainer = Trainer(replace(FROZEN, clip=clip, model=DnCNNConfig(3, 2)))
        noisy, clean, gains = batch(0)
        images = 0.5 + 0.01 * noisy, 0.5 + 0.01 * clean, gains
        assert predict(trainer, images).min() > 0
        assert predict(trainer, images).max() < 1
        both.append(gradients(trainer, images))
    assert_same(*both, tolerance=1e-6)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("ssim", [0.0, 2.5])
def test_the_dose_exponent_multiplies_squared_errors(exponent, ssim):
    """Below and above the knee; the SSIM has no dose."""
    config = replace(FROZEN, l2=0.0, dose_exponent=exponent, ssim_weight=ssim)
    trainer = Trainer(config)
    noisy, clean, _ = batch(0)
    clean = (noisy + 0.03 * (clean - 0.5)).astype("f4")
    images = noisy, clean, (1 / np.geomspace(0.5, 2500, len(noisy))).astype("f4")
    last = convolutions(trainer)[-1]
    last.kernel.assign(np.zeros(last.kernel.shape))  # it finds no noise but the shift
    shift_outputs(trainer, 0.02)
    outputs = predict(trainer, images)
    m = 1000 * np.square(outputs - clean).mean(axis=(1, 2, 3))
    m *= (1 / (100 * images[2])) ** exponent
    assert m.min() < 0.5 < 2 < m.max()
    each = np.where(m < 1, m, np.sqrt(m)) + ssim * ssim_loss(clean, outputs).numpy()
    found, *_ = trainer.step(parts_of(images, 1), 0)
    assert float(found) == pytest.approx(each.mean(), rel=1e-4)


def test_at_100_counts_the_dose_exponent_changes_nothing():
    noisy, clean, gains = batch(0)
    images = noisy, clean, np.full_like(gains, 1 / 100)
    plain, weighted = (
        gradients(Trainer(replace(FROZEN, dose_exponent=each)), images)
        for each in (0.0, 0.5)
    )
    assert_same(weighted, plain, tolerance=1e-6)
    other = gradients(Trainer(replace(FROZEN, dose_exponent=0.5)), (noisy, clean, gains))
    assert any(not np.allclose(other[name], plain[name], rtol=0.01) for name in plain)


# Averages.


def averages_of(trainer):
    return [np.array(each) for each in trainer.average().trainable_variables]


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "nesterov"])
@pytest.mark.parametrize("parts", [1, 2])
def test_averages_are_exponential_and_begin_with_the_first_steps_weights(optimizer, parts):
    share = 0.7
    changes = {"optimizer": optimizer, "accumulation": parts, "averaging": share}
    trainer = Trainer(replace(CONFIG, **changes))
    expected = None
    for number in range(4):
        step(trainer, number, seed=number)
        weights = list(weights_of(trainer).values())
        if expected is None:
            expected = weights
        else:
            expected = [
                share * mean + (1 - share) * weight
                for mean, weight in zip(expected, weights, strict=True)
            ]
        for found, mean in zip(averages_of(trainer), expected, strict=True):
            np.testing.assert_allclose(found, mean, rtol=1e-5, atol=1e-6)
    assert not np.allclose(averages_of(trainer)[0], weights[0], rtol=1e-3)


def test_before_the_first_step_the_average_is_what_training_begins_with():
    trainer = Trainer(replace(CONFIG, averaging=0.9))
    assert_lists_equal(averages_of(trainer), weights_of(trainer).values())


def test_averaging_leaves_the_training_alone():
    plain, averaged = Trainer(CONFIG), Trainer(replace(CONFIG, averaging=0.9))
    for number in range(2):
        assert step(averaged, number) == step(plain, number)
        predict(averaged, batch(0))
    assert_same(weights_of(averaged), weights_of(plain), tolerance=0)
    assert_same(statistics_of(averaged), statistics_of(plain), tolerance=0)
    assert plain.average() is plain.model


def test_predictions_are_those_of_the_averages_and_of_the_latest_statistics():
    trainer = Trainer(replace(CONFIG, averaging=0.9))
    for number in range(3):
        step(trainer, number, seed=number)
    other = build(CONFIG.model)
    other.set_weights(trainer.model.get_weights())
    noisy, *_ = images = batch(5)
    latest = np.asarray(other(noisy, training=False))
    for variable, mean in zip(other.trainable_variables, averages_of(trainer), strict=True):
        variable.assign(mean)
    expected = np.asarray(other(noisy, training=False))
    np.testing.assert_allclose(predict(trainer, images), expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(latest, expected, rtol=1e-3, atol=1e-3)


def test_steps_that_half_precision_skips_do_not_count_in_the_average():
    """The scale of the loss is too large at first, and is halved until it fits."""
    trainer = Trainer(replace(FROZEN, precision="mixed_float16", averaging=0.75))
    before, expected, skipped = trainer.state()["model/0000"], None, 0
    for _ in range(8):
        step(trainer)
        kernel = trainer.state()["model/0000"]
        if np.array_equal(kernel, before):
            skipped += 1
        else:
            expected = kernel if expected is None else 0.75 * expected + 0.25 * kernel
        if expected is not None:
            np.testing.assert_allclose(averages_of(trainer)[0], expected, rtol=1e-5)
        before = kernel
    assert 1 <= skipped <= 6


def assert_lists_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


# Gain-aware networks.


def wake(trainer):
    """Give the last convolution of a U-Net, which starts from zeros, random weights."""
    last = convolutions(trainer)[-1]
    rng = np.random.default_rng(3)
    last.kernel.assign(rng.normal(0, 0.1, last.kernel.shape))


def test_a_gain_aware_network_learns_and_predicts_by_the_gain():
    trainer = Trainer(replace(AWARE, l2=0.0))
    wake(trainer)
    noisy, clean, gains = batch(0)
    outputs = predict(trainer, (noisy, clean, gains))
    loss, _ = trainer.step(parts_of((noisy, clean, gains), 1), 0)
    expected = HuberisedMSE().call(clean, outputs)
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-4)
    trainer = Trainer(AWARE)
    wake(trainer)
    more = predict(trainer, (noisy, clean, gains / 5))
    assert np.abs(more - outputs).max() > 1e-3


def test_a_gain_aware_network_goes_downhill():
    trainer = Trainer(replace(AWARE, optimizer="adam", schedule=(Phase(20, 1e-3),)))
    losses = [step(trainer, number)[0] for number in range(8)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_gain_aware_network_in_half_precision_reads_and_writes_whole_precision(precision):
    """As long as its last convolution is zero, the image passes through."""
    trainer = Trainer(replace(AWARE, precision=precision))
    noisy, clean, gains = batch(0)
    outputs = predict(trainer, (noisy, clean, gains / 5))
    np.testing.assert_allclose(outputs, noisy, atol=1e-5)
    assert {each.compute_dtype for each in convolutions(trainer)[1:-1]} == {
        precision.removeprefix("mixed_")
    }


# Optimizers.


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "nesterov"])
def test_every_optimizer_goes_downhill(optimizer):
    rates = {"adam": 1e-3, "rmsprop": 1e-3, "nesterov": 1e-4}
    schedule = (Phase(20, rates[optimizer]),)
    trainer = Trainer(replace(FROZEN, optimizer=optimizer, schedule=schedule))
    losses = [step(trainer, number)[0] for number in range(8)]
    assert losses[-1] < losses[0]


def test_optimizers_have_the_momentum_that_they_should():
    adam = Trainer(replace(CONFIG, optimizer="adam", beta_1=0.25)).optimizer
    assert isinstance(adam, keras.optimizers.Adam)
    assert (adam.beta_1, adam.beta_2, adam.epsilon) == (0.25, 0.999, 1e-8)
    rmsprop = Trainer(replace(CONFIG, optimizer="rmsprop")).optimizer
    assert isinstance(rmsprop, keras.optimizers.RMSprop)
    assert rmsprop.momentum == 0.9
    nesterov = Trainer(replace(CONFIG, optimizer="nesterov")).optimizer
    assert isinstance(nesterov, keras.optimizers.SGD)
    assert (nesterov.momentum, nesterov.nesterov) == (0.9, True)


def test_the_first_step_of_adam_is_as_long_as_the_learning_rate():
    """Wherever a gradient is not tiny: the mean of one is divided by its size."""
    trainer = Trainer(replace(FROZEN, optimizer="adam", schedule=(Phase(5, 1e-3),)))
    slopes, before = gradients(trainer), weights_of(trainer)
    step(trainer)
    after = weights_of(trainer)
    for name, slope in slopes.items():
        moved = (after[name] - before[name])[np.abs(slope) > 1e-3]
        signs = np.sign(slope[np.abs(slope) > 1e-3])
        np.testing.assert_allclose(moved, -1e-3 * signs, rtol=2e-3)


def test_each_step_has_the_learning_rate_of_its_phase():
    """Nesterov's first step is the gradient times 1.9 rates; a new trainer has no past."""
    schedule = (Phase(3, 1e-3), Phase(2, 1e-5))
    moves = []
    for number in (0, 2, 3, 4, 99):
        trainer = Trainer(replace(FROZEN, schedule=schedule))
        before = trainer.state()["model/0000"]
        step(trainer, number)
        assert float(trainer.optimizer.learning_rate) == pytest.approx(
            trainer.config.rate(number)
        )
        moves.append(np.abs(trainer.state()["model/0000"] - before).max())
    assert moves == pytest.approx(np.array([1, 1, 0.01, 0.01, 0.01]) * moves[0], rel=0.02)


# Weights and state.


def test_the_seed_decides_on_the_weights():
    first, again, other = (Trainer(replace(CONFIG, seed=seed)) for seed in (5, 5, 6))
    assert_same(again.state(), first.state(), tolerance=0)
    kernel = "model/0000"
    assert not np.allclose(other.state()[kernel], first.state()[kernel])


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_a_restored_trainer_goes_on_as_if_nothing_had_happened(averaging):
    config = replace(CONFIG, optimizer="adam", accumulation=2, averaging=averaging)
    trainer = Trainer(config)
    step(trainer, 0)
    state = trainer.state()
    step(trainer, 1, seed=1)
    other = Trainer(replace(config, seed=9))
    step(other, 0, seed=7)
    other.restore(state)
    step(other, 1, seed=1)
    assert_same(other.state(), trainer.state(), tolerance=0)
    assert_lists_equal(averages_of(other), averages_of(trainer))
    assert state["optimizer/0000"] == 1  # a copy, which later steps leave alone


def test_a_state_of_other_variables_is_refused_and_changes_nothing():
    trainer, other = Trainer(CONFIG), Trainer(replace(CONFIG, optimizer="adam"))
    wider = Trainer(replace(CONFIG, model=replace(CONFIG.model, features=5)))
    before = trainer.state()
    for each in (other, wider):
        with pytest.raises(ValueError, match="is of another network or optimizer"):
            trainer.restore(each.state())
    assert_same(trainer.state(), before, tolerance=0)


def test_training_can_start_from_the_weights_of_a_file(tmp_path):
    model = build(CONFIG.model)
    model.set_weights([np.full(each.shape, 0.25) for each in model.get_weights()])
    model.save(tmp_path / "start.keras")
    trainer = Trainer(replace(CONFIG, start=tmp_path / "start.keras"))
    for array in (*weights_of(trainer).values(), *statistics_of(trainer).values()):
        assert (array == 0.25).all()


@pytest.mark.parametrize("recipe", ["fine-tune", "fine-tune-noisy"])
def test_fine_tuning_starts_from_the_weights_that_ship(recipe):
    trainer, shipped = Trainer(read_recipe(recipe)), read_model("auto")
    for mine, theirs in zip(trainer.model.weights, shipped.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_start_that_does_not_fit_is_refused(precision, tmp_path):
    other = tmp_path / "other.keras"
    build(replace(CONFIG.model, features=5)).save(other)
    damaged = tmp_path / "damaged.keras"
    damaged.write_bytes(b"not a network")
    for path in (other, damaged, tmp_path / "none.keras"):
        message = rf"start: .*{path.name} holds no weights of this model"
        with pytest.raises(ValueError, match=message):
            Trainer(replace(CONFIG, start=path, precision=precision))
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_trains_float32_weights(precision):
    """By nearly the same first step, unless the scale of the loss is still too large."""
    config = replace(FROZEN, seed=2)  # with others bfloat16 rounds a step by up to a fifth
    full, half = Trainer(config), Trainer(replace(config, precision=precision))
    assert half.model.layers[-1].compute_dtype == precision.removeprefix("mixed_")
    before = weights_of(full)
    assert_same(weights_of(half), before, tolerance=0)
    scores = step(full)
    expected = {name: after - before[name] for name, after in weights_of(full).items()}
    for _ in range(16):
        assert step(half) == pytest.approx(scores, rel=0.02)
        moves = {name: after - before[name] for name, after in weights_of(half).items()}
        if any(move.any() for move in moves.values()):
            break
    for name, move in moves.items():
        assert move.dtype == np.float32
        largest = np.abs(expected[name]).max()
        np.testing.assert_allclose(move, expected[name], atol=0.05 * largest, err_msg=name)
    assert keras.config.dtype_policy().name == "float32"


def test_predictions_are_not_clipped():
    trainer = Trainer(CONFIG)
    shift_outputs(trainer, 10.0)
    noisy, _, gains = batch(0)
    denoised = trainer.predict(noisy[..., 0], gains)
    assert denoised.shape == (8, 16, 16)
    assert denoised.dtype == np.float32
    assert denoised.min() > 1
