"""What predict.py and the page are given: recordings, folders, datasets, and tables of recordings, words and dialogs.

    dialogs = read_inputs(["interviews/", "utterances.csv"], one_dialog=False)
    audio, offset = dialogs[0][0].recording()  # what the pipeline takes, and where in its file it begins

Tables and datasets are read as for training: `corpora/sources.py` says what a name stands for, `corpora/tables.py` how
tables are read, `corpora/columns.py` which columns are taken (recording, text, id, start and end, dialog and order,
history), `corpora/recordings.py` where paths lead and which part of a recording is heard. Without an id a row is called by
its recording as it is written, parts of one as a.wav[0-1], else by table and row; training calls it by the recording's path
from the table's folder on, which is the same for paths that are written so. Ids and dialogs are local to their table or
split. Rows that share a dialog are its turns, in the order of the column of that use, else of the rows. Other columns go
into the output where their cells are a single value: text, a number, a date, the name of a class.

A folder stands for what it holds: a dataset that `save_to_disk` wrote, or a table metadata (.csv, .jsonl ...); else all
recordings in it and below; without any, its tables. Another name is that of a dataset on the Hub, all splits of it.

Recordings that a table or dataset holds are not kept in memory, but read again when they are heard. Those of a source that
is read once, such as a stream, lie in a temporary file until then.
"""

import datetime
import io
import logging
import os
import shlex
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import soundfile
from datasets.config import HF_DATASETS_CACHE

from ..audio_lemer import MAX_SECONDS, SAMPLING_RATE, load_audio
from .columns import Columns, as_history, as_label, as_order, as_text, choose_columns, is_missing, order_keys, read_times
from .recordings import (
    AUDIO_SUFFIXES,
    as_recording,
    choose_part,
    cut_part,
    load_kept,
    missing_hint,
    name_part,
    printable,
)
from .row_names import keep_apart, number_twins, refuse_twins
from .sources import DatasetSplit, Source, SourceRow, TableSplit, open_source
from .tables import ARCHIVE_SUFFIXES, is_table, read_table

USES = ("audio", "text", "id", "start", "end", "duration", "dialog", "order", "history")
SINGLE = (str, int, float, bool, type(None))  # cells of other columns that go into the output as they are
NOTHING: dict = {}  # never changed
# Files that are given for tables, and are none.
OTHER_TABLES = (".xlsx", ".xls", ".ods", ".txt", ".pkl", ".arrow", ".feather", ".xml", ".yaml", *ARCHIVE_SUFFIXES)
logger = logging.getLogger(__name__)


class Stored(NamedTuple):
    """
    A recording within a table or a dataset.

    Attributes:
        name: of the row that holds it.
        read: gives it again, as the pipeline takes it.
        seconds: about how many it decodes to.
    """

    name: str
    read: Callable[[], str | dict | None]
    seconds: float

    def __str__(self) -> str:
        return f"of its own, but one in {self.name}"


class Spool:
    """Recordings of sources that are read once, in a temporary file that is gone when the process ends."""

    @cached_property
    def _file(self):
        try:  # where datasets lie, since a folder of temporary files may be in memory
            os.makedirs(HF_DATASETS_CACHE, exist_ok=True)
            return tempfile.TemporaryFile(dir=HF_DATASETS_CACHE)
        except OSError:
            return tempfile.TemporaryFile()

    def keep(self, content: bytes, load: Callable[[bytes], dict]) -> Callable[[], dict]:
        """Write a recording down; the function that is returned reads it again, and hands its content to `load`."""
        try:
            place = self._file.seek(0, os.SEEK_END)
            self._file.write(content)
            self._file.flush()
        except OSError as error:
            raise OSError(
                f"recordings of a table are kept in {HF_DATASETS_CACHE} until they are heard: {error}. Free some space "
                "there, or set HF_DATASETS_CACHE to another folder"
            ) from error
        return lambda: load(self._content(place, len(content)))

    def _content(self, place: int, length: int) -> bytes:
        self._file.seek(place)
        return self._file.read(length)


