"""Commands that end well: by an error that is the user's to mend, by Ctrl-C, and by the SIGTERM of a cluster."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm

# Bad input, a damaged file, a full disk, a training that went wrong: told in one line, without a traceback.
USER_ERRORS = (ValueError, OSError, FloatingPointError, MemoryError)
# The same of libraries. A library that is not loaded raises none, so it need not be loaded to be asked.
LIBRARY_ERRORS = (
    ("datasets.exceptions", "DatasetsError"),
    ("httpx", "HTTPError"),
    ("httpx2", "HTTPError"),  # of newer versions of huggingface_hub
    ("huggingface_hub.errors", "StrictDataclassError"),
    ("pyarrow", "ArrowException"),
    ("safetensors", "SafetensorError"),
    ("torch", "OutOfMemoryError"),
    ("torch.onnx", "OnnxExporterError"),
)
# Optional libraries, and the extra of this package that installs each.
EXTRAS = {
    "av": "media",
    "espeakng_loader": "demo",
    "gradio": "app",
    "matplotlib": "plot",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
}


class Terminated(BaseException):
    """The process got SIGTERM. Not an `Exception`, so that nothing on the way takes it for a failure of its own."""


def run_command(
    program: str,
    work: Callable[[], int | None],
    safe: str,
    failure: int = 1,
    describe: "Callable[[Exception], str] | None" = None,
) -> int:
    """
    Do a command's work, and turn what ends it into one line on the terminal and a status for the shell.

    Every command calls this, so that an error has the same form everywhere.

    Args:
        program: the command's name, which begins the line.
        work: what the command does; it returns the status, or None for 0.
        safe: a sentence for a command that was stopped: what is kept, and how to continue.
        failure: the status after an error that is the user's to mend.
        describe: what the line says of such an error; by default `describe_error`.

    Returns:
        0, `failure` after an error that `is_user_error`, 130 after Ctrl-C, 143 after SIGTERM. All other errors keep their
        traceback.
    """
    try:
        with terminating():
            return work() or 0
    except KeyboardInterrupt:
        say(f"{program}: stopped by Ctrl-C. {safe}")
        return 128 + signal.SIGINT
    except Terminated:
        say(f"{program}: stopped by SIGTERM. {safe}")
        return 128 + signal.SIGTERM
    except Exception as error:
        if not is_user_error(error):
            raise
        say(f"{program}: {' '.join((describe or describe_error)(error).split())}")
        return failure


def is_user_error(error: BaseException) -> bool:
    """Whether an error tells of something that the user can mend: an input, a file, a place, a missing library."""
    if isinstance(error, ImportError):  # without a name it is one of ours, which says what to install
        return error.name is None or error.name.split(".")[0] in EXTRAS
    libraries = [getattr(sys.modules.get(module), name, ()) for module, name in LIBRARY_ERRORS]
    return isinstance(error, (*USER_ERRORS, *(kind for kind in libraries if isinstance(kind, type))))


def describe_error(error: BaseException) -> str:
    """What an error says, in words for the user."""
    # `datasets` wraps what happens while it writes, a full disk for example, and says nothing of it.
    if type(error).__module__ == "datasets.exceptions" and isinstance(error.__cause__, USER_ERRORS):
        error = error.__cause__
    if isinstance(error, ImportError) and error.name is not None:
        library = error.name.split(".")[0]
        return f"{error}: this needs the library {library} (pip install 'lemer[{EXTRAS[library]}]')"
    if isinstance(error, MemoryError):
        return f"there is not enough memory: {error}".removesuffix(": ")
    text = str(error).strip() or type(error).__name__
    home = getattr(sys.modules.get("huggingface_hub.constants"), "HF_HOME", None)
    if home is not None and str(getattr(error, "filename", None) or "").startswith(home):
        text += ": downloads and prepared corpora are kept there; set HF_HOME to a folder that can be written"
    return text


def say(line: str) -> None:
    """Print to standard error on a line of its own, above any progress bar."""
    tqdm.write(line, file=sys.stderr)


@contextmanager
def terminating(request: Callable[[], None] | None = None) -> Iterator[None]:
    """
    Within the block, SIGTERM raises `Terminated`, or calls `request` where there is one.

    Nothing changes in other threads than the main one, where Python handles no signals, and in forked processes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number, frame):
        if request is None:
            raise Terminated
        request()

    handle.ends_with_fork = True  # pyright: ignore[reportFunctionMemberAccess]
    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end_at_once() -> None:
    """
    Give a forked process, one that loads audio or reads rows, the system's own way with SIGTERM again.

    A handler in Python runs only when Python does. A worker that is told to end as it begins to wait for a lock would wait
    forever, and its parent for it.
    """
    if getattr(signal.getsignal(signal.SIGTERM), "ends_with_fork", False):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(after_in_child=_end_at_once)
