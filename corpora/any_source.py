"""Reads a source row by row into shards of prepared rows: every recording decoded once, a killed read goes on.

    rows, facts = prepare_rows("folder/of/recordings", {"audio": None, "text": None, "label": None, ...})

`corpora/any_dataset.py` makes the corpus of them. What a source is: `corpora/sources.py`; which of its columns are used and
what their cells say: `corpora/columns.py`; where recordings lie and which part of one is heard: `corpora/recordings.py`.
"""

import hashlib
import io
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import soundfile
from datasets.arrow_writer import ArrowWriter
from datasets.config import HF_DATASETS_CACHE
from datasets.table import MemoryMappedTable, concat_tables
from filelock import FileLock
from tqdm.auto import tqdm

from ..audio_files_lemer import to_float
from ..audio_lemer import SAMPLING_RATE, fetch, load_and_check_audio
from ..runtime.files import write_atomically
from .columns import (
    ATTRIBUTES,
    Columns,
    as_history,
    as_label,
    as_order,
    as_text,
    as_votes,
    as_words,
    choose_columns,
    read_times,
)
from .in_place import AudioInPlace
from .recordings import SILENCE, as_recording, choose_part, cut_part, file_stamp, load_kept, missing_hint, printable
from .sources import DatasetSplit, Source, SourceRow, TableSplit, open_source

# Columns of prepared rows in which many rows have the same texts.
SHARED = ("split", "group", "label", "fold", "dialog", "order", "speaker", "votes", "part", "problem", *ATTRIBUTES)
SCHEMA_VERSION = "4"  # in the cache's key: raise it with every change of what a prepared row holds
SHARD = 1000  # rows written, and lost by a kill, at once
PROCESSES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1  # that decode recordings
CHUNK = 16  # rows that a process gets at once
ROWS_AT_ONCE = 10_000  # of a column that are looked at
# Found by the names of columns.
USES = ("audio", "text", "label", "id", "speaker", "start", "end", "duration", "history", "votes", *ATTRIBUTES)
PART_CUT, PART_WHOLE = "cut", "whole"  # a part of a recording; a whole one, whose times lie in something longer

PREPARED = datasets.Features(
    {
        **dict.fromkeys(
            ("id", "name", "split", "group", "text", "label", "fold", "dialog", "order"), datasets.Value("string")
        ),
        **dict.fromkeys(("speaker", "votes", *ATTRIBUTES), datasets.Value("string")),  # votes as JSON
        **dict.fromkeys(("start", "end"), datasets.Value("float64")),
        "history": datasets.List(datasets.Value("string")),
        "audio": datasets.Audio(sampling_rate=SAMPLING_RATE, decode=False),
        "num_frames": datasets.Value("int64"),
        **dict.fromkeys(("digest", "path", "stamp", "part", "problem"), datasets.Value("string")),
        "silent": datasets.Value("bool"),
    }
)


def prepare_rows(
    source,
    wanted: dict[str, str | None],
    *,
    subset: str | None = None,
    splits: Sequence[str] | None = None,
    streaming: bool = False,
    cache_dir: str | os.PathLike | None = None,
    progress: bool = True,
) -> tuple[datasets.Dataset, dict]:
    """
    The prepared rows (columns of `PREPARED`), from the cache or written there, in the order of the source.

    Args:
        source, subset, splits, streaming, cache_dir: as in `load_any_dataset`; or a source that is open already.
        wanted: column of each use: audio, text, label, fold, dialog, order; None for the usual one or none.

    Returns:
        The rows, and what is known of all of them: whether there are columns for `audio`, `text` and `history`, the
        `label_names` of a ClassLabel or None, and `remarks` on what was read and what was not.

    Raises:
        FileNotFoundError, ValueError: as `load_any_dataset`.
    """
    opened = source if isinstance(source, Source) else open_source(source, wanted, subset, splits, streaming)
    key = json.dumps([SCHEMA_VERSION, opened.content, list(opened.splits), wanted, *(["in place"] if streaming else [])])
    folder = Path(cache_dir or HF_DATASETS_CACHE).expanduser() / "lemer_corpora"
    folder /= hashlib.sha256(key.encode()).hexdigest()[:32]
    done = folder / "corpus.json"
    folder.parent.mkdir(parents=True, exist_ok=True)
    for _ in (1, 2):
        with FileLock(f"{folder}.lock"):  # several trainings may begin at once
            if not done.exists():
                _ShardWriter(opened.name, wanted, folder, streaming).write(opened.splits, progress)
        facts = json.loads(done.read_text())
        files = [str(folder / f"{shard:05d}.arrow") for shard in range(facts["shards"])]
        if not files:
            raise ValueError(f"{opened.name} has no rows in {', '.join(opened.splits)}")
        table = concat_tables([MemoryMappedTable.from_file(file) for file in files])
        # With a fingerprint, since `datasets` would compute one of all files.
        features = datasets.Features({**PREPARED, "audio": AudioInPlace()}) if streaming else PREPARED
        prepared = datasets.Dataset(table, info=datasets.DatasetInfo(features=features), fingerprint=folder.name)
        if _is_current(prepared, moved=facts["current_folder"] != os.getcwd()):
            break
        done.unlink()
    recordings = {os.path.abspath(path) for path in opened.recordings if printable(path) == path}
    unnamed = sorted(recordings - set(prepared["path"][:] if recordings else ()))
    facts["remarks"] = opened.remarks + facts["remarks"]
    if unnamed:
        examples = ", ".join(printable(os.path.basename(path)) for path in unnamed[:3])
        facts["remarks"].append(f"{len(unnamed)} recordings in the folder have no row, such as {examples}")
    return prepared, facts


