"""What predict.py and the page are given: recordings, folders, and tables (manifests) of recordings, words and dialogs.

    dialogs = read_inputs(["interviews/", "utterances.csv"], one_dialog=False)
    audio, offset = dialogs[0][0].recording()  # what the pipeline takes, and where in its file it begins

Tables are read as for training: `corpora/tables.py` says how, `corpora/columns.py` which columns are taken (recording,
text, id, start and end, dialog and order, history), `corpora/recordings.py` where paths lead and which part of a recording
is heard. Without an id a row is called by its recording, parts of one as a.wav[0-1], else by table and row. Rows that share
a dialog are its turns, in the order of the column of that use, else of the rows. A folder stands for the table metadata
(.csv, .jsonl ...) in it, if there is one, or else for all recordings in it and below.
"""

import logging
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from ..audio_lemer import SAMPLING_RATE, load_audio
from .columns import as_history, as_order, as_seconds, as_text, choose_columns, is_missing, order_keys
from .recordings import AUDIO_SUFFIXES, choose_part, cut_part, is_hidden, load_kept, locate, name_part, printable, walk
from .sources import list_recordings, metadata_tables
from .tables import is_table, read_table

USES = ("audio", "text", "id", "start", "end", "duration", "dialog", "order", "history")
logger = logging.getLogger(__name__)


class Utterance(NamedTuple):
    """
    One input.

    Attributes:
        id: its name in the output.
        audio: path or address of its recording, `{"path", "bytes"}` or `{"array", "sampling_rate"}`; None without one.
        text: its words.
        history: earlier turns where they are given; None where they are those before it in its dialog.
        start, end: in seconds, of the part of the recording that it is.
        shared: whether other utterances are parts of the same recording.
    """

    id: str
    audio: str | dict | None = None
    text: str | None = None
    history: list[str] | None = None
    start: float | None = None
    end: float | None = None
    shared: bool = False

    def recording(self) -> tuple[str | dict | None, float]:
        """
        The recording as the pipeline takes it, cut where the utterance is a part of it, and the seconds before that part.

        Raises:
            OSError, ValueError: it cannot be decoded; start and end are no part of it.
        """
        if self.audio is None or self.start is None or self.end is None:
            return self.audio, 0.0
        if isinstance(self.audio, str) and "://" not in self.audio:
            samples = load_kept(self.audio)
        else:
            samples = load_audio(self.audio)
        part = choose_part(len(samples) / SAMPLING_RATE, self.start, self.end, self.shared)
        if part is None:
            return self.audio, 0.0
        return {"array": cut_part(samples, part), "sampling_rate": SAMPLING_RATE}, part[0]


def read_inputs(names: list[str], one_dialog: bool) -> list[list[Utterance]]:
    """
    Dialogs, each a list of turns, oldest first; an utterance that belongs to none is a dialog of a single turn.

    Args:
        names: files, folders and tables.
        one_dialog: whether all inputs together are the turns of one dialog, in their order.

    Raises:
        OSError, ValueError: a table cannot be read, a folder has nothing to answer, or two utterances have one id.
    """
    dialogs = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            dialogs += _read_folder(path, one_dialog)
        elif is_table(path):
            dialogs += _read_table_dialogs(path, one_dialog)
        else:
            dialogs.append([Utterance(printable(path), name)])
    utterances = [turn for dialog in dialogs for turn in dialog]
    twice = [name for name, count in Counter(turn.id for turn in utterances).items() if count > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} inputs have the id of another, such as {twice[0]!r}: every id must be there once. Without a "
            "column id a row is called by its recording, so give rows that share one an id each"
        )
    return [utterances] if one_dialog else dialogs


def share_of(dialogs: list[list[Utterance]], index: int, count: int) -> list[list[Utterance]]:
    """The dialogs of one of `count` processes, chosen by a hash of the id of a dialog's first turn."""
    return [dialog for dialog in dialogs if crc32(dialog[0].id.encode("utf-8", "surrogatepass")) % count == index]


