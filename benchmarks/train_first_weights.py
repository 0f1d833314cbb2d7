"""Train the first weights that ship: SMALL, on a folder of micrographs and on formulas.

    python benchmarks/train_first_weights.py CORPUS runs/low-1 --steps 9000
    python benchmarks/train_first_weights.py CORPUS runs/ordinary-1 --steps 4500 \
        --dose-range ordinary --start runs/low-1/average.weights.h5 --rate 6e-4 --seed 2 \
        --freeze-at 0
    python benchmarks/train_first_weights.py CORPUS runs/low-2 --steps 1000 \
        --start runs/low-1/average.weights.h5 --rate 2e-4 --side 256 --batch 2 --seed 1 \
        --freeze-at 0
    python benchmarks/train_first_weights.py CORPUS runs/ordinary-2 --steps 1000 \
        --dose-range ordinary --start runs/ordinary-1/average.weights.h5 --rate 2e-4 \
        --side 256 --batch 2 --seed 3 --freeze-at 0

CORPUS holds train/*.tif, val/*.tif and a manifest.csv with columns file, split and source.
Every 500 steps the averaged weights are scored on one crop of each validation image and
saved. The recipe departs from the paper's where a laptop must: smaller crops, a cosine
instead of steps, a running average of the weights in place of a long tail, and batch
normalisations that are frozen after some hundred steps: with statistics of small batches
the error on validation images stayed twice as high.
"""

import argparse
import csv
import json
import math
import queue
import threading
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tifffile

from emdn import synthetic
from emdn.losses import HuberisedMSE
from emdn.metrics import mse, ssim
from emdn.model import SMALL, build_model
from emdn.noise import noisy_pair, sample_scale

SYNTHETIC_SHARE = 0.35
AVERAGE_DECAY = 0.998


def read_split(corpus: Path, split: str) -> dict[str, list[np.ndarray]]:
    """Return the images of a split by source."""
    sources: dict[str, list[np.ndarray]] = {}
    with (corpus / "manifest.csv").open() as file:
        for row in csv.DictReader(file):
            if row["split"] == split:
                image = tifffile.imread(corpus / row["file"]).astype(np.float32)
                sources.setdefault(row["source"], []).append(image)
    return sources


def random_crop(sources: dict[str, list[np.ndarray]], side: int, rng) -> np.ndarray:
    """Return a clean (side, side) crop: a source, then an image, a size and a place."""
    if rng.random() < SYNTHETIC_SHARE:
        return synthetic.micrograph((side, side), rng)
    names = sorted(sources)
    # A source with more images is seen more often, but not in proportion.
    weights = np.sqrt([len(sources[name]) for name in names])
    images = sources[names[rng.choice(len(names), p=weights / weights.sum())]]
    image = images[rng.integers(len(images))]
    shrink = 2 if min(image.shape) >= 2 * side and rng.random() < 0.4 else 1
    y, x = (rng.integers(length - side * shrink + 1) for length in image.shape)
    crop = image[y : y + side * shrink, x : x + side * shrink]
    return crop.reshape(side, shrink, side, shrink).mean(axis=(1, 3))


def training_pair(sources, side: int, dose_range, rng) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy and a clean crop in one of eight symmetries and a random contrast."""
    crop = np.rot90(random_crop(sources, side, rng), rng.integers(4))
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    crop = crop.max() - crop if rng.random() < 0.2 else crop
    noisy, clean, _ = noisy_pair(crop, sample_scale(dose_range, rng), rng)
    if rng.random() < 0.5:  # a part of a large image seldom spans [0, 1]
        contrast = rng.uniform(0.3, 1.2)
        offset = rng.uniform(0, max(0.0, 1 - contrast))
        noisy, clean = (image * contrast + offset for image in (noisy, clean))
    return noisy, clean


def batches(sources, side, size, dose_range, rng, depth=8):
    """Yield batches of pairs for ever, made ahead in a thread."""
    ready: queue.Queue = queue.Queue(depth)

    def fill():
        while True:
            pairs = [training_pair(sources, side, dose_range, rng) for _ in range(size)]
            ready.put([np.stack(images)[..., None] for images in zip(*pairs, strict=True)])

    threading.Thread(target=fill, daemon=True).start()
    while True:
        yield ready.get()


def validation_pairs(sources, dose_range, side=256) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return one pair for the middle of each validation image, always the same."""
    pairs = []
    for image in (image for name in sorted(sources) for image in sources[name]):
        y, x = ((length - side) // 2 for length in image.shape)
        rng = np.random.default_rng(len(pairs))
        crop = image[y : y + side, x : x + side]
        pairs.append(noisy_pair(crop, sample_scale(dose_range, rng), rng)[:2])
    return pairs


def score(model, pairs) -> dict[str, float]:
    """Return mean MSE and SSIM of clipped outputs, and of the noisy images."""
    rows = []
    for noisy, clean in pairs:
        output = model(noisy[None, ..., None], training=False).numpy()[0, ..., 0]
        denoised = np.clip(output, 0, 1)
        rows.append(
            [mse(clean, denoised), ssim(clean, denoised, data_range=1), mse(clean, noisy)]
        )
    return dict(
        zip(("mse", "ssim", "noisy_mse"), np.mean(rows, axis=0).tolist(), strict=True)
    )


def main() -> None:
    """Train, and log a row for every 500 steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--dose-range", default="low")
    parser.add_argument("--start", type=Path)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--freeze-at", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(arguments.seed)

    train, val = (read_split(arguments.corpus, split) for split in ("train", "val"))
    pairs = validation_pairs(val, arguments.dose_range)
    model, averaged = build_model(SMALL), build_model(SMALL)
    if arguments.start:
        model.load_weights(arguments.start)
    averaged.set_weights(model.get_weights())
    loss = HuberisedMSE()
    optimizer = keras.optimizers.Adam(arguments.rate, beta_1=0.5)

    @tf.function
    def step(noisy, clean, decay, training):
        with tf.GradientTape() as tape:
            value = loss(clean, model(noisy, training=training))
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        for slow, fast in zip(averaged.variables, model.variables, strict=True):
            slow.assign(decay * slow + (1 - decay) * tf.cast(fast, slow.dtype))
        return value

    rng = np.random.default_rng(arguments.seed)
    source = batches(train, arguments.side, arguments.batch, arguments.dose_range, rng)
    begun, losses = time.monotonic(), []
    for number in range(1, arguments.steps + 1):
        warm_up = min(1.0, number / 200)
        cosine = 0.5 * (1 + math.cos(math.pi * number / arguments.steps))
        optimizer.learning_rate.assign(arguments.rate * warm_up * max(cosine, 0.01))
        noisy, clean = next(source)
        decay = np.float32(min(AVERAGE_DECAY, number / (number + 10)))
        losses.append(
            float(
                step(
                    tf.constant(noisy, tf.float32),
                    tf.constant(clean, tf.float32),
                    decay,
                    number <= arguments.freeze_at,
                )
            )
        )
        if number % 500 == 0 or number == arguments.steps:
            row = {
                "step": number,
                "seconds": time.monotonic() - begun,
                "loss": float(np.mean(losses)),
                **score(averaged, pairs),
            }
            losses.clear()
            averaged.save_weights(arguments.output / "average.weights.h5")
            averaged.save(arguments.output / "denoiser.keras")
            with (arguments.output / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            print(row, flush=True)


if __name__ == "__main__":
    main()
