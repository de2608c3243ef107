"""Commands that end well: by an error that is the user's to mend, by Ctrl-C, and by the SIGTERM of a cluster."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from datasets.exceptions import DatasetsError
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from tqdm.auto import tqdm

# Bad input, a damaged file, a full disk, a training that went wrong: told in one line, without a traceback.
USER_ERRORS = (ValueError, OSError, FloatingPointError, DatasetsError, StrictDataclassError, SafetensorError)


class Terminated(BaseException):
    """The process got SIGTERM. Not an `Exception`, so that nothing on the way takes it for a failure of its own."""


def run_command(program: str, work: Callable[[], int | None], safe: str) -> int:
    """
    Do a command's work, and turn what ends it into one line on the terminal and a status for the shell.

    Args:
        program: the command's name, which begins the line.
        work: what the command does; it returns the status, or None for 0.
        safe: a sentence for a command that was stopped: what is kept, and how to continue.

    Returns:
        0, 1 after one of `USER_ERRORS`, 130 after Ctrl-C, 143 after SIGTERM. All other errors keep their traceback.
    """
    try:
        with terminating():
            return work() or 0
    except USER_ERRORS as error:
        say(f"{program}: {' '.join(str(error).split()) or type(error).__name__}")
        return 1
    except KeyboardInterrupt:
        say(f"{program}: stopped by Ctrl-C. {safe}")
        return 128 + signal.SIGINT
    except Terminated:
        say(f"{program}: stopped by SIGTERM. {safe}")
        return 128 + signal.SIGTERM


def say(line: str) -> None:
    """Print to standard error on a line of its own, above any progress bar."""
    tqdm.write(line, file=sys.stderr)


@contextmanager
def terminating(request: Callable[[], None] | None = None) -> Iterator[None]:
    """
    Within the block, SIGTERM raises [`Terminated`], or calls `request` where there is one.

    Nothing changes in other threads than the main one, where Python handles no signals, and in forked processes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def handle(number, frame):
        if os.getpid() != owner:  # a process that loads audio ahead, and was forked with this handler
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif request is None:
            raise Terminated
        else:
            request()

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