class Utterance(NamedTuple):
    """
    One input.

    Attributes:
        id: its name in the output.
        audio: path or address of its recording, `{"path", "bytes"}`, `{"array", "sampling_rate"}`, or where it is stored;
            None without one.
        text: its words.
        history: earlier turns where they are given; None where they are those before it in its dialog.
        start, end: in seconds, of the part of the recording that it is.
        shared: whether other utterances are parts of the same recording.
        folder: from which a path was looked for.
        extra: the other columns of its table, which go into the output.
    """

    id: str
    audio: str | dict | Stored | None = None
    text: str | None = None
    history: list[str] | None = None
    start: float | None = None
    end: float | None = None
    shared: bool = False
    folder: Path | None = None
    extra: dict = NOTHING

    def recording(self) -> tuple[str | dict | None, float]:
        """
        The recording as the pipeline takes it, cut where the utterance is a part of it, and the seconds before that part.

        Raises:
            OSError, ValueError: it cannot be decoded; start and end are no part of it.
        """
        audio = self.audio.read() if isinstance(self.audio, Stored) else self.audio
        if isinstance(audio, str) and self.folder is not None and "://" not in audio and not os.path.isfile(audio):
            raise FileNotFoundError(f"no audio file {audio}; {missing_hint(audio, self.folder)}")
        if audio is None or (self.start is None and self.end is None):
            return audio, 0.0
        samples = load_kept(audio)[0] if isinstance(audio, str) else load_audio(audio)
        part = choose_part(len(samples) / SAMPLING_RATE, self.start, self.end, self.shared)
        if part is None:
            return audio, 0.0
        # A copy, since a view would hold the whole recording in memory.
        return {"array": cut_part(samples, part).copy(), "sampling_rate": SAMPLING_RATE}, part[0]

    def seconds(self) -> float:
        """About how many seconds of speech it decodes to, by the header of its recording; 0 for what is not here yet."""
        if self.shared and self.start is not None and self.end is not None:
            return min(max(0.0, self.end - self.start), MAX_SECONDS)
        if isinstance(self.audio, Stored):
            return self.audio.seconds
        return seconds_of(self.audio) if isinstance(self.audio, str) and os.path.isfile(self.audio) else 0.0


class ManifestRow(NamedTuple):
    """
    A row of a table or dataset; None where it has none of something.

    Attributes:
        id: as it is written.
        name: of the recording as it is written, else table and row.
        audio: an absolute path, an address, or what the table holds.
        text: its words.
        start, end: in seconds, of the part of the recording.
        dialog, order: what dialog it is a turn of, and where.
        history: earlier turns.
        folder: from which its paths go on.
        group: in which its id and dialog mean one thing.
        extra: other columns, which go into the output.
    """

    id: str | None
    name: str
    audio: str | dict | Stored | None
    text: str | None
    start: float | None
    end: float | None
    dialog: str | None
    order: str | None
    history: list[str] | None
    folder: Path
    group: str
    extra: dict


def seconds_of(file: str | bytes) -> float:
    """About how many seconds of speech a file decodes to. Compressed silence is a small file of many hours."""
    size = os.path.getsize(file) if isinstance(file, str) else len(file)
    try:
        header = soundfile.info(io.BytesIO(file) if isinstance(file, bytes) else file)
        seconds = header.duration if header.frames else size / (header.samplerate * header.channels)
    except (soundfile.LibsndfileError, OSError, ValueError):
        seconds = size / 1_000  # what phones write: 8 kbit/s and more
    return min(seconds, MAX_SECONDS)  # nothing longer is decoded


def read_inputs(
    names: list[str],
    one_dialog: bool,
    wanted: dict[str, str] | None = None,
    skipped: list[str] | None = None,
    subset: str | None = None,
) -> list[list[Utterance]]:
    """
    Dialogs, each a list of turns, oldest first; an utterance that belongs to none is a dialog of a single turn.

    Args:
        names: files, folders, tables and datasets.
        one_dialog: whether all inputs together are the turns of one dialog, in their order.
        wanted: columns of tables by their use ("audio", "text"), where they are not known by name.
        skipped: gets a sentence for each line of JSON that is no row and is left out. None: such a line is an error.
        subset: of datasets that have several, the one that is read (their configuration).

    Raises:
        OSError, ValueError: a table or dataset cannot be read, a folder has nothing to answer, two utterances have one id,
            a subset is not there.
    """
    dialogs, sources = [], 0
    for name in names:
        path = Path(name)
        sources += 1
        if path.is_dir():
            dialogs += _read_source(name, one_dialog, wanted or {}, skipped, subset)
        elif path.suffix.lower() in OTHER_TABLES:
            read_table(path)  # refuses it
        elif "://" in name or path.suffix.lower() in AUDIO_SUFFIXES or (path.is_file() and not is_table(path)):
            dialogs.append([Utterance(printable(path), name)])
            sources -= 1
        else:
            dialogs += _read_source(name, one_dialog, wanted or {}, skipped, subset)
    if subset is not None and not sources:
        raise ValueError(f"--subset {subset} is of datasets, and there is none among the inputs: leave it out")
    utterances = [turn for dialog in dialogs for turn in dialog]
    twice = [name for name, count in Counter(turn.id for turn in utterances).items() if count > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} inputs have the id of another, such as {twice[0]!r}: every id must be there once. Give every "
            "recording and table once, and rows of different tables different ids"
        )
    return [utterances] if one_dialog else dialogs


