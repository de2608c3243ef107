"""Reads a table file row by row: .csv, .tsv, .json, .jsonl (.ndjson), .parquet, and .tar as of WebDataset.

    table = read_table("utterances.csv")
    table.columns                    # names, in the order of the file
    for place, row in table.rows(): ...  # "line 2", {"audio": "a.wav", "text": "hello"}
    table.remarks                    # what was noticed, such as "utterances.csv: read as cp1252"

Rules of text files (.csv and .tsv):
- The first line names the columns. Cells are separated by a comma, semicolon, tab or |: the one that cuts the first line
  into the most known names, then into the most names. A first line `sep=;`, as Excel writes it, is obeyed.
- A cell with the separator, a quote or a line break in it stands in double quotes; a quote in it is doubled. In a table
  with tabs whose quotes are not paired so, quotes are ordinary characters (Common Voice).
- Every cell is text as it is written: None, NA, 01 and 1.0 stay. Nothing is guessed.
- A row with more or fewer cells than the first line is an error that names its line. Empty cells at its end do not count,
  and rows without any cell are left out.
- UTF-8 and UTF-16, with or without a byte order mark; a file that is neither is read as cp1252 (Windows, Western Europe),
  which is said, unless that makes no sense.

Rules of JSON: .jsonl has an object a line. .json has that, or a list of objects, or an object of columns (as pandas writes
it), or an object with a row under every id or path (SpeechBrain), or an object in which one field is the list of objects.
Values keep their types. Parquet keeps its types, and the names of a ClassLabel.

Rules of .tar: files that follow one another and are called alike up to the first dot after their folders are a row. The
fields of its .json are columns. A recording is the column audio, a .txt the column text, a .cls the column label, and the
name is the column id, where the .json has none of these. Other files are left out, which is said.
"""

import csv
import io
import json
import os
import re
import tarfile
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, chain, groupby
from pathlib import Path
from typing import IO, Any

import datasets
import pyarrow.parquet

from .columns import ALIASES, plain_name
from .in_place import address_in_parquet, address_in_tar, open_parquet, open_shard
from .recordings import AUDIO_SUFFIXES

TABLE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".tar")
ARCHIVE_SUFFIXES = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
SEPARATORS = ",;\t|"
KNOWN_NAMES = {alias for aliases in ALIASES.values() for alias in aliases}
EXAMPLES = 3  # lines named in an error
# Share of letters outside of ASCII above which cp1252 is no sensible reading: Cyrillic or Chinese of another encoding.
MOST_ACCENTS = 0.3
# Bytes of cp1252 that stand in hardly any text, but in all of Shift JIS: not the euro, quotes, dashes, dots, OE.
RARE = set(range(0x80, 0xA0)) - {0x80, 0x85, 0x8C, *range(0x91, 0x98), 0x99, 0x9C}
FOREIGN = re.compile(b"[%s]{4,}" % re.escape(bytes([*RARE, *range(0xA1, 0x100)])))  # nothing Western has four in a row
UNQUOTED: dict[str, Any] = {"quoting": csv.QUOTE_NONE, "quotechar": None}
PARQUET_ROWS = 64  # read at once: each may hold a recording
_WEB_FIELDS = {".txt": "text", ".cls": "label"}
csv.field_size_limit(2**31 - 1)  # a cell may hold samples


@dataclass
class Table:
    """
    A table file.

    Attributes:
        path: the file.
        columns: names of the columns.
        rows: yields (place, row): a name for the row's place such as "line 3", and its cells by column.
        features: what `datasets` says of the columns, such as the names of classes; None where nothing is said.
        remarks: sentences on what was noticed.
        address: gives, for a row (counted from 0), what gives the address of its cell in a column (`corpora/in_place.py`);
            None where the file cannot be read at any row.
    """

    path: Path
    columns: list[str]
    rows: Callable[[], Iterator[tuple[str, dict]]]
    features: datasets.Features | None = None
    remarks: list[str] = field(default_factory=list)
    address: Callable[[int], Callable[[str], str]] | None = None


def is_table(path: Path) -> bool:
    return Path(path).suffix.lower() in TABLE_SUFFIXES


