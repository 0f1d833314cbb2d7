"""One step of a training: gradients of parts of a batch, on one device or on many.

What parts and replicas find is added up, so that neither changes the result:

    batch --parts--> replicas --gradients, summed--> optimizer --> weights
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from emdn.losses import HuberisedMSE, ssim_loss
from emdn.networks import build
from emdn.networks.inference import remove_noise
from emdn.training.recipe import TrainingConfig
from emdn.weights import read_model

USUAL_COUNTS = 100.0  # counts in a pixel of value 1 at which `dose_exponent` is no change
MOMENTUM = 0.9  # share of the last update in the next, as in the original code
EPSILON = 1e-8  # added to Adam's divisor, as in TensorFlow 1, which the original used


def choose_strategy() -> tf.distribute.Strategy:
    """Return the devices that train: TF_CONFIG's workers, all GPUs, or the processor."""
    if cluster()[1] > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def cluster() -> tuple[int, int]:
    """Return which worker of how many this process is, by the variable TF_CONFIG."""
    settings = json.loads(os.environ.get("TF_CONFIG") or "{}")
    workers = len(settings.get("cluster", {}).get("worker", [0]))
    return int(settings.get("task", {}).get("index", 0)), workers


class Trainer:
    """A network, its optimizer, and one step of its training, on all replicas.

    Parameters
    ----------
    config : TrainingConfig
        How to train.
    strategy : tf.distribute.Strategy, optional
        Devices that train; by default as `choose_strategy` says.
    """

    def __init__(
        self, config: TrainingConfig, strategy: tf.distribute.Strategy | None = None
    ) -> None:
        self.config = config
        self.strategy = strategy or choose_strategy()
        replicas = self.strategy.num_replicas_in_sync
        if config.batch % (config.accumulation * replicas):
            raise ValueError(
                f"batch must be a multiple of accumulation times replicas, "
                f"{config.accumulation} x {replicas}, got {config.batch}"
            )
        keras.utils.set_random_seed(config.seed)
        with self.strategy.scope(), _dtype_policy(config.precision):
            self.model = build(config.model)
            if config.start is not None:
                _load_weights(self.model, config.start)
            self.optimizer = _build_optimizer(config)
            self.optimizer.build(self.model.trainable_variables)
            self.averaged = build(config.model) if config.averaging else self.model
            # One part of a batch updates the weights at once.
            several = self.model.trainable_variables if config.accumulation > 1 else []
            self.sums = [_replica_sum(each) for each in several]
        self.huberised = HuberisedMSE()
        self._run = _compiled(self._on_replicas)
        self._apply = _compiled(lambda: self.strategy.run(self._apply_sums))
        self._predict = _compiled(self._infer)

    def step(self, parts: Iterator[tuple[Any, Any, Any]], number: int) -> tuple[Any, Any]:
        """Update the weights by one batch, taken in `accumulation` parts.

        Parameters
        ----------
        parts : iterator of triples of tensors
            This worker's share of the parts: noisy and clean images, (N, H, W, 1), and
            the gain of each, (N,).
        number : int
            Number of the step, from 0. It decides on learning rate and batch normalisation.

        Returns
        -------
        loss, mse : scalar tensors
            Mean loss of the batch without its L2 term, and mean squared error of outputs
            clipped to [0, 1].
        """
        self.optimizer.learning_rate.assign(self.config.rate(number))
        training = not self.config.freezes(number)
        count = self.config.accumulation
        losses, errors = [], []
        for _ in range(count):
            noisy, clean, gain = (self._spread(each) for each in next(parts))
            loss, error = self._run(noisy, clean, gain, training=training, apply=count == 1)
            losses.append(loss)
            errors.append(error)
        if count > 1:
            self._apply()
        return tf.add_n(losses) / count, tf.add_n(errors) / count

    def gradients(
        self, noisy: Any, clean: Any, gain: Any, *, training: bool
    ) -> tuple[list, Any, Any]:
        """Return gradients of this replica's share of the loss, its mean, and the MSE."""
        config, variables = self.config, self.model.trainable_variables
        replicas = self.strategy.num_replicas_in_sync
        # What replicas, and then parts, add up to is the mean over the batch.
        shares = replicas * config.accumulation
        with tf.GradientTape() as tape:
            output = remove_noise(self.model, noisy, gain, training=training)
            output = tf.cast(output, tf.float32)
            loss = tf.reduce_mean(self._loss(clean, output, gain))
            weights = tf.add_n([tf.nn.l2_loss(each) for each in variables])
            total = (loss + config.l2 * weights) / shares
            total = self.optimizer.scale_loss(total)
        error = tf.reduce_mean(tf.square(tf.clip_by_value(output, 0, 1) - clean))
        return tape.gradient(total, variables), loss, error

    def predict(
        self, noisy: NDArray[np.float32], gain: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return denoised (N, H, W) images, not clipped, by the averaged weights if any."""
        self.average()
        output = self._predict(tf.constant(noisy[..., np.newaxis]), tf.constant(gain))
        return tf.cast(output, tf.float32).numpy()[..., 0]

    def _infer(self, noisy: Any, gain: Any) -> Any:
        return remove_noise(self.averaged, noisy, gain, training=False)

    def average(self) -> keras.Model:
        """Return the network with weights averaged over steps, if so configured."""
        if not self.config.averaging:
            return self.model
        self.averaged.set_weights(self.model.get_weights())
        inner = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        if np.asarray(inner.iterations) > 0:  # averages begin with the first step's weights
            means = [each for each in inner.variables if each.name.endswith("average")]
            for mean, mine in zip(means, self.averaged.trainable_variables, strict=True):
                mine.assign(mean)
        return self.averaged

    def state(self) -> dict[str, NDArray]:
        """Return all variables by name: of the network and of the optimizer."""
        return {name: np.asarray(each) for name, each in self._variables().items()}

    def restore(self, state: dict[str, NDArray]) -> None:
        """Set all variables to what `state` returned.

        Raises
        ------
        ValueError
            If the state is of other variables. Then none is changed.
        """
        variables = self._variables()
        shapes = {name: tuple(each.shape) for name, each in variables.items()}
        if shapes != {name: array.shape for name, array in state.items()}:
            raise ValueError("the checkpoint is of another network or optimizer")
        for name, variable in variables.items():
            variable.assign(state[name])

    def _variables(self) -> dict[str, Any]:
        groups = {"model": self.model.variables, "optimizer": self.optimizer.variables}
        return {
            f"{group}/{number:04}": variable
            for group, variables in groups.items()
            for number, variable in enumerate(variables)
        }

    def _loss(self, clean: Any, output: Any, gain: Any) -> Any:
        """Return the loss of each image, shape (N,)."""
        if self.config.clip:
            output = tf.clip_by_value(output, 0, 1)
        weight = 1.0
        if self.config.dose_exponent:
            weight = (1 / (USUAL_COUNTS * gain)) ** (self.config.dose_exponent / 2)
            weight = tf.reshape(weight, (-1, 1, 1, 1))
        loss = self.huberised.call(weight * clean, weight * output)
        if self.config.ssim_weight:
            loss += self.config.ssim_weight * ssim_loss(clean, output)
        return loss

    def _on_replicas(
        self, noisy: Any, clean: Any, gain: Any, *, training: bool, apply: bool
    ) -> Any:
        """Run one part on all replicas; return the means of loss and MSE."""

        def on_replica(noisy: Any, clean: Any, gain: Any) -> Any:
            gradients, *scores = self.gradients(noisy, clean, gain, training=training)
            if apply:
                self.optimizer.apply(gradients)
            else:
                for total, gradient in zip(self.sums, gradients, strict=True):
                    total.assign_add(gradient)
            return scores

        scores = self.strategy.run(on_replica, (noisy, clean, gain))
        mean = tf.distribute.ReduceOp.MEAN
        return [self.strategy.reduce(mean, score, axis=None) for score in scores]

    def _apply_sums(self) -> None:
        self.optimizer.apply([total.read_value() for total in self.sums])
        for total in self.sums:
            total.assign(tf.zeros_like(total))

    def _spread(self, images: Any) -> Any:
        """Give each of this worker's replicas its part of some images."""
        local = self.strategy.num_replicas_in_sync // cluster()[1]
        if local == 1:
            return images
        parts = tf.split(images, local)
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group % local]
        )