def share_of(dialogs: list[list[Utterance]], index: int, count: int) -> list[list[Utterance]]:
    """The dialogs of one of `count` processes, chosen by a hash of the id of a dialog's first turn."""
    return [dialog for dialog in dialogs if crc32(dialog[0].id.encode("utf-8", "surrogatepass")) % count == index]


def _read_source(
    name: str, one_dialog: bool, wanted: dict, skipped: list[str] | None, subset: str | None
) -> list[list[Utterance]]:
    source = open_source(name, wanted, subset, labelled=False, skipped=skipped)
    if not source.splits:
        for remark in source.remarks:
            logger.warning("%s: %s", name, remark)
        return [[Utterance(printable(file), file)] for file in source.recordings]
    rows = _read_rows(name, source, wanted)
    if one_dialog and any(row.dialog is not None for row in rows):
        raise ValueError(f"{name} names its dialogs, and --dialog says that all inputs are one: leave --dialog out")
    return group_dialogs(name, rows)


def read_manifest(path: Path) -> list[ManifestRow]:
    """
    The rows of a table.

    Raises:
        OSError, ValueError: it cannot be read, or holds neither recordings nor texts; the message names file and row.
    """
    read_table(path)  # refuses what is no table
    return _read_rows(str(path), open_source(path, {}, labelled=False), {})


def _read_rows(name: str, source: Source, wanted: dict) -> list[ManifestRow]:
    """The rows of all splits of a source; what was understood is logged."""
    rows, remarks, spool = [], list(source.remarks), Spool()
    for split in source.splits.values():
        columns = _columns_of(name, split, wanted)
        passed = [column for column in columns.unused if column in split.plain_columns]
        used, lost = [column for column in columns.names.values() if column is not None], {}
        for number, row in enumerate(split.rows([*used, *passed], None), start=1):
            try:
                rows.append(_read_row(row, columns, spool, _other_cells(row, passed, split, lost)))
            except ValueError as error:
                raise ValueError(f"{name}, row {number}: {error} ({row.place})") from error
        described = columns._replace(unused=[column for column in columns.unused if column not in passed]).describe()
        described += [f"columns passed on to the output: {', '.join(map(repr, passed))}"] if passed else []
        described += [f"cells that are no single value stay out of it, in {', '.join(map(repr, lost))}"] if lost else []
        remarks += split.remarks + [f"{source.name}: {remark}" for remark in described]
    if source.recordings:
        named = {row.audio for row in rows if isinstance(row.audio, str)}
        unnamed = sorted({os.path.abspath(path) for path in source.recordings} - named)
        if unnamed:
            remarks.append(f"{len(unnamed)} recordings in the folder have no row, such as {printable(unnamed[0])}")
    groups = [row.group for row in rows]
    refuse_twins(name, [row.id for row in rows], groups)
    ids = keep_apart([row.id for row in rows], groups, "ids", remarks)
    names = keep_apart([row.name for row in rows], groups, "names", remarks)
    for place, row in enumerate(rows):
        if row.id is not ids[place] or row.name is not names[place]:
            rows[place] = row._replace(id=ids[place], name=names[place])
    for remark in dict.fromkeys(remarks):
        logger.warning(remark)
    return rows


def _columns_of(name: str, split: TableSplit | DatasetSplit, given: dict) -> Columns:
    """The columns that are taken; the only one of the type Audio is the recording, whatever others are called."""
    there = split.columns
    wanted: dict[str, str | None] = {"audio": split.audio_columns[0]} if len(split.audio_columns) == 1 else {}
    wanted |= given
    try:
        columns = choose_columns(there, USES, wanted)
    except ValueError as error:
        raise ValueError(f"{name} has {error}") from error
    if columns.names["audio"] is None and columns.names["text"] is None:
        first = next(iter(split.rows(split.plain_columns, None)), None)
        likely = [column for column, cell in (first.cells.items() if first else ()) if _names_recording(cell)]
        hint = f". Cells of {likely[0]!r} are names of recordings: --audio_column {shlex.quote(likely[0])}" if likely else ""
        raise ValueError(
            f"{name} has no column audio, path or text, but {', '.join(there)}: rename one, or say which it is with "
            f"--audio_column or --text_column{hint}"
        )
    return columns


def _names_recording(cell) -> bool:
    return isinstance(cell, str) and Path(cell.strip()).suffix.lower() in AUDIO_SUFFIXES


