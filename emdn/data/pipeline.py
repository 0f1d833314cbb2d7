"""Batches of pairs for TensorFlow, made ahead of their use."""

import os
from typing import Any

import numpy as np

from emdn.data.sampler import Sampler


def pairs(
    sampler: Sampler,
    batch: int,
    *,
    first: int = 0,
    share: tuple[int, int] = (0, 1),
    threads: int | None = None,
) -> Any:
    """Make batches of pairs, ahead of their use and in all threads.

    Parameters
    ----------
    sampler : Sampler
        Makes the pairs.
    batch : int
        Pairs in a batch, over all workers.
    first : int
        Number of the batch to begin with.
    share : tuple of 2 int
        Which worker this is, and of how many; each makes its part of every batch.
    threads : int, optional
        Threads to make pairs in; by default all processors.

    Returns
    -------
    tf.data.Dataset
        Endless, of noisy and clean (batch / workers, crop, crop, 1) float32 tensors, and of
        the gain, (batch / workers,).
    """
    import tensorflow as tf

    worker, workers = share
    if batch % workers:
        raise ValueError(f"batch must be a multiple of {workers} workers, got {batch}")
    local, side = batch // workers, sampler.config.crop

    def pair(number: int) -> tuple[Any, Any, np.float32]:
        noisy, clean, gain = sampler.pair(number)
        return noisy, clean, np.float32(gain)

    def make(count: Any) -> Any:
        number = (first + count // local) * batch + worker * local + count % local
        # The number decides the pair. Told so, TensorFlow keeps the threads when operations
        # must be deterministic; else it would make one pair after the other.
        made = tf.numpy_function(pair, [number], 3 * [tf.float32], stateful=False)
        noisy, clean, gain = made
        shaped = (tf.reshape(image, (side, side, 1)) for image in (noisy, clean))
        return (*shaped, tf.reshape(gain, ()))

    made = tf.data.Dataset.range(np.iinfo(np.int64).max).map(
        make,
        num_parallel_calls=threads or os.cpu_count(),
        deterministic=True,
    )
    options = tf.data.Options()
    # Else one thread of a pool that the device's own work fills would make the pairs.
    options.threading.private_threadpool_size = threads or os.cpu_count()
    return made.batch(local).prefetch(2).with_options(options)
