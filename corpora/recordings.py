"""Recordings that tables and folders name: which files are some, where they lie, and which part of one a row hears.

Where a path leads: `file://` addresses and backslashes are understood. A relative path is looked for in the folder of its
table, then in the current folder. An accented letter may be one character or two (macOS writes two). Other addresses
(https://, hf://) stay as they are.

Start and end of a row, both in seconds, are the part of its recording that is heard, if they lie in it. They are not, and
the whole recording is heard, where it is the only row of the recording and they are plainly times in something longer, such
as a dialog from which the clip was cut: it is as long as the time between them, or ends before their start. Everything else
(an end before its start, times beyond a recording that several rows share, milliseconds) is a damaged row. So is a row with
a start or an end alone whose recording other rows have too; a recording that is its own is then heard whole.
"""

import os
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from numbers import Number
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import numpy as np

from ..audio_lemer import SAMPLING_RATE, load_and_check_audio
from .columns import as_text

# What counts as a recording in a folder; a file that cannot be decoded is then named, and not overlooked.
AUDIO_SUFFIXES = set(
    ".wav .wave .flac .ogg .oga .opus .spx .mp3 .mp2 .mpga .aif .aiff .aifc .au .snd .caf .w64 .rf64 .sph .nist .m4a .m4b "
    ".aac .mp4 .m4v .mov .mkv .mka .avi .wma .wmv .asf .webm .amr .awb .3gp .3g2 .ac3 .ape .wv".split()
)
TOLERANCE = 0.1  # seconds by which an end may lie after its recording, since times are rounded
MUCH_LONGER = 10  # times as long as its recording: no clip was cut so wrongly, rather the times are milliseconds
LIKE = 0.1  # share of its length by which a clip that was cut already may differ from its times
SILENCE = 1e-4  # of full scale, -80 dB: a muted microphone stays below, and so do channels that cancel each other
KEPT = 2  # decoded recordings: rows of one file usually stand together


def printable(thing) -> str:
    """As text that can be written, also a path whose bytes are no text."""
    text = str(thing)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


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
    forms = dict.fromkeys(unicodedata.normalize(form, place) for form in ("NFC", "NFD") for place in places)
    places = [os.path.abspath(place) for place in (*places, *forms)]
    return next((place for place in places if os.path.isfile(place)), places[0])


def missing_hint(path: str, folder: Path) -> str:
    """What to do about a recording that is not there: where a file of its name lies, if near its table."""
    if os.path.islink(path):
        return f"it is a link to {os.readlink(path)}, which is not there"
    if os.path.isdir(path):
        return "that is a folder"
    name = re.split(r"[\\/]", path)[-1]
    for beside in _names_in(os.path.dirname(path)):
        if beside.casefold() == name.casefold() or os.path.splitext(beside)[0] == name:
            return f"a file {beside} lies there: write names with their endings, and with the same capital letters"
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


@lru_cache(KEPT)
def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def as_recording(cell, folder: Path) -> str | dict | None:
    """
    A cell of a table -> what `load_audio` takes: an absolute path or an address, `{"path", "bytes"}` or `{"array",
    "sampling_rate"}`; None where it is missing.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(cell, (bytes, bytearray)):
        return {"path": None, "bytes": bytes(cell)}
    if isinstance(cell, dict):
        samples = next((cell[key] for key in ("array", "raw") if cell.get(key) is not None), None)
        if samples is not None:
            if cell.get("sampling_rate") is None:
                raise ValueError("audio {'array': ...} needs 'sampling_rate' beside it, in Hz")
            return {"array": samples, "sampling_rate": cell["sampling_rate"]}
        if cell.get("bytes") is not None:
            return {"path": cell.get("path"), "bytes": cell["bytes"]}
        if cell and not {"path", "bytes", "array", "raw"} & set(cell):
            raise ValueError(
                f"audio is an object with {', '.join(map(str, cell))}: expected 'path', 'bytes' or 'array' in it"
            )
        cell = cell.get("path")
    if isinstance(cell, (list, tuple, np.ndarray)):
        what = "samples without their rate" if all(isinstance(part, Number) for part in cell) else f"a list, {str(cell):.60}"
        raise ValueError(f"audio is {what}: expected a path, bytes, or {{'array', 'sampling_rate'}}")
    path = as_text(cell)
    return None if path is None else locate(path, folder)


def choose_part(seconds: float, start: float | None, end: float | None, shared: bool) -> tuple[float, float] | None:
    """
    Which part of a recording its row's times mean.

    Args:
        seconds: length of the recording.
        start, end: of the row in seconds, None where it has none.
        shared: whether several rows with a start or an end have the recording.

    Returns:
        Start and end of the part, or None for the whole recording.

    Raises:
        ValueError: the times are no part of the recording.
    """
    if start is None or end is None:
        if shared and start != end:
            alone = "start without end" if end is None else "end without start"
            raise ValueError(f"{alone} (give both, or start and duration) is no part of a recording")
        return None
    if not start < end:
        raise ValueError(f"start {start:g} is not before end {end:g}")
    span = end - start
    if span > MUCH_LONGER * seconds and end <= 1000 * (seconds + TOLERANCE):
        raise ValueError(
            f"{start:g} to {end:g} s is no part of a recording of {seconds:.2f} s: if these are milliseconds, call the "
            "columns start_ms and end_ms"
        )
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


def name_part(name: str, start: float | None, end: float | None) -> str:
    """What a part of a recording is called: a.wav[0-1.5]."""
    return f"{name}[{'-'.join('' if time is None else f'{time:g}' for time in (start, end))}]"


@lru_cache(KEPT)
def _load_kept(path: str, stamp: str) -> tuple[np.ndarray, list[str]]:
    return load_and_check_audio(path)


def load_kept(path: str) -> tuple[np.ndarray, list[str]]:
    """
    What `load_and_check_audio` gives of a path or an address. The last few are kept, and read again when a file has changed.
    """
    return _load_kept(path, file_stamp(path))


def file_stamp(path: str | os.PathLike) -> str:
    """Size and time of a file, "" where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"