def _is_current(prepared: datasets.Dataset, moved: bool) -> bool:
    """
    Whether the recordings are those that were read: they may lie outside of what the key of the cache is made of. Those that
    were not there are looked for again where the current folder has `moved`.
    """
    columns = prepared.select_columns(["path", "stamp"])
    stamps: dict[str, str] = {}  # of the recordings of a part of the rows: often several rows have one in common
    part: Any
    for part in columns.iter(ROWS_AT_ONCE):
        stamps.clear()
        for path, stamp in zip(part["path"], part["stamp"], strict=True):
            if path is not None and path not in stamps:
                stamps[path] = file_stamp(path)
            if path is not None and (stamp != stamps[path] or (moved and stamp == "")):
                return False
    return True


def as_lists(prepared: datasets.Dataset) -> dict[str, list]:
    """Columns as lists. Names that many rows have in common are one object, since there may be millions of rows."""
    table: Any = prepared.with_format("arrow")[:]
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        names: dict = {}
        shared = (lambda value: names.setdefault(value, value)) if name in SHARED else None  # noqa: B023  used here alone
        columns[name] = [
            value for chunk in column.chunks for value in (map(shared, chunk.to_pylist()) if shared else chunk.to_pylist())
        ]
    return columns


class _ShardWriter:
    """Writes the prepared rows of a corpus into shards; state.json tells how far it is, corpus.json that all is there."""

    def __init__(self, name: str, wanted: dict, folder: Path, in_place: bool):
        self.name, self.wanted, self.folder, self.in_place = name, wanted, folder, in_place
        self.state_file = folder / "state.json"
        self.pool: ProcessPoolExecutor | None = None
        self.stack = ExitStack()  # which ends the processes when all is written
        # Of the split being read: its rows so far, and the reader's position after them.
        self.state = {"split": 0, "shards": 0, "rows": 0, "split_rows": 0, "position": None, "facts": None, "remarks": []}

    def write(self, splits: dict[str, TableSplit | DatasetSplit], progress: bool) -> None:
        """Read all splits to their ends, from where a killed run was."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.state_file.exists():
            self.state = json.loads(self.state_file.read_text())
        settings = {"unit": "row", "initial": self.state["rows"], "disable": not progress}
        with self.stack, tqdm(desc=f"reading {self.name}", **settings) as bar:
            for number, split in enumerate(splits.values()):
                if number >= self.state["split"]:
                    self._write_split(number, split, bar)
        facts = {**self.state["facts"], "current_folder": os.getcwd()}
        facts.update(remarks=self.state["remarks"], shards=self.state["shards"])
        write_atomically(self.folder / "corpus.json", json.dumps(facts))
        self.state_file.unlink()

    def _write_split(self, number: int, split: TableSplit | DatasetSplit, bar: tqdm) -> None:
        state = self.state
        columns = resolve_columns(split, self.wanted, self.name)
        label_names = split.class_names.get(columns.names["label"] or "")
        facts = {use: columns.names[use] is not None for use in ("audio", "text", "history")} | {"label_names": label_names}
        if state["facts"] not in (None, facts):
            raise ValueError(
                f"split {split.name} of {self.name} has other columns or classes than those before: read it alone"
            )
        used = [column for column in columns.names.values() if column is not None]
        reader = split.rows(list(dict.fromkeys(used)), state["position"])
        while number == state["split"]:
            written = self._write_shard(islice(reader, SHARD), split.name, columns, label_names, bar)
            state.update(facts=facts, shards=state["shards"] + bool(written), rows=state["rows"] + written)
            if written == SHARD:
                state.update(split_rows=state["split_rows"] + written, position=split.position())
            else:
                remarks = list(dict.fromkeys([*state["remarks"], *split.remarks, *columns.describe()]))
                state.update(split=number + 1, split_rows=0, position=None, remarks=remarks)
            write_atomically(self.state_file, json.dumps(state))

    def _write_shard(self, rows: Iterator[SourceRow], split: str, columns: Columns, label_names, bar: tqdm) -> int:
        """Write rows as the next shard, if there are any; returns their number."""
        shard = self.folder / f"{self.state['shards']:05d}.arrow"
        temporary = shard.with_suffix(".tmp")
        written = 0
        with ArrowWriter(features=PREPARED, path=str(temporary)) as writer:
            prepare = partial(_prepare_or_error, columns=columns, label_names=label_names, in_place=self.in_place)
            for written, (prepared, wrong) in enumerate(self._map(prepare, rows), start=1):
                if wrong is not None:
                    at = f"{split}-{self.state['split_rows'] + written - 1:06d}"
                    raise ValueError(f"row {at} {wrong}")
                writer.write({"split": split, **prepared})
                bar.update()
            if written:
                writer.finalize()
        if written:
            os.replace(temporary, shard)
        temporary.unlink(missing_ok=True)
        return written

    def _map(self, prepare: Callable, rows: Iterator[SourceRow]) -> Iterator:
        """The built-in `map`; from the second shard on, when the corpus is known to be large, in several processes."""
        if self.state["shards"] == 0 or PROCESSES == 1:
            yield from map(prepare, rows)
            return
        if self.pool is None:
            # Forked, since a new process would load all libraries. The rows need no thread that a fork would lose.
            # Ctrl-C is for the process that reads, which then ends the others.
            ignore_interrupts = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
            self.pool = ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("fork"), ignore_interrupts)
            self.stack.callback(self.pool.shutdown, cancel_futures=True)
        try:
            yield from self.pool.map(prepare, rows, chunksize=CHUNK)
        except BrokenProcessPool as error:
            raise OSError(
                "a process that decodes recordings was killed, most likely since the memory is full: the same command "
                "goes on from the last shard"
            ) from error


def _prepare_or_error(
    row: SourceRow, columns: Columns, label_names: list[str] | None, in_place: bool
) -> tuple[dict, str | None]:
    """`prepare_row` with the row's group, or the place of the row and what is wrong with it."""
    try:
        prepared = prepare_row(row, columns, label_names)
        if in_place:
            _leave_in_place(prepared, row, columns.names["audio"])
        return {"group": row.group, **prepared}, None
    except ValueError as error:
        return {}, f"({row.place}): {error}"


