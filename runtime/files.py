"""Files and folders that are whole or not there, whenever the process is killed."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError


def write_atomically(path: Path, text: str):
    """Write a file so that a kill leaves the old one or the new one, never a part."""
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


@contextmanager
def whole_folder(path: Path):
    """Fill `path` through a temporary neighbour that takes its name only when the block has ended well."""
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if path.exists():  # of a run that was killed before it wrote its results
        shutil.rmtree(path)
    os.replace(temporary, path)


@contextmanager
def writing(path: Path):
    """Give errors of saving one meaning: safetensors and torch have each their own for a full disk."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise OSError(
            f"{path} could not be written: {error}. Is the disk full, or the folder read-only? What was whole before is "
            "still there, and the same command goes on from it"
        ) from error


def replace_files(contents: dict[str, str]):
    """Writes each text to its path as UTF-8, all or none: first under temporary names in the same folders.

    Raises:
        OSError: a folder is missing or cannot be written, or a path is there and no regular file.
    """
    temporary = {path: f"{path}.{os.getpid()}.tmp" for path in contents}
    try:
        for path, text in contents.items():
            if os.path.exists(path) and not os.path.isfile(path):
                raise FileExistsError(f"cannot write {path}: it is there and no regular file")
            with open(temporary[path], "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
        for path in contents:
            os.replace(temporary[path], path)
    finally:
        for path in temporary.values():
            if os.path.exists(path):
                os.remove(path)