def read_table(path: str | Path, skipped: list[str] | None = None) -> Table:
    """
    Open a table. The whole file is checked before the first row is given.

    Args:
        path: the file; of .parquet and .tar also an address, such as hf://datasets/owner/name/train.parquet.
        skipped: where it is given, lines of JSON that are no rows are left out, and it gets a sentence for each.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no table that can be read; the message names the file, and the line where there is one.
    """
    where = os.fspath(path) if "://" in os.fspath(path) else os.path.abspath(path)
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        what_to_do = "unpack it first" if suffix in ARCHIVE_SUFFIXES else "save the table as .csv in UTF-8"
        raise ValueError(f"{path} is no file of {', '.join(TABLE_SUFFIXES)}; {what_to_do}")
    try:
        if suffix == ".parquet":
            return _read_parquet(path, where)
        if suffix == ".tar":
            return _read_tar(path, where)
        with open(path, "rb") as file:
            data = file.read()
        text, remarks = decode_text(data)
        del data
        table = _read_separated(path, text) if suffix in (".csv", ".tsv") else _read_json(path, text, skipped)
    except ValueError as error:
        between = ", " if str(error).startswith("after ") else ": "
        raise ValueError(f"{path}{between}{error}") from error
    table.remarks = [f"{path.name}: {remark}" for remark in remarks + table.remarks]
    return table


def decode_text(data: bytes) -> tuple[str, list[str]]:
    """
    The text of a file, and what there is to say about its encoding.

    Raises:
        ValueError: it is no text, or of an encoding that is not known.
    """
    if data.startswith(b"PK\x03\x04") or data.startswith(b"\xd0\xcf\x11\xe0"):
        raise ValueError("this is no text but an archive or a workbook (Excel?): save it as .csv in UTF-8")
    for mark, encoding in ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding), []
    if data.startswith(b"\xfe\xff"):
        return data.decode("utf-16"), []
    if b"\0" in data:
        encoding = "utf-16-le" if data[1::2].count(0) > data[::2].count(0) else "utf-16-be"
        if max(data[1::2].count(0), data[::2].count(0)) < len(data) / 8 or len(data) % 2:
            raise ValueError("it holds zero bytes: this is no text")
        return data.decode(encoding), [f"read as {encoding.upper()}"]
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        not_utf8 = error
    letters = sum(byte < 128 and chr(byte).isalpha() for byte in data)
    accents = sum(byte >= 0xC0 or byte in RARE for byte in data)
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        text = None
    is_foreign = any(len(set(run)) > 2 for run in FOREIGN.findall(data))  # jäääär is Estonian
    if text is None or is_foreign or accents > MOST_ACCENTS * (letters + accents):
        raise ValueError(f"it is neither UTF-8 nor UTF-16 nor cp1252 ({not_utf8}): save it as UTF-8")
    return text, ["not UTF-8, read as cp1252 (Windows)"]


# ---------------------------------------------------------------------------------------------------------- .csv, .tsv


def _read_separated(path: Path, text: str) -> Table:
    body, separator = text, None
    if match := re.match(r'"?sep=(.)"?\r?\n', text):
        body, separator = text[match.end() :], match[1]
    body = body.lstrip("\r\n")
    skipped_lines = len(text[: len(text) - len(body)].splitlines())
    if not body.strip():
        raise ValueError("it has no rows, the file is empty")
    separator = separator or find_separator(body, "\t" if path.suffix.lower() == ".tsv" else ",")
    settings = {"delimiter": separator, "strict": True}
    header = next(csv.reader(io.StringIO(body, newline=""), delimiter=separator))
    # `id, text`: blanks after a comma belong to no cell, and a quote may follow them.
    settings["skipinitialspace"] = separator != "\t" and len(header) > 1 and all(name[:1] == " " for name in header[1:])

    def records(**changed) -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(io.StringIO(body, newline=""), **{**settings, **changed})
        line, count = 1 + skipped_lines, 0
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise ValueError(
                    f"after {max(count - 1, 0)} rows: {error}, in the row from line {line}. Is a quote not closed, "
                    "or not doubled?"
                ) from error
            if cells is None:
                return
            yield line, cells
            line, count = 1 + skipped_lines + reader.line_num, count + 1

    remarks: list[str] = []
    if separator == "\t" and _is_unquoted(records):
        settings.update(UNQUOTED)
        remarks.append("quotes are not paired, and were read as characters of the text")
    columns, count, blank = _check_records(records(), separator)
    if not count:
        raise ValueError("it has no rows, only the names of its columns")
    if blank:
        remarks.append(f"{blank} blank rows left out")
    names = [name if name else f"(column {place} without a name)" for place, name in enumerate(columns, start=1)]

    def rows() -> Iterator[tuple[str, dict]]:
        lines = records()
        next(lines)
        for line, cells in lines:
            if any(map(str.strip, cells)):
                yield f"line {line}", dict(zip(names, cells, strict=False))

    return Table(path, names, rows, remarks=remarks)