def _leave_in_place(prepared: dict, row: SourceRow, column: str | None) -> None:
    """Put the address of a recording into the place of its content, where it is the whole content of a cell of a shard."""
    if column is None or row.address is None or prepared["part"] == PART_CUT:
        return
    cell = row.cells[column]
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if isinstance(content, (bytes, bytearray)) and prepared["audio"]["bytes"] is not None:
        prepared["audio"] = {"path": row.address(column), "bytes": None}


def resolve_columns(split: TableSplit | DatasetSplit, wanted: dict[str, str | None], name: str) -> Columns:
    """The columns of a split: those that were asked for, and the usual ones of the other uses."""
    wanted, there = dict(wanted), split.columns
    if wanted["audio"] is None and len(split.audio_columns) == 1:
        wanted["audio"] = split.audio_columns[0]  # whatever other columns are called
    given: dict[str, str | None] = {use: column for use, column in wanted.items() if column is not None}
    try:
        columns = choose_columns(there, USES, given, options=True)
        if columns.names["label"] is None:
            raise ValueError(f"no label_column 'label': its columns are {', '.join(there) or 'none'}")
    except ValueError as error:
        raise ValueError(f"split {split.name} of {name} has {error}") from error
    if columns.names["audio"] is None and columns.names["text"] is None:
        raise ValueError(
            f"split {split.name} of {name} has neither audio_column nor text_column: none is given, and none is called so: "
            f"{', '.join(there)}"
        )
    columns.names.update({use: columns.names.get(use) for use in ("fold", "dialog", "order")})
    return columns.without("history") if columns.names["dialog"] is not None else columns  # the dialog gives it


