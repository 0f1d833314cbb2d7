"""A process of its own for libraries that a damaged or hostile file can crash or hang.

`ask` has a function called in a server, a light Python process that is started once, keeps
its imports and ends with this one. The server forks for each question, so that nothing of
one file reaches the next. A question has a limit of time and of memory. Whatever becomes
of it, an answer comes back: JSON, an array's bytes, or an error. Nothing is pickled.

Where there is no fork (Windows), the server answers itself, with a limit of time only, and
is started anew after a fault.
"""

import contextlib
import faulthandler
import json
import logging
import math
import os
import signal
import subprocess
import sys
import warnings
import weakref
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import spawn
from typing import Any, BinaryIO

import numpy as np

from emdn.io.source import MicrographError

try:
    import resource
    import select
except ImportError:  # Windows has no limits for a process
    resource = select = None


@dataclass(frozen=True)
class Limits:
    """What one question may take.

    Parameters
    ----------
    seconds : float
        Time. A question reads the descriptions in a file, or at most `BLOCK` bytes of
        pixels, for which a slow network (10 MB/s) needs 2 s.
    memory : int
        Address space in bytes, on Linux. Python and its libraries take 0.3 GB of it; the
        rest is for a block and for the chunk of a file that is unpacked in one piece.
    """

    seconds: float = 30.0
    memory: int = 2 * 1024**3


BLOCK = 16 * 1024**2
"""Bytes of pixels to ask for at once, little against `Limits`, much for a fork's 10 ms."""

NO_MORE_THAN = Limits()

_LONGEST_LINE = 16 * 1024**2  # bytes of an answer's JSON; a Velox file's takes some kB
_TOO_LONG, _CRASHED = 3, 4  # exit codes of the server
_REMEDY = "copy it again, or export it as TIFF"
_START = "import sys; sys.path[:] = sys.argv[1:]; import emdn.io.child as c; c.serve()"


class DamageError(Exception):
    """What a library says of a file that it cannot read."""


class _Server:
    """A running server; it ends when this object, or this process, does."""

    def __init__(self):
        paths = [os.path.abspath(path) for path in sys.path]  # noqa: PTH100
        # More threads would only take memory, and must not run where a process forks.
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [spawn.get_executable(), "-c", _START, *paths],
            env={**os.environ, **threads},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Ctrl-C in a terminal is for this process, which then ends the server.
            start_new_session=True,
        )
        self.owner = os.getpid()
        self.end = weakref.finalize(self, _end, self.process)

    @property
    def usable(self) -> bool:
        """Whether it runs, and is not that of a process from which this one was forked."""
        return self.owner == os.getpid() and self.process.poll() is None


def _end(process: subprocess.Popen) -> None:
    """Close the server's ear, on which it ends its fork and itself."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


# Servers that wait for a question: as many as threads asked at once, but one a core.
_waiting: list[_Server] = []


def _take_server() -> _Server:
    while _waiting:
        server = _waiting.pop()
        if server.usable:
            return server
    return _Server()


def ask(function: str, *arguments: Any, limits: Limits = NO_MORE_THAN) -> Any:
    """Call a function in the server and return what it returns.

    Parameters
    ----------
    function : str
        Its module and name, "emdn.io.hdf5_layouts:describe". Its module is imported once.
    arguments
        What JSON can hold.
    limits : Limits
        Time and memory for this question.

    Returns
    -------
    answer : array, or what JSON can hold

    Raises
    ------
    MicrographError
        Fault and remedy, without the file's name: what the function raised, or that it
        crashed or came to a limit.
    DamageError
        Any other exception of the function, by its class and text.
    """
    question = [function, arguments, limits.seconds, limits.memory]
    server = _take_server()
    try:
        answer, array = _exchange(server.process, json.dumps(question), limits)
    except BaseException:  # Ctrl-C as well: the server is still busy
        server.end()
        raise
    if len(_waiting) < (os.cpu_count() or 1):
        _waiting.append(server)
    if "fault" in answer:
        raise MicrographError(answer["fault"])
    if "damage" in answer:
        raise DamageError(answer["damage"])
    return answer["value"] if array is None else array


def _exchange(
    process: subprocess.Popen, question: str, limits: Limits
) -> tuple[dict[str, Any], np.ndarray | None]:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # told below, by the exit code
        process.stdin.write(question.encode() + b"\n")
        process.stdin.flush()
    line = process.stdout.readline(_LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise _fault_of(process, limits)
    answer = json.loads(line)
    if "shape" not in answer:
        return answer, None
    shape, dtype = answer["shape"], np.dtype(answer["dtype"])
    if dtype.kind not in "iufc" or math.prod(shape) * dtype.itemsize > limits.memory:
        raise MicrographError(f"holds a block {shape} of {dtype}; {_REMEDY}")
    array = np.empty(shape, dtype)
    left = array.reshape(-1).view(np.uint8).data
    while len(left):
        read = process.stdout.readinto(left)  # pyright: ignore[reportAttributeAccessIssue]
        if not read:
            raise _fault_of(process, limits)
        left = left[read:]
    return answer, array


def _fault_of(process: subprocess.Popen, limits: Limits) -> MicrographError:
    """Return why there is no answer."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)
    if process.returncode == _TOO_LONG:
        fault = f"took more than {limits.seconds:g} s to read"
    else:
        fault = "crashed the library that reads it"
    return MicrographError(f"{fault}, as damaged files do; {_REMEDY}")


