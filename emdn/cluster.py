"""The same call on one machine or on many: a map over the workers of a Dask scheduler."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")
Compute = Callable[[Callable[..., T], Iterable[Any]], Iterator[T]]
"""Applies a function to each of some arguments and yields the results in their order."""

PATIENCE = 30  # seconds until the first worker is there, as where they start together
SUBMITTED = 256  # calls handed out to a cluster at a time


@contextmanager
def computing(scheduler: str | None) -> Iterator[Compute]:
    """Give a map: that of Python, or one over the workers of a scheduler.

    Parameters
    ----------
    scheduler : str, optional
        Address of a Dask scheduler, as ``tcp://host:8786``. Its workers import this package
        and see the same files. A call whose worker is killed is made again by another.

    Yields
    ------
    callable
        Takes a function and an iterable of arguments, and yields results in their order.

    Raises
    ------
    ValueError
        If nothing answers there, or it has no worker for half a minute.
    """
    if scheduler is None:
        yield map
        return
    from distributed import Client

    try:
        client = Client(scheduler)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{scheduler}: no Dask scheduler answers there; start one by `dask scheduler`"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise ValueError(
                f"{scheduler}: has no workers; start some by `dask worker {scheduler}`"
            ) from None
        yield partial(_on_cluster, client)


def _on_cluster(
    client: Any, function: Callable[..., T], arguments: Iterable[Any]
) -> Iterator[T]:
    """Call on the workers, a bounded number of calls ahead."""
    from distributed import KilledWorker

    waiting = iter(arguments)
    futures = [
        client.submit(function, each, pure=False) for each in islice(waiting, SUBMITTED)
    ]
    while futures:
        try:
            result = futures.pop(0).result()
        except KilledWorker as error:
            raise ValueError(
                f"workers were killed again and again, perhaps for want of memory ({error})"
            ) from error
        yield result
        futures += [
            client.submit(function, each, pure=False) for each in islice(waiting, 1)
        ]
