"""Write files and folders so that a killed process leaves the old ones or the new ones, never a part of one."""

import csv
import glob
import io
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import psutil
from safetensors import SafetensorError


def _temporary_neighbour(path: Path) -> Path:
    """
    A name beside `path` that no other process uses: `<name>.<machine>.<process id>.tmp`.

    Files and folders under such names that killed processes of this machine left behind are removed.
    """
    name = f"{path.name}.{socket.gethostname()}"
    for leftover in path.parent.glob(f"{glob.escape(name)}.*.tmp"):
        process = leftover.name.removeprefix(f"{name}.").removesuffix(".tmp")
        if process.isdecimal() and (int(process) == os.getpid() or not psutil.pid_exists(int(process))):
            _remove(leftover)
    return path.with_name(f"{name}.{os.getpid()}.tmp")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """
    Write one file; a kill leaves the old file or the new one. Text is written as UTF-8, its line ends as they are.

    Raises:
        OSError: the folder is missing or cannot be written, or `path` exists and is no regular file.
    """
    replace_files({path: content})


def replace_files(contents: Mapping[str | Path, str | bytes]) -> None:
    """
    Write several files like `write_atomically`: if one of them cannot be written, all of them keep their old content.

    Every file is first written under a temporary name in its own folder. Only a kill while these are renamed can leave some
    files new and others old.

    Raises:
        OSError: a folder is missing or cannot be written, or a path exists and is no regular file.
    """
    written: dict[Path, Path] = {}  # temporary file -> its final path
    try:
        for path, content in contents.items():
            path = Path(path)
            if path.exists() and not path.is_file():
                raise FileExistsError(f"cannot write {path}: it exists and is no regular file")
            data = content if isinstance(content, bytes) else content.encode("utf-8")
            temporary = _temporary_neighbour(path)
            written[temporary] = path
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for temporary, path in written.items():
            os.replace(temporary, path)
    finally:
        for temporary in written:
            temporary.unlink(missing_ok=True)


# How a cell begins that a spreadsheet would compute.
FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def format_csv(header: Iterable[str], rows: Iterable[Iterable], quoting: Literal[0, 2] = csv.QUOTE_MINIMAL) -> str:
    """The text of a CSV file; every text in it, which a number is not, is written by `as_cell`."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n", quoting=quoting)
    for row in (header, *rows):
        writer.writerow([as_cell(value) if isinstance(value, str) else value for value in row])
    return file.getvalue()


def as_cell(text: str) -> str:
    """
    Text for a cell of a CSV file that no spreadsheet computes; `from_cell` gives it back.

    What would be taken for a formula gets an apostrophe before it, which a spreadsheet hides.
    """
    return f"'{text}" if text.lstrip("'").startswith(FORMULAS) else text


def from_cell(text: str) -> str:
    """The text that `as_cell` was given."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(FORMULAS) else text


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """
    Fill a folder under a temporary name beside `path`, which it takes only when the block has ended without an error.

    A folder that `path` names already is replaced.

    Yields:
        the temporary folder, empty.
    """
    path = Path(path)
    temporary = _temporary_neighbour(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        let_others_read(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if path.exists():
        shutil.rmtree(path)
    os.replace(temporary, path)


def let_others_read(folder: Path) -> None:
    """
    Give every file in a folder the permissions that the umask says, as the folder itself has them.

    safetensors and temporary files let nobody but the owner read what they write, whatever the umask says.
    """
    usual = folder.stat().st_mode & 0o666
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(file.stat().st_mode | usual)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """
    Turn every error of saving into an `OSError` that says what to do.

    For a full disk, safetensors and torch raise errors of other kinds.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise OSError(
            f"{path} could not be written: {error}. Is the disk full, or the folder read-only? Everything that was complete "
            "before is still there: free some space or change the permissions, and run the same command again to continue"
        ) from error
