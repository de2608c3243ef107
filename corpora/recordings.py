"""Recordings that tables and folders name: which files are some, where they lie, and which part of one a row hears.

Where a path leads: `file://` addresses and backslashes are understood. A relative path is looked for in the folder of its
table, then in the current folder. Other addresses (https://, hf://) stay as they are.

Start and end of a row, both in seconds, are the part of its recording that is heard, if they lie in it. They are not, and
the whole recording is heard, where it is the only row of the recording and they are plainly times in something longer, such
as a dialog from which the clip was cut: it is as long as the time between them, or ends before their start. Everything else
(an end before its start, times beyond a recording that several rows share) is a damaged row.
"""

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import numpy as np

from ..audio_lemer import SAMPLING_RATE, load_audio

# What counts as a recording in a folder; a file that cannot be decoded is then named, and not overlooked.
AUDIO_SUFFIXES = set(
    ".wav .wave .flac .ogg .oga .opus .spx .mp3 .mp2 .mpga .aif .aiff .aifc .au .snd .caf .w64 .rf64 .sph .nist .m4a .m4b "
    ".aac .mp4 .m4v .mov .mkv .mka .avi .wma .wmv .asf .webm .amr .awb .3gp .3g2 .ac3 .ape .wv".split()
)
TOLERANCE = 0.1  # seconds by which an end may lie after its recording, since times are rounded
LIKE = 0.1  # share of its length by which a clip that was cut already may differ from its times
SILENCE = 1e-4  # of full scale, -80 dB: a muted microphone stays below, and so do channels that cancel each other
KEPT = 2  # decoded recordings: rows of one file usually stand together


def printable(thing) -> str:
    """As text that can be written, also a path whose bytes are no text."""
    return str(thing).encode("utf-8", "backslashreplace").decode("utf-8")


def walk(folder: Path) -> Iterator[Path]:
    """Yields all files below a folder, links followed, sorted by name; a folder that links to one above is left out."""
    above = {os.path.realpath(folder)}

    def visit(path: str, above: set[str]) -> Iterator[Path]:
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            if not entry.is_dir():
                yield Path(entry.path)
                continue
            real = os.path.realpath(entry.path)
            if real not in above:
                yield from visit(entry.path, above | {real})

    yield from visit(os.fspath(folder), above)


def is_hidden(path: Path, folder: Path) -> bool:
    """Files that begin with a dot, such as the `._name` of macOS, and all below such folders and `__MACOSX`."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(folder).parts)


def locate(written: str, folder: Path) -> str:
    """
    Where a path of a table leads.

    Args:
        written: as it stands in the table.
        folder: of the table.

    Returns:
        An absolute path, which need not be there, or an address as it is.
    """
    path = written.strip()
    if path.lower().startswith("file:"):
        path = url2pathname(unquote(urlsplit(path).path))
    elif "://" in path:
        return path
    path = os.path.expanduser(path)
    places = [os.path.join(folder, path), os.path.abspath(path)]
    if "\\" in path:
        slashed = path.replace("\\", "/")
        places += [os.path.join(folder, slashed), os.path.abspath(slashed)]
    places = [os.path.abspath(place) for place in places]
    return next((place for place in places if os.path.isfile(place)), places[0])


def missing_hint(path: str, folder: Path) -> str:
    """What to do about a recording that is not there: where a file of its name lies, if near its table."""
    name = re.split(r"[\\/]", path)[-1]
    try:
        near = [
            entry.path for entry in os.scandir(folder) if entry.is_dir() and os.path.isfile(os.path.join(entry.path, name))
        ]
    except OSError:
        near = []
    if not near:
        return f"paths are taken from the table's folder {folder}, or from the current one"
    return f"a file of that name lies in {near[0]}: write paths from the table's folder on, such as " + os.path.join(
        os.path.basename(near[0]), name
    )


def choose_part(seconds: float, start: float | None, end: float | None, shared: bool) -> tuple[float, float] | None:
    """
    Which part of a recording its row's times mean.

    Args:
        seconds: length of the recording.
        start, end: of the row in seconds, None where it has none.
        shared: whether several rows with times have the recording.

    Returns:
        Start and end of the part, or None for the whole recording.

    Raises:
        ValueError: the times are no part of the recording.
    """
    if start is None or end is None:
        return None
    if not start < end:
        raise ValueError(f"start {start:g} is not before end {end:g}")
    span = end - start
    longer = start >= seconds or (0 < start and seconds < end and abs(seconds - span) <= max(TOLERANCE, LIKE * span))
    if longer and not shared:
        return None
    if start < seconds and end <= seconds + TOLERANCE:
        return start, min(end, seconds)
    raise ValueError(f"{start:g} to {end:g} s is no part of a recording of {seconds:.2f} s")


def cut_part(samples: np.ndarray, part: tuple[float, float]) -> np.ndarray:
    """The samples at 16 kHz of a part, at least one."""
    first = round(part[0] * SAMPLING_RATE)
    return samples[first : max(first + 1, round(part[1] * SAMPLING_RATE))]


def name_part(name: str, start: float, end: float) -> str:
    """What a part of a recording is called: a.wav[0-1.5]."""
    return f"{name}[{start:g}-{end:g}]"


@lru_cache(KEPT)
def _load_kept(path: str, stamp: str) -> np.ndarray:
    return load_audio(path)


def load_kept(path: str) -> np.ndarray:
    """Samples of a file at 16 kHz; the last few files are kept, and read again when they have changed."""
    return _load_kept(path, file_stamp(path))


def file_stamp(path: str | os.PathLike) -> str:
    """Size and time of a file, "" where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"