def _is_unquoted(records: Callable[..., Iterator[tuple[int, list[str]]]]) -> bool:
    """
    Whether quotes in a table with tabs are ordinary characters: every line is a row without them, and with them some are
    not, or cells swallow tabs and the ends of lines.
    """
    try:
        _check_records(records(), "\t")
        if not any("\n" in cell and "\t" in cell for _, cells in records() for cell in cells):
            return False
    except ValueError:
        pass
    try:
        _check_records(records(**UNQUOTED), "\t")
    except ValueError:
        return False
    return True


def find_separator(text: str, usual: str) -> str:
    """The separator that cuts the first line into the most names of columns that are known, then into the most names."""

    def score(separator: str) -> tuple[int, int, bool]:
        cells = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True))
        return len({plain_name(cell) for cell in cells} & KNOWN_NAMES), len(cells), separator == usual

    return max(SEPARATORS, key=score)


def _check_records(records: Iterator[tuple[int, list[str]]], separator: str) -> tuple[list[str], int, int]:
    """Names of the columns, and the numbers of rows and of blank rows, of a table in which every row fits the header."""
    _, header = next(records)
    columns = [name.strip().strip("\ufeff") for name in header]
    while columns and not columns[-1]:  # separators at the end of the line
        columns.pop()
    if not columns:
        raise ValueError("its first line names no column")
    twice = [name for name, times in Counter(columns).items() if name and times > 1]
    if twice:
        raise ValueError(f"the column {twice[0]!r} is there twice: rename or remove one")
    wrong, count, blank, fine = [], 0, 0, 0
    for line, cells in records:
        if not any(map(str.strip, cells)):
            blank += bool(cells)
            continue
        count += 1
        if len(cells) < len(columns) or any(map(str.strip, cells[len(columns) :])):
            wrong.append(f"line {line} has {len(cells)}")
        fine += not wrong
    if wrong:
        raise ValueError(
            f"after {fine} rows: not as many fields as the header has ({len(columns)}: {', '.join(columns)!s:.100}): "
            f"{', '.join(wrong[:EXAMPLES])}"
            f"{f' ... ({len(wrong)} such rows)' if len(wrong) > EXAMPLES else ''}. A text that holds "
            f"{_NAMES.get(separator, separator)} must stand in double quotes"
        )
    return columns, count, blank


_NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a |"}


# ---------------------------------------------------------------------------------------------------------------- JSON


def _no_twins(pairs: list[tuple[str, object]]) -> dict:
    row = dict(pairs)
    if len(row) < len(pairs):
        name = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"the field {name!r} is there twice: rename or remove one")
    return row


def _read_json(path: Path, text: str, skipped: list[str] | None) -> Table:
    if not text.strip():
        raise ValueError("it has no rows, the file is empty")
    whole = None
    if path.suffix.lower() == ".json" or text.lstrip().startswith("["):
        try:
            whole = json.loads(text, object_pairs_hook=_no_twins)
        except json.JSONDecodeError as error:
            if "Extra data" not in error.msg:  # else JSON lines
                raise
    if whole is None or (isinstance(whole, dict) and "\n" not in text.strip() and _is_row(whole)):
        rows = _json_lines(text) if skipped is None else _good_lines(path, text, skipped)
    else:
        rows = _rows_of_json(whole)
        del whole

    def give() -> Iterator[tuple[str, dict]]:
        yield from rows() if callable(rows) else ((f"row {number}", row) for number, row in enumerate(rows, start=1))

    columns: dict[str, None] = {}
    for place, row in give():
        if not isinstance(row, dict):
            raise ValueError(f"{place}: every line must be a JSON object, got {row!r:.80}")
        columns.update(dict.fromkeys(row))
    return Table(path, list(columns), give)


