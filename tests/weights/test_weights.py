"""Weights are those that were released, and what is no network is refused in one line."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from emdn.files import sha256
from emdn.losses import HuberisedMSE
from emdn.networks import build
from emdn.networks.ede2019 import COMPACT, SMALL, TINY
from emdn.networks.inference import remove_noise
from emdn.networks.unet import UNET, UNetConfig
from emdn.weights import NAMES, WEIGHTS, load, read_model, shipped_hashes

AWARE, BLIND = (UNetConfig((4,), (1,), stabilised=each) for each in (True, False))
TILES = np.random.default_rng(0).uniform(size=(2, 32, 48)).astype(np.float32)


def save(model, path):
    model.save(path)
    return path


def small_network(config=BLIND, bias=0.125):
    """Return a network that subtracts a constant from what it works on."""
    model = build(config)
    *_, last = (layer for layer in model.layers if isinstance(layer, layers.Conv2D))
    last.bias.assign(np.full(4, bias))
    return model


def rewrite(path, **parts):
    """Replace parts of a Keras file by functions of what they hold."""
    names = {"config": "config.json", "weights": "model.weights.h5"}
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    for part, change in parts.items():
        held[names[part]] = change(held[names[part]])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in held.items():
            archive.writestr(name, content)
    return path


# The weights that ship.


@pytest.mark.parametrize("name", NAMES)
def test_hash_and_model_card_are_of_the_weights_that_ship(name):
    path = WEIGHTS / f"{name}.keras"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert shipped_hashes()[path.name] == digest == sha256(path)
    assert digest in path.with_suffix(".md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_that_ship_are_of_the_network_that_their_card_names(name):
    def shapes(model):
        return [
            (type(layer), [weight.shape for weight in layer.weights])
            for layer in model.layers
        ]

    config = {"auto": UNET, "compact": COMPACT}.get(name, SMALL)
    assert shapes(read_model(name)) == shapes(build(config))
    where = {"auto": "unet.UNET", "compact": "ede2019.COMPACT"}.get(name, "ede2019.SMALL")
    assert f"`emdn.networks.{where}`" in (WEIGHTS / f"{name}.md").read_text()


def test_the_networks_for_every_dose_are_gain_aware_and_the_papers_are_blind():
    assert {name: load(name).gain_aware for name in NAMES} == {
        "auto": True,
        "compact": True,
        "low": False,
        "ordinary": False,
    }


def test_damaged_weights_are_refused_and_others_are_not(tmp_path, monkeypatch):
    for path in WEIGHTS.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    damaged = bytearray((tmp_path / "low.keras").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "low.keras").write_bytes(damaged)
    monkeypatch.setattr("emdn.weights.WEIGHTS", tmp_path)
    with pytest.raises(
        ValueError, match=r"low\.keras: is not the file .* install emdn again"
    ):
        load("low")
    assert np.isfinite(load("ordinary")(TILES, 0.1)).all()
    (tmp_path / "SHA256SUMS").write_text("")
    with pytest.raises(ValueError, match=r"auto\.keras: is not the file that was released"):
        load("auto")


# Files of one's own.


@pytest.mark.parametrize("config", [AWARE, BLIND])
def test_a_network_of_tiles_does_what_its_model_does(config, tmp_path):
    model = small_network(config)
    network = load(save(model, tmp_path / "own.keras"))
    assert network.gain_aware == config.stabilised
    images, gains = map(keras.ops.convert_to_tensor, (TILES[..., np.newaxis], [0.02] * 2))
    expected = remove_noise(model, images, gains, training=False)
    np.testing.assert_allclose(network(TILES, 0.02), expected[..., 0], atol=1e-6)
    assert np.abs(network(TILES, 0.02) - TILES).max() > 0.01


def test_a_file_is_loaded_once_and_by_many_threads(tmp_path):
    path = save(small_network(), tmp_path / "own.keras")
    with ThreadPoolExecutor(8) as pool:
        networks = list(pool.map(load, [path, str(path)] * 8))
    assert len({id(network) for network in networks}) == 1


def test_a_file_that_was_replaced_is_loaded_again(tmp_path):
    """As by a training that goes on, beside a notebook that looks at it."""
    path = tmp_path / "own.keras"
    first = load(save(small_network(bias=0.125), path))
    second = load(save(small_network(bias=0.5), path))
    np.testing.assert_allclose(first(TILES, 1), TILES - 0.125, atol=1e-6)
    np.testing.assert_allclose(second(TILES, 1), TILES - 0.5, atol=1e-6)


def test_a_relative_path_is_that_of_the_folder_one_is_in(tmp_path, monkeypatch):
    for folder, bias in {"a": 0.125, "b": 0.5}.items():
        (tmp_path / folder).mkdir()
        save(small_network(bias=bias), tmp_path / folder / "own.keras")
        monkeypatch.chdir(tmp_path / folder)
        np.testing.assert_allclose(load("own.keras")(TILES, 1), TILES - bias, atol=1e-6)


@pytest.mark.parametrize("renorm", [True, False])
def test_a_model_is_read_as_it_was_saved(renorm, tmp_path):
    """Renormalisation, which old versions of Keras do not know, is kept where it is on."""
    model = build(replace(TINY, batch_renorm=renorm))
    again = read_model(save(model, tmp_path / "own.keras"))
    norms = [layer for layer in again.layers if hasattr(layer, "renorm")]
    assert {norm.renorm for norm in norms} == {renorm}
    assert [type(one) for one in again.layers] == [type(one) for one in model.layers]
    for one, other in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_that_was_compiled_to_train_is_read_without_its_loss(tmp_path):
    model = small_network()
    model.compile("adam", HuberisedMSE())
    assert not read_model(save(model, tmp_path / "own.keras")).compiled


@pytest.mark.parametrize("name", ["medium", "bad.keras"])
def test_a_file_that_is_not_there_is_named_and_so_are_the_names(
    name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=f"{name}: does not exist; .* auto, compact, low, ordinary"
    ):
        load(name)


def of_shapes(inputs, *channels):
    """Return a network of 1 x 1 convolutions to outputs of so many channels each."""
    image = keras.Input(inputs)
    return keras.Model(image, [layers.Conv2D(n, 1)(image) for n in channels])


@pytest.mark.parametrize(
    "model",
    [
        lambda: of_shapes((None, None, 1), 1, 1),
        lambda: of_shapes((None, None, 1), 3),
        lambda: of_shapes((None, None, 3), 1),
        lambda: of_shapes((128, 128, 1), 1),
        lambda: keras.Sequential([keras.Input((5,)), layers.Dense(1)]),
    ],
    ids=["two outputs", "three channels out", "RGB", "one size", "no image"],
)
def test_a_network_that_does_not_go_from_image_to_image_is_refused(model, tmp_path):
    path = save(model(), tmp_path / "odd.keras")
    with pytest.raises(ValueError, match=r"odd\.keras: must hold a network") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def huge_kernel(config):
    """Ask for a kernel of 158 TB."""
    found = json.loads(config)
    for layer in found["config"]["layers"]:
        if layer["class_name"] == "Conv2D":
            layer["config"]["filters"] = 2**40
    return json.dumps(found).encode()


def without_arrays(weights):
    """Remove the arrays of one layer."""
    buffer = io.BytesIO(weights)
    with h5py.File(buffer, "r+") as file:
        del file["layers/conv2d/vars"]
    return buffer.getvalue()


@pytest.mark.parametrize(
    "parts",
    [
        {"config": lambda _: b"[" * 200_000},
        {"config": lambda _: b"{}"},
        {"config": lambda _: b"[1, 2]"},
        {"config": lambda config: config + b" " * 2**25},
        {"config": huge_kernel},
        {"config": lambda config: config.replace(b'"Conv2D"', b'"Conv2E"')},
        {"weights": lambda _: b""},
        {"weights": lambda weights: weights[: len(weights) // 2]},
        {"weights": lambda weights: weights[:100] + bytes(2000) + weights[2100:]},
        {"weights": without_arrays},
    ],
    ids=[
        "deep",
        "empty",
        "list",
        "bomb",
        "huge kernel",
        "unknown layer",
        "no bytes",
        "cut short",
        "zeros",
        "no arrays",
    ],
)
def test_a_damaged_file_is_refused_in_one_line(parts, tmp_path):
    path = rewrite(save(small_network(), tmp_path / "bad.keras"), **parts)
    with pytest.raises(ValueError, match=r"bad\.keras: is no network") as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["bad.keras", "bad.h5"])
def test_a_file_of_another_kind_is_refused_in_one_line(name, tmp_path):
    (tmp_path / name).write_bytes(b"not a network")
    with pytest.raises(ValueError, match=f"{name}: is no network saved by model"):
        load(tmp_path / name)


@pytest.mark.slow
def test_damaged_arrays_never_raise_anything_else(tmp_path):
    """HDF5 has no checksums, so some damage is not noticed."""
    rng = np.random.default_rng(1)
    content = save(small_network(), tmp_path / "whole.keras").read_bytes()
    path, read = tmp_path / "bad.keras", 0
    for _ in range(10):

        def damage(weights):
            changed = bytearray(weights)
            for place in rng.integers(len(changed), size=200):
                changed[place] = rng.integers(256)
            return bytes(changed)

        path.write_bytes(content)
        rewrite(path, weights=damage)
        with suppress(ValueError):  # nothing else may come out
            read_model(path)
            read += 1
    assert read < 5


def test_a_file_may_not_run_code(tmp_path):
    image = keras.Input((None, None, 1))
    path = save(keras.Model(image, layers.Lambda(lambda x: x)(image)), tmp_path / "f.keras")
    with pytest.raises(ValueError, match=r"f\.keras: is no network"):
        load(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_diverged_gives_an_error_and_no_image(value, tmp_path):
    network = load(save(small_network(bias=value), tmp_path / "nan.keras"))
    with pytest.raises(
        ValueError, match=r"nan\.keras: the network returned NaN or infinite"
    ):
        network(TILES, 0.1)


# Processes.

FORK = """
import multiprocessing, numpy as np
from emdn.weights import load

network, tiles = load("low"), np.zeros((1, 32, 32), np.float32)
network(tiles, 1.0)

def use():
    for attempt in (lambda: network(tiles, 1.0), lambda: load("ordinary")):
        try:
            attempt()
        except RuntimeError as error:
            print(error, flush=True)

child = multiprocessing.get_context("fork").Process(target=use)
child.start()
child.join(60)
print("alive" if child.is_alive() else "ended")
child.kill()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system knows no fork")
def test_a_fork_after_use_says_so_and_does_not_hang():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True
    )
    *told, end = done.stdout.splitlines()
    assert end == "ended"
    assert len(told) == 2
    assert all("forked" in line and "spawn or forkserver" in line for line in told)
