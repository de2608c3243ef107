"""Locks for files and folders that only one run may write at a time."""

import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

PATIENCE = 30  # seconds after which a run that waits for another one says so, and the other processes hear of it


class InUse(OSError):
    """Another run is writing the same file or folder."""


@contextmanager
def hold(path: str | Path, patience: float = 0) -> Iterator[None]:
    """
    Hold the lock of a file or folder while the block runs. It is the process's: a kill releases it.

    The lock lies beside `path` as `.<name>.lock`, and `.<name>.lock.json` says who holds it. Both are gone afterwards.

    Args:
        path: what is going to be written; it need not exist yet.
        patience: seconds to wait for another run that holds the lock.

    Raises:
        InUse: another run holds the lock.
        OSError: the folder cannot be written.
    """
    path = Path(path)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    holder = path.with_name(f".{path.name}.lock.json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=patience)
    except Timeout:
        raise InUse(
            f"{path} is being written by another run ({_describe(holder)}): wait for it, stop it, or write somewhere else"
        ) from None
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    facts = {"machine": socket.gethostname(), "process": os.getpid(), "command": shlex.join(sys.argv)}
    try:
        holder.write_text(json.dumps({**facts, "since": datetime.now().isoformat(" ", "seconds")}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        with suppress(OSError):  # Windows deletes no open file
            # While it is held: who waits for it sees that the file is gone, and begins anew.
            os.unlink(lock.lock_file)
        lock.release()


@contextmanager
def hold_for_all(path: str | Path, is_main_process: bool, wait: bool = False) -> Iterator[None]:
    """
    `hold` for a run of several processes, all of which call this; the main process takes the lock for all of them.

    Args:
        wait: wait for another run that holds the lock, however long that takes.

    Raises:
        InUse, OSError: in every process, as `hold`.
    """
    from accelerate.utils import broadcast_object_list  # loads torch, which a command of one process need not wait for

    state = ["waiting"]
    with ExitStack() as locks:
        while state[0] == "waiting":
            if is_main_process:
                try:
                    locks.enter_context(hold(path, PATIENCE if wait else 0))
                    state = ["held"]
                except InUse as error:
                    state = ["waiting"] if wait else [str(error)]
                    if wait:
                        print(f"{error}; waiting for it", flush=True)
                except OSError as error:
                    state = [str(error)]
            broadcast_object_list(state)
        if state[0] != "held":
            raise InUse(state[0])
        yield


def _describe(holder: Path) -> str:
    """Who holds a lock, in words."""
    try:
        facts = json.loads(holder.read_text())
        return "process {process} on {machine} since {since}: {command}".format(**facts)
    except (OSError, ValueError, KeyError):  # it has just taken the lock, or just released it
        return "one that has just begun"
