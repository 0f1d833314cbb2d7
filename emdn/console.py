"""What programs that own their terminal do: progress bars, and a quiet TensorFlow."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

STDERR = 2  # the file descriptor that TensorFlow's C++ code writes to


def load_tensorflow() -> ModuleType:
    """Import TensorFlow without the messages that it prints whatever its log level.

    For programs that own their standard error; a library leaves that to its user.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept = os.dup(STDERR)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), STDERR)
    try:
        return import_module("tensorflow")
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)


@contextmanager
def progress(
    total: int, completed: int = 0, *, description: str, show: bool | None = True
) -> Iterator[Callable[..., None]]:
    """Show a progress bar on standard error, with the number of steps and the time left.

    Parameters
    ----------
    total : int
        Steps in all.
    completed : int
        Steps that were done before.
    description : str
        Text before the bar.
    show : bool, optional
        Whether to show the bar; None shows it in a notebook and on a terminal that can
        redraw a line, which one with ``TERM=dumb`` cannot.

    Yields
    ------
    callable
        ``advance(steps, description=None)`` notes steps that were done, and changes the
        text before the bar if there is a new one.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    text, count = TextColumn("{task.description}"), MofNCompleteColumn()
    columns = (text, BarColumn(), count, TimeRemainingColumn())
    console = Console(stderr=True)
    if show is None:
        redraws = console.is_terminal and not console.is_dumb_terminal
        show = redraws or console.is_jupyter
    with Progress(*columns, console=console, disable=not show) as bar:
        task = bar.add_task(description, total=total, completed=completed)

        def advance(steps: int, description: str | None = None) -> None:
            bar.update(task, advance=steps, description=description)

        yield advance