def prepare_row(row: SourceRow, columns: Columns, label_names: list[str] | None) -> dict:
    """A row of the source -> one of `PREPARED`, without its split and group."""
    cells = columns.values(row.cells)
    start, end = read_times(columns, cells)
    has_audio = columns.names["audio"] is not None
    heard = _hear(cells["audio"], row.folder, start, end) if has_audio else {"audio": None, "num_frames": 0, "digest": ""}
    path = heard.get("path")
    votes = as_votes(cells["votes"], label_names)
    return {
        "id": as_text(cells["id"]),
        "name": None if path is None else printable(os.path.relpath(path, row.folder)),
        "text": as_words(cells["text"]),
        "label": as_label(cells["label"], label_names),
        "fold": as_text(cells["fold"]),
        "dialog": as_text(cells["dialog"]),
        "order": as_order(cells["order"]),
        "speaker": as_text(cells["speaker"]),
        "votes": None if votes is None else json.dumps(votes),
        **{name: as_text(cells[name]) for name in ATTRIBUTES},
        "start": start,
        "end": end,
        "history": as_history(cells["history"]),
        "stamp": None if path is None else file_stamp(path),
        **{
            "path": path,
            "part": None,
            "problem": None,
            "silent": False,
            **heard,
            "audio": heard["audio"] or {"path": None, "bytes": None},
        },
    }


def _hear(audio, folder: Path, start: float | None, end: float | None) -> dict:
    """
    Decode a recording once, and cut the part that its row means.

    Returns:
        `audio` as the schema keeps it, or None; `num_frames` and `digest` of its samples at 16 kHz; and where there is
        one: `path` of the file, the `part` that is heard, whether it is `silent`, and the `problem` that makes it useless.
    """
    audio = as_recording(audio, folder)
    if audio is None:
        return {"audio": None, "num_frames": 0, "digest": "", "problem": "audio_missing"}
    if isinstance(audio, dict) and audio.get("array") is not None:
        try:
            load_and_check_audio(audio)
        except ValueError as error:
            return {"audio": None, "num_frames": 0, "digest": "", "problem": f"audio_damaged: {printable(error)}"}
        samples = np.asarray(audio["array"])
        samples = samples.T if samples.ndim == 2 and samples.shape[0] < samples.shape[1] else samples
        audio = {"path": None, "bytes": _as_wav(to_float(samples), int(audio["sampling_rate"]))}
    if isinstance(audio, str):
        audio = {"path": audio, "bytes": _fetch(audio) if "://" in audio else None}  # on the Hub or in an archive
    path, content = audio["path"], audio["bytes"]
    path = None if content is not None else path
    stored = {"audio": {"path": path, "bytes": content}, "path": path, "num_frames": 0, "digest": ""}
    if path is not None and printable(path) != path:
        return {
            "audio": None,
            "num_frames": 0,
            "digest": "",
            "problem": f"audio_damaged: {printable(path)}: rename it in UTF-8",
        }
    try:
        if path is not None and not os.path.isfile(path):
            raise FileNotFoundError(f"no file {path}; {missing_hint(path, folder)}")
        timed = start is not None or end is not None
        if timed and path is not None:
            samples, problems = load_kept(path)
        else:
            samples, problems = load_and_check_audio({"path": path, "bytes": content})
    except (OSError, ValueError) as error:
        return {**stored, "audio": {"path": path, "bytes": None}, "problem": f"audio_damaged: {printable(error)}"}
    try:
        part = choose_part(len(samples) / SAMPLING_RATE, start, end, shared=False)
    except ValueError as error:
        return {**stored, "problem": f"part_damaged: {error}"}
    if part is not None and part != (0.0, len(samples) / SAMPLING_RATE):
        samples = cut_part(samples, part)
        stored["audio"] = {"path": None, "bytes": _as_wav(samples, SAMPLING_RATE)}
    stored["part"] = PART_CUT if part is not None else PART_WHOLE if timed else None
    stored["silent"] = bool(problems or np.ptp(samples) < SILENCE)
    return {**stored, "num_frames": len(samples), "digest": hashlib.sha256(samples.tobytes()).hexdigest()}


def _fetch(address: str) -> bytes:
    """A file from elsewhere. A failure ends the reading, since another time it may be there."""
    try:
        return fetch(address)
    except (OSError, ValueError) as error:
        raise OSError(f"{error}: try again, or give files that lie here") from error


def _as_wav(samples: np.ndarray, rate: int) -> bytes:
    """A WAV file with exactly these samples: of 16 bits where they hold them, else of floats."""
    scaled = samples * 32768
    whole = bool((scaled == np.rint(scaled)).all() and scaled.max(initial=0) < 32768 and scaled.min(initial=0) >= -32768)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16" if whole else "FLOAT")
    return file.getvalue()