def serve() -> None:
    """Answer questions until there are none: the loop of the server."""
    # The process is this module's own, so that its global state may be set.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")
    logging.disable()
    while line := sys.stdin.buffer.readline():
        function, arguments, seconds, memory = json.loads(line)
        module, name = function.split(":")
        # Imported before the fork, so that it is imported once.
        call = getattr(import_module(module), name)
        if hasattr(os, "fork"):
            _answer_in_a_fork(call, arguments, Limits(seconds, memory), answers)
        else:
            faulthandler.dump_traceback_later(seconds, exit=True)
            _answer(call, arguments, answers)
            faulthandler.cancel_dump_traceback_later()


def _answer_in_a_fork(call: Any, arguments: Any, limits: Limits, answers: BinaryIO) -> None:
    """Answer, or exit with a code that says why there is no answer."""
    assert select is not None
    fork_ends, held_by_fork = os.pipe()
    fork = os.fork()
    if fork == 0:
        code = _CRASHED
        try:
            _limit(limits)
            _answer(call, arguments, answers)
            code = 0
        finally:
            os._exit(code)
    os.close(held_by_fork)
    events = select.poll()
    events.register(fork_ends)
    events.register(sys.stdin, 0)  # not the next question, but that nobody asks any more
    ended = fork_ends in dict(events.poll(1000 * limits.seconds))
    if not ended:
        os.kill(fork, signal.SIGKILL)
    _, status = os.waitpid(fork, 0)
    os.close(fork_ends)
    if not ended:
        os._exit(_TOO_LONG)
    if status != 0:
        os._exit(_CRASHED)


def _limit(limits: Limits) -> None:
    assert resource is not None
    # Time of the processor is limited too, for a fork whose server was killed.
    seconds = math.ceil(limits.seconds) + 1
    for kind, limit in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # macOS does not know them all
            resource.setrlimit(kind, (limit, limit))


def _answer(call: Any, arguments: Any, answers: BinaryIO) -> None:
    try:
        value = call(*arguments)
    except MicrographError as fault:
        value = fault
    except MemoryError:
        value = MicrographError(f"needs more memory than it may take; {_REMEDY}")
    # Damage makes a library fail in any way: KeyError, OSError, struct.error.
    except Exception as error:  # noqa: BLE001
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        value = DamageError(reason)
    if isinstance(value, MicrographError):
        answer = {"fault": str(value)}
    elif isinstance(value, DamageError):
        answer = {"damage": str(value)}
    elif isinstance(value, np.ndarray):
        value = np.ascontiguousarray(value)
        answer = {"shape": value.shape, "dtype": value.dtype.str}
    else:
        answer = {"value": value}
    answers.write(json.dumps(answer).encode() + b"\n")
    if isinstance(value, np.ndarray):
        answers.write(value.reshape(-1).view(np.uint8).data)
    answers.flush()
