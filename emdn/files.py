"""Files that are written whole or not at all, by one process, and as was described."""

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

MOST_CHANGES = 5  # changed settings that a message names


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:  # which may be larger than memory
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def written_whole(path: Path, *, beside: str = "") -> Iterator[Path]:
    """Give a path to write to, whose file then takes the place of another, or vanishes.

    Parameters
    ----------
    path : Path
        The file, or folder, to make or to replace. Where writing fails, it stays as it was.
    beside : str
        Name of the file to write in the same folder. It should begin with a dot, so that
        no one takes it for a result should the program be killed. The default is the
        name of `path` between a dot and ``.part``.
    """
    temporary = path.with_name(beside or f".{path.name}.part")
    try:
        yield temporary
        put_in_place(temporary, path)
    except OSError as error:
        if error.filename in (temporary, str(temporary)):
            error.filename = str(path)  # the name that a user gave
        raise
    finally:
        remove(temporary)


def put_in_place(temporary: Path, path: Path) -> None:
    """Let a file or a folder that is whole take the place of another, on the same disk."""
    files = temporary.rglob("*") if temporary.is_dir() else [temporary]
    for each in files:
        if each.is_file():
            with each.open("r+b") as file:
                os.fsync(file.fileno())
    if not temporary.is_dir() or not path.exists():
        temporary.replace(path)
        return
    # A folder that is not empty cannot be replaced in one step.
    aside = path.with_name(f".{path.name}.old")
    path.rename(aside)
    try:
        temporary.replace(path)
    except OSError:
        aside.rename(path)
        raise
    remove(aside)


def remove(path: Path) -> None:
    """Remove a file, or a folder and what is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock, which the system opens when the process ends, however it ends.

    Parameters
    ----------
    path : Path
        File of the lock, which is made and stays. Where locks are unknown, as on Windows
        and some shared disks, nothing is locked.

    Raises
    ------
    ValueError
        If another process holds the lock.
    """
    with path.open("a") as file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{path.parent}: another process is at work there; wait until it ends, or "
                "choose another place"
            ) from None
        except OSError:
            pass
        yield


def write_or_compare(
    path: Path, description: Mapping[str, Any], *, may_change: Collection[str] = ()
) -> bool:
    """Write down how a result is made, or require that it is made as was written before.

    Parameters
    ----------
    path : Path
        JSON file of the description.
    description : mapping
        Settings by name, nested or not. What JSON lacks, a path for example, is written as
        text.
    may_change : collection of str
        Full names, as ``data.folder``, of settings that are not compared.

    Returns
    -------
    bool
        Whether the file was there already.

    Raises
    ------
    ValueError
        If another setting differs, or the file holds no description.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "about.json"
    >>> write_or_compare(path, {"data": {"crop": 64, "cache": 2.0}})
    False
    >>> write_or_compare(
    ...     path, {"data": {"crop": 64, "cache": 1.0}}, may_change=["data.cache"]
    ... )
    True
    """
    description = json.loads(json.dumps(description, default=str))
    if not path.is_file():
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(description, indent=1) + "\n")
        return False
    before, now = _flat(_read_description(path)), _flat(description)
    changed = [
        f"{name} from {before.get(name, 'nothing')} to {now.get(name, 'nothing')}"
        for name in dict.fromkeys([*before, *now])
        if name not in may_change and before.get(name) != now.get(name)
    ]
    if changed:
        more = len(changed) - MOST_CHANGES
        rest = f" and {more} more" if more > 0 else ""
        raise ValueError(
            f"{path}: was written with other settings, changed: "
            f"{', '.join(changed[:MOST_CHANGES])}{rest}; "
            "go back to the old ones, or choose another place"
        )
    return True


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # neither JSON nor text
        description = None
    if not isinstance(description, dict):
        raise ValueError(f"{path}: is damaged, no JSON of settings; choose another place")
    return description


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their full names, such as data.crop."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = isinstance(value, dict) and value
        flat |= _flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return flat