def _read_folder(folder: Path, one_dialog: bool) -> list[list[Utterance]]:
    files = list(walk(folder))
    tables = metadata_tables([file for file in files if is_table(file) and not is_hidden(file, folder)])
    if tables:
        logger.warning("%s: read by %s", folder, ", ".join(map(printable, tables)))
        return [dialog for table in tables for dialog in _read_table_dialogs(table, one_dialog)]
    recordings, remarks = list_recordings(folder, files)
    if not recordings:
        raise ValueError(
            f"no recording in the folder {folder} (looked for {' '.join(sorted(AUDIO_SUFFIXES))})"
            + "".join(f"; {remark}" for remark in remarks)
        )
    for remark in remarks:
        logger.warning("%s: %s", folder, remark)
    return [[Utterance(printable(file), str(file))] for file in recordings]


def _read_table_dialogs(path: Path, one_dialog: bool) -> list[list[Utterance]]:
    rows = read_manifest(path)
    if one_dialog and any(row["dialog"] is not None for row in rows):
        raise ValueError(f"{path} names its dialogs, and --dialog says that all inputs are one: leave --dialog out")
    return group_dialogs(path, rows)


def read_manifest(path: Path) -> list[dict]:
    """
    Rows of a table: dicts of `id`, `name` (the recording as it is written, else table and row), `audio` (an absolute path,
    an address, or what the table holds), `text`, `start` and `end` (seconds), `dialog`, `order` and `history`; None where a
    row has none.

    Raises:
        OSError, ValueError: it cannot be read, or holds neither recordings nor texts; the message names file and row.
    """
    path = Path(path)
    table = read_table(path)
    try:
        columns = choose_columns(table.columns, USES)
    except ValueError as error:
        raise ValueError(f"{path} has {error}") from error
    if columns.names["audio"] is None and columns.names["text"] is None:
        raise ValueError(f"{path} has no column audio, path or text, but {', '.join(table.columns)}")
    for remark in (*table.remarks, *(f"{path.name}: {remark}" for remark in columns.describe())):
        logger.warning(remark)
    rows = []
    for number, (place, row) in enumerate(table.rows(), start=1):
        try:
            rows.append(_read_row(columns.values(row), path, f"{path}:{number}"))
        except ValueError as error:
            raise ValueError(f"{path}, row {number}: {error} ({place})") from error
    return rows


def _read_row(cells: dict, table: Path, name: str) -> dict:
    """Cells by use -> a row of `read_manifest`."""
    audio, written = cells["audio"], None
    if isinstance(audio, bytes):
        pass
    elif isinstance(audio, dict):  # as `datasets` keeps recordings
        written = audio.get("path")
        if audio.get("bytes") is None and audio.get("array") is None:
            audio = written
    else:
        audio = written = as_text(audio)
    if isinstance(audio, str):
        audio = locate(audio, table.parent)
    start, end = (as_seconds(cells[use], use) if audio is not None else None for use in ("start", "end"))
    duration = as_seconds(cells["duration"], "duration") if start is not None else None
    if start is not None and end is None and duration is not None:
        end = start + duration
    dialog, history = as_text(cells["dialog"]), as_history(cells["history"]) or None
    if dialog is not None and history is not None:
        raise ValueError("both dialog and history are given: give one of them")
    return {
        "id": as_text(cells["id"]),
        "name": printable(written or name),
        "audio": audio,
        "text": None if is_missing(cells["text"]) else cells["text"],
        "start": start,
        "end": end,
        "dialog": dialog,
        "order": None if dialog is None else as_order(cells["order"]),
        "history": history,
    }


def group_dialogs(path: Path, rows: list[dict]) -> list[list[Utterance]]:
    """Rows of `read_manifest` -> dialogs, in the order of their first rows, each in the order of its turns."""
    timed = Counter(row["audio"] for row in rows if isinstance(row["audio"], str) and _has_times(row))
    dialogs: dict[tuple, list[tuple]] = {}
    for number, row in enumerate(rows, start=1):
        shared = isinstance(row["audio"], str) and timed[row["audio"]] > 1 and _has_times(row)
        name = row["id"]
        if name is None:
            name = name_part(row["name"], row["start"], row["end"]) if shared else row["name"]
        given = (row[use] for use in ("audio", "text", "history", "start", "end"))
        turn = Utterance(printable(name), *given, shared=shared)
        key = ("row", number) if row["dialog"] is None else ("dialog", row["dialog"])
        dialogs.setdefault(key, []).append((number, row["order"], turn))
    return [_in_order(path, turns) for turns in dialogs.values()]


def _has_times(row: dict) -> bool:
    return row["start"] is not None and row["end"] is not None


def _in_order(path: Path, turns: list[tuple]) -> list[Utterance]:
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