def _is_row(value: dict) -> bool:
    return not any(isinstance(cell, (list, dict)) for cell in value.values())


def _json_lines(text: str) -> Callable[[], Iterator[tuple[str, dict]]]:
    def rows() -> Iterator[tuple[str, dict]]:
        # Not str.splitlines, which also cuts at separators that a text may hold (U+0085, U+2028).
        count = 0
        for number, line in enumerate(io.StringIO(text, newline="\n"), start=1):
            if not line.strip():
                continue
            try:
                yield f"line {number}", json.loads(line, object_pairs_hook=_no_twins)
            except ValueError as error:
                raise ValueError(f"after {count} rows: {error}, in line {number}") from error
            count += 1

    return rows


def _good_lines(path: Path, text: str, skipped: list[str]) -> Callable[[], Iterator[tuple[str, dict]]]:
    """The rows of a file of JSON lines, without the lines that are none; `skipped` gets a sentence for each of those."""
    rows, told = [], set(skipped)  # a table may be read twice
    for number, line in enumerate(io.StringIO(text, newline="\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_no_twins)
            if not isinstance(row, dict):
                raise ValueError(f"every line must be a JSON object, got {row!r:.80}")
            rows.append((f"line {number}", row))
        except ValueError as error:
            sentence = f"{path}, line {number}: {error}"
            skipped += [sentence] if sentence not in told else []
    if not rows:
        raise ValueError(f"no line of it is a JSON object: {skipped[0]}")
    return lambda: iter(rows)


def _knows_names(row: dict) -> bool:
    return any(plain_name(name) in KNOWN_NAMES for name in row)


def _rows_of_json(whole) -> list:
    """The rows of a document that is no JSON lines."""
    if isinstance(whole, dict):
        columns = list(whole.values())
        if columns and all(isinstance(row, dict) and _knows_names(row) for row in columns) and not _knows_names(whole):
            named = any(plain_name(name) in ALIASES["audio"] for row in columns for name in row)
            are_paths = not named and all(Path(name).suffix.lower() in AUDIO_SUFFIXES for name in whole)
            key = "audio" if are_paths else "id"
            return [{key: name, **row} for name, row in whole.items()]
        if columns and all(isinstance(column, dict) for column in columns) and len({tuple(c) for c in columns}) == 1:
            whole = {name: list(column.values()) for name, column in whole.items()}
            columns = list(whole.values())
        lists = {name: column for name, column in whole.items() if isinstance(column, list)}
        tables = [column for column in lists.values() if column and all(isinstance(row, dict) for row in column)]
        if len(lists) == len(whole) and len({len(column) for column in columns}) == 1 and not (len(whole) == 1 and tables):
            return [dict(zip(whole, row, strict=True)) for row in zip(*columns, strict=True)]
        if len(tables) == 1:
            return tables[0]
        raise ValueError(f"expected a list of objects, got an object with {', '.join(map(str, whole))}"[:300])
    if not isinstance(whole, list):
        raise ValueError(f"expected a list of objects, got {whole!r:.80}")
    if not whole:
        raise ValueError("it has no rows")
    return whole


# ------------------------------------------------------------------------------------------------------------- parquet


def _read_parquet(path: Path, where: str) -> Table:
    try:
        file = open_parquet(where, ahead=True)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileNotFoundError(f"no table {path}") from error
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"this is no parquet file: {error}") from error
    if not file.metadata.num_rows:
        raise ValueError("it has no rows")
    schema = file.schema_arrow
    features = datasets.Features.from_arrow_schema(schema) if b"huggingface" in (schema.metadata or {}) else None

    def rows() -> Iterator[tuple[str, dict]]:
        batches = open_parquet(where, ahead=True).iter_batches(batch_size=PARQUET_ROWS)
        for number, row in enumerate(chain.from_iterable(batch.to_pylist() for batch in batches), start=1):
            yield f"row {number}", row

    metadata = file.metadata
    sizes = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    starts = [0, *accumulate(sizes)][:-1]

    def address(row: int) -> Callable[[str], str]:
        group = bisect_right(starts, row) - 1
        return partial(address_in_parquet, where, group, row - starts[group])

    return Table(path, schema.names, rows, features, address=address)


# ---------------------------------------------------------------------------------------------------------------- .tar


def _read_tar(path: Path, where: str) -> Table:
    """Rows of an archive of WebDataset. Recordings are read when they are asked for."""
    columns: dict[str, None] = {}
    places = array("q")  # offset and size of every row's recording
    other: Counter = Counter()
    try:
        with open_shard(where, ahead=True) as file:
            for fields, recording in _samples(file, other):
                columns.update(dict.fromkeys([*fields, *(["audio"] if recording else [])]))
                places.extend((recording.offset_data, recording.size) if recording else (0, 0))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileNotFoundError(f"no table {path}") from error
    except tarfile.TarError as error:
        raise ValueError(f"this is no tar archive: {error}") from error
    if not places:
        raise ValueError("it has no rows")

    def rows() -> Iterator[tuple[str, dict]]:
        with open_shard(where, ahead=True) as file:
            for number, (fields, recording) in enumerate(_samples(file, Counter()), start=1):
                if recording is not None:
                    file.seek(recording.offset_data)
                    fields["audio"] = {"path": recording.name, "bytes": file.read(recording.size)}
                yield f"row {number}", fields

    def address(row: int) -> Callable[[str], str]:
        return partial(address_in_tar, where, *places[2 * row : 2 * row + 2])

    left = ", ".join(f"{kind} ({count})" for kind, count in other.items())
    remarks = [f"{path.name}: files that are no recordings, .json, .txt or .cls were left out: {left}"] if other else []
    return Table(path, list(columns), rows, remarks=remarks, address=address)


def _samples(file: IO[bytes], other: Counter) -> Iterator[tuple[dict, tarfile.TarInfo | None]]:
    """The fields and the recording of every row of an archive. `other` gets the endings of files that are left out."""
    archive: Any
    with tarfile.open(fileobj=file, mode="r:") as archive:
        members = (member for member in archive if member.isfile())
        for name, files in groupby(members, key=lambda member: re.sub(r"(^|/)([^/.]*)[^/]*$", r"\1\2", member.name)):
            yield _read_sample(archive, name, list(files), other)
            archive.members = []  # tarfile would keep all headers


def _read_sample(
    archive: tarfile.TarFile, name: str, files: list[tarfile.TarInfo], other: Counter
) -> tuple[dict, tarfile.TarInfo | None]:
    """
    The fields of a row of WebDataset, and its recording.

    Args:
        name: what its files are called without their endings.
        other: gets the endings of files that are left out.

    Raises:
        ValueError: it has two recordings, or its .json is no object.
    """
    fields: dict[str, Any] = {}
    recording = None
    for member in files:
        ending = Path(member.name).suffix.lower()
        if ending in AUDIO_SUFFIXES:
            if recording is not None:
                raise ValueError(f"{name} has two recordings, {recording.name} and {member.name}: a row has one")
            recording = member
        elif ending in (".json", ".txt", ".cls"):
            content = archive.extractfile(member)
            assert content is not None  # it is a file
            try:
                text = content.read().decode("utf-8-sig")
                given = json.loads(text, object_pairs_hook=_no_twins) if ending == ".json" else {_WEB_FIELDS[ending]: text}
            except ValueError as error:
                raise ValueError(f"{member.name}: {error}") from error
            if not isinstance(given, dict):
                raise ValueError(f"{member.name}: expected a JSON object, got {given!r:.80}")
            fields = {**fields, **given} if ending == ".json" else {**given, **fields}
        else:
            other[ending] += 1
    fields.setdefault("id", name)
    return fields, recording