def _read_row(row: SourceRow, columns: Columns, spool: Spool, extra: dict) -> ManifestRow:
    cells = columns.values(row.cells)
    written = cells["audio"].get("path") if isinstance(cells["audio"], dict) else cells["audio"]
    audio = as_recording(cells["audio"], row.folder)
    if isinstance(audio, dict):
        audio = _put_by(audio, row._replace(cells={}), str(columns.names["audio"]), spool)
    start, end = read_times(columns, cells)
    start, end = (None, None) if audio is None else (start, end)
    dialog, history = as_text(cells["dialog"]), as_history(cells["history"]) or None
    if dialog is not None and history is not None:
        raise ValueError("both dialog and history are given: give one of them")
    return ManifestRow(
        id=as_text(cells["id"]),
        name=printable((isinstance(written, str) and written.strip()) or row.name),
        audio=audio,
        text=None if is_missing(cells["text"]) else cells["text"],
        start=start,
        end=end,
        dialog=dialog,
        order=None if dialog is None else as_order(cells["order"]),
        history=history,
        folder=row.folder,
        group=row.group,
        extra=extra,
    )


def _other_cells(row: SourceRow, names: list[str], split: TableSplit | DatasetSplit, lost: dict[str, None]) -> dict:
    """The cells of other columns that go into the output; `lost` gets the names of columns with cells that cannot."""
    cells = {}
    for name in names:
        cell = row.cells.get(name)
        if name in split.class_names:
            cell = as_label(cell, split.class_names[name])
        if isinstance(cell, (datetime.date, datetime.time)):
            cell = cell.isoformat()
        if isinstance(cell, float) and cell != cell:  # NaN, which JSON does not know
            cell = None
        if not isinstance(cell, SINGLE):
            lost[name] = None
        elif name in row.cells:
            cells[name] = cell
    return cells or NOTHING


def _put_by(audio: dict, row: SourceRow, column: str, spool: Spool) -> Stored | dict:
    """A recording that a table or dataset holds -> the place from which it is read again."""
    if audio.get("bytes") is not None:
        content, path = audio["bytes"], audio.get("path")
        seconds = seconds_of(content)

        def load(content: bytes) -> dict:
            return {"path": path, "bytes": content}
    else:
        try:
            samples, rate = np.asarray(audio["array"]), audio["sampling_rate"]
            seconds = max(samples.shape, default=0) / float(rate)
        except (ValueError, TypeError, ZeroDivisionError):  # what is wrong is told when it is heard
            return audio
        if samples.dtype.kind not in "fiu":
            return audio
        content, kind, shape = samples.tobytes(), samples.dtype, samples.shape

        def load(content: bytes) -> dict:
            return {"array": np.frombuffer(content, kind).reshape(shape), "sampling_rate": rate}

    again = row.again
    if again is not None:
        return Stored(row.name, lambda: as_recording(again(column), row.folder), seconds)
    return Stored(row.name, spool.keep(content, load), seconds)


def group_dialogs(path: str, rows: list[ManifestRow]) -> list[list[Utterance]]:
    """Rows -> dialogs, in the order of their first rows, each in the order of its turns."""
    timed = Counter(row.audio for row in rows if isinstance(row.audio, str) and _has_times(row))
    shares = [isinstance(row.audio, str) and _has_times(row) and timed[row.audio] > 1 for row in rows]
    names = []
    for row, shared in zip(rows, shares, strict=True):
        name = name_part(row.name, row.start, row.end) if shared else row.name
        names.append(printable(name if row.id is None else row.id))
    names, twins = number_twins(names)
    if twins:
        logger.warning(
            f"{path}: {len(twins)} rows without an id are called like another row, and got a number: {twins[0]}#2"
        )
    dialogs: dict[tuple, list[tuple]] = {}
    for number, (row, name, shared) in enumerate(zip(rows, names, shares, strict=True), start=1):
        turn = Utterance(name, row.audio, row.text, row.history, row.start, row.end, shared, row.folder, row.extra)
        key = ("row", number) if row.dialog is None else (row.group, row.dialog)
        dialogs.setdefault(key, []).append((number, row.order, turn))
    return [_in_order(path, turns) for turns in dialogs.values()]


def _has_times(row: ManifestRow) -> bool:
    return row.start is not None or row.end is not None


def _in_order(path: str, turns: list[tuple]) -> list[Utterance]:
    """The turns of a dialog (row, order, utterance) by their order, else by their rows."""
    without = [number for number, order, _ in turns if order is None]
    keys: list = [number for number, _, _ in turns]
    if 0 < len(without) < len(turns):
        raise ValueError(f"{path}, row {without[0]}: order is missing, and other turns of the dialog have one")
    if not without:
        try:
            keys = order_keys([order for _, order, _ in turns])
        except ValueError as error:
            raise ValueError(f"{path}, row {turns[0][0]}: {error}") from error
    places = sorted(range(len(turns)), key=lambda index: (keys[index], index))
    return [turns[index][2] for index in places]
