"""A process of its own: whatever a question does, an answer comes back."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from emdn.io.child import DamageError, Limits, ask
from emdn.io.source import MicrographError

# Half an hour in C that neither Ctrl-C nor a thread interrupts, as HDF5's endless loops.
DEAF = ("re:match", "(a+)+$", "a" * 40 + "b")
unix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and signals")


def alive(process: int) -> bool:
    """Tell whether a process runs; one that only waits to be asked after does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone_within(seconds: float, processes: list[int]) -> bool:
    end = time.monotonic() + seconds
    while any(map(alive, processes)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(alive, processes))


def test_answers_are_json_or_arrays():
    assert ask("json:loads", '{"a": [1, 2.5, null, "µ"]}') == {"a": [1, 2.5, None, "µ"]}
    array = ask("numpy:arange", 3_000_000)
    np.testing.assert_array_equal(array, np.arange(3_000_000), strict=True)


@pytest.mark.parametrize("dtype", [">u2", "<f4", "int8", "complex64"])
def test_arrays_keep_their_type_and_shape(dtype):
    array = ask("numpy:full", [2, 3], 7, dtype)
    np.testing.assert_array_equal(array, np.full((2, 3), 7, dtype), strict=True)


@unix
def test_what_takes_too_long_is_ended_though_it_hears_nothing():
    start = time.monotonic()
    with pytest.raises(MicrographError, match=r"took more than 0\.5 s to read"):
        ask(*DEAF, limits=Limits(seconds=0.5))
    assert time.monotonic() - start < 10


@unix
@pytest.mark.parametrize("crash", [("ctypes:string_at", 0), ("os:abort",), ("os:_exit", 7)])
def test_a_crash_becomes_one_line(crash):
    with pytest.raises(MicrographError, match="crashed the library that reads it"):
        ask(*crash)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory has no limit")
def test_a_question_gets_no_more_memory_than_it_may_take():
    with pytest.raises(MicrographError, match="needs more memory"):
        ask("numpy:ones", 10**9)
    assert ask("numpy:ones", 10**7).nbytes == 8e7


def test_any_other_fault_is_told():
    with pytest.raises(DamageError, match=r"^JSONDecodeError: Expecting"):
        ask("json:loads", "{")


def test_the_next_question_is_answered_and_knows_nothing_of_the_last():
    for question in (DEAF, ("os:abort",)):
        with pytest.raises(MicrographError):
            ask(*question, limits=Limits(seconds=0.2))
        assert ask("json:loads", "1") == 1
    ask("builtins:exec", "import os; os.environ['LEFT'] = 'behind'")
    assert ask("builtins:eval", "'LEFT' in __import__('os').environ") is False


def test_threads_are_answered_side_by_side():
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda n: ask("json:loads", str(n)), range(40)))
    assert answers == list(range(40))


def test_the_process_is_light():
    modules = ask("builtins:eval", "sorted(__import__('sys').modules)")
    assert not {"tensorflow", "keras", "skimage", "dask"} & set(modules)


def run(code: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_the_process_that_asks(end, tmp_path):
    note = tmp_path / "note"
    question = f"""
import os, re
open({str(note)!r}, "w").write(f"{{os.getpid()}} {{os.getppid()}}.")
re.match{DEAF[1:]!r}
"""
    code = """
    import signal, sys
    from emdn.io.child import ask

    # A shell lets what it starts in the background ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ask("builtins:exec", sys.argv[1])
    """
    process = run(code, question)
    while not (note.exists() and note.read_text().endswith(".")):
        assert process.poll() is None
        time.sleep(0.05)
    fork, server = map(int, note.read_text()[:-1].split())
    assert alive(fork)
    assert alive(server)
    process.send_signal(end)
    _, errors = process.communicate(timeout=120)  # on a busy machine
    assert process.returncode == -end, errors
    assert gone_within(10, [fork, server])


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_it_ends_when_there_is_nothing_more_to_ask():
    code = 'from emdn.io.child import ask; print(ask("os:getppid"))'
    process = run(code)
    output, errors = process.communicate(timeout=60)
    assert errors == ""
    assert gone_within(5, [int(output)])


@unix
def test_a_fork_of_the_process_that_asks_has_a_server_of_its_own():
    code = """
        import os
        from emdn.io.child import ask

        first = ask("os:getppid")
        if fork := os.fork():
            os.waitpid(fork, 0)
            print("kept" if ask("os:getppid") == first else "lost")
        else:
            print("own" if ask("os:getppid") != first else "shared", flush=True)
    """
    output, errors = run(code).communicate(timeout=60)
    assert (output, errors) == ("own\nkept\n", "")


@pytest.mark.parametrize("last", [("json:loads", ("2",)), (DEAF[0], DEAF[1:])])
def test_where_there_is_no_fork_the_server_answers_itself(last):
    code = "import os; del os.fork; import emdn.io.child as c; c.serve()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    questions = [["json:loads", ["1"], 1, 2**31], ["json:loads", ["{"], 1, 2**31]]
    questions += [[*last, 1, 2**31]]
    lines = "".join(json.dumps(question) + "\n" for question in questions)
    output, _ = process.communicate(lines.encode(), timeout=60)
    answers = [json.loads(line) for line in output.splitlines()]
    assert answers[0] == {"value": 1}
    assert answers[1]["damage"].startswith("JSONDecodeError")
    assert answers[2:] == ([{"value": 2}] if last[0] == "json:loads" else [])
    assert (process.returncode == 0) == (last[0] == "json:loads")


def test_a_script_needs_no_guard_and_is_not_run_again(tmp_path):
    script = tmp_path / "script.py"
    script.write_text('from emdn.io.child import ask\nprint(ask("json:loads", "1"))\n')
    found = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "1\n"