def _compiled(function: Callable) -> Any:
    # XLA made a step four to ten times slower on CPUs, and compiles for a minute.
    return tf.function(function, autograph=False, jit_compile=False)


def _replica_sum(variable: Any) -> tf.Variable:
    """Return a variable like another, of which each replica has its own."""
    return tf.Variable(
        tf.zeros(variable.shape),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


@contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    """Make layers of a precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _build_optimizer(config: TrainingConfig) -> Any:
    settings: dict[str, Any] = {"learning_rate": config.rate(0)}
    if config.averaging:
        settings |= {"use_ema": True, "ema_momentum": config.averaging}
    match config.optimizer:
        case "adam":
            settings |= {"beta_1": config.beta_1, "epsilon": EPSILON}
            optimizer = keras.optimizers.Adam(**settings)
        case "rmsprop":
            optimizer = keras.optimizers.RMSprop(momentum=MOMENTUM, **settings)
        case "nesterov":
            optimizer = keras.optimizers.SGD(momentum=MOMENTUM, nesterov=True, **settings)
    if config.precision == "mixed_float16":  # gradients would vanish unscaled
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def _load_weights(model: keras.Model, path: Path) -> None:
    """Take the weights of a Keras file into a network of the same graph."""
    try:
        model.set_weights(read_model(str(path)).get_weights())  # a name is no path
    except (ValueError, OSError) as error:
        raise ValueError(
            f"start: {path} holds no weights of this model; name a file that a training "
            "of the same model wrote"
        ) from error
