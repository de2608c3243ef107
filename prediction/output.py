"""Where the rows of `lemer predict` go: a file that is only appended to, lines or a table on the terminal.

A row is a dict of id, start, end, window, windows, text, modality, prediction, scores (label -> score), the columns that say
how it was made, `heard` where silence was left out, and `extra`, the other columns of the input table.
"""

import csv
import io
import json
import os
from pathlib import Path

from tqdm.auto import tqdm

from ..runtime.files import format_csv, from_cell


class Layout:
    """
    The columns of the output, and rows as the lines of a .csv or .jsonl.

    In a .csv, a text that a spreadsheet would take for a formula begins with an apostrophe, which it hides.

    Args:
        labels: the classes, in the order of the logits.
        made: columns that are the same in every row.
        extra: names of the other columns of the inputs. One that is called as a column here becomes input_NAME.
        heard: whether there is a column of the parts that were heard.
        is_csv: a .csv, or else lines of JSON.
    """

    def __init__(self, labels: list[str], made: dict[str, str], extra: list[str], heard: bool, is_csv: bool):
        self.made, self.is_csv = made, is_csv
        self.columns = ["id", "start", "end", "window", "windows", "text", "modality", "prediction"]
        if is_csv and set(labels) & {*self.columns, *made}:
            raise ValueError(f"classes {', '.join(labels)} are called like a column: write .jsonl")
        self.columns += [*labels, *made] if is_csv else ["scores", *made]
        self.columns += ["heard"] if heard else []
        self.extra = {name: f"input_{name}" if name in self.columns else name for name in extra}
        self.columns += self.extra.values()

    def format(self, rows: list[dict]) -> str:
        """Lines of some rows; of a .csv after the header."""
        flat = ({**row, **{self.extra[name]: cell for name, cell in row["extra"].items()}} for row in rows)
        if self.is_csv:
            cells = ({**row, **row["scores"], "heard": self._spans(row)} for row in flat)
            # All texts in quotes, since a carriage return alone would get none.
            table = ([row.get(name) for name in self.columns] for row in cells)
            return format_csv(self.columns, table, csv.QUOTE_NONNUMERIC)
        lines = (json.dumps({name: row.get(name) for name in self.columns}, ensure_ascii=False) for row in flat)
        return "".join(f"{line}\n" for line in lines)

    @staticmethod
    def _spans(row: dict) -> str | None:
        """The parts that were heard as one cell."""
        spans = row.get("heard")
        return None if spans is None else " ".join(f"{start:.2f}-{end:.2f}" for start, end in spans)


class Output:
    """A .csv or .jsonl file that is only ever appended to, by whole utterances."""

    def __init__(self, path: Path, layout: Layout):
        self.path, self.layout = path, layout
        self.made = layout.made  # what was made otherwise is not joined to the file
        self.columns = layout.columns
        path.parent.mkdir(parents=True, exist_ok=True)
        self.done = set()
        if path.exists():
            try:
                self.done = self._mend()
            except ValueError as error:
                raise ValueError(
                    f"{path} was not written by this command: {error}. Give another --output, or remove it"
                ) from error

    def _mend(self) -> set[str]:
        """Cut off what a killed run left in parts; ids of what stands there whole."""
        content = self.path.read_bytes()
        begin = self.layout.format([]).encode("utf-8") if self.layout.is_csv else b'{"id": '
        if content[: len(begin)] != begin[: len(content)]:
            raise ValueError(f"it begins with {content[:80]!r}, not with {begin!r}")
        lines = io.StringIO(content[: content.rfind(b"\n") + 1].decode("utf-8"), newline="").readlines()
        rows = self._whole_rows(lines)
        for _, row in rows:
            made = {name: row.get(name) for name in self.made}
            if list(row) != self.columns or made != self.made:
                sentence = "{checkpoint} in {dtype}, asr {asr}, window_seconds {window_seconds}"
                got, expected = sentence.format(**made), sentence.format(**self.made)
                raise ValueError(
                    f"a row has {', '.join(map(str, row))} of {got}, expected {', '.join(self.columns)} of {expected}"
                )
        if rows and int(rows[-1][1]["window"]) < int(rows[-1][1]["windows"]):
            last = rows[-1][1]["id"]
            rows = [row for row in rows if row[1]["id"] != last]
        end = rows[-1][0] if rows else 0
        os.truncate(self.path, len("".join(lines[:end]).encode("utf-8")))
        return {row["id"] for _, row in rows}

    def _whole_rows(self, lines: list[str]) -> list[tuple[int, dict]]:
        """Every row, and the number of lines to its end."""
        if not self.layout.is_csv:
            return [(number, json.loads(line)) for number, line in enumerate(lines, 1)]
        rows, reader = [], csv.DictReader(lines, strict=True)
        try:
            for row in reader:
                texts = {from_cell(name or ""): from_cell(text) if text else text for name, text in row.items()}
                rows.append((reader.line_num, texts))
        except csv.Error as error:
            if reader.reader.line_num < len(lines):  # else cut at a line feed in quotes
                raise ValueError(f"line {reader.reader.line_num}: {error}") from error
        return rows

    def append(self, rows: list[dict]):
        text = self.layout.format(rows)
        if self.path.exists() and self.path.stat().st_size > 0:
            text = text.removeprefix(self.layout.format([]))
        try:
            with open(self.path, "ab") as file:
                file.write(text.encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(
                f"{self.path} cannot be written: {error}. The rows of before are whole; free some space or change the "
                "permissions, and the same command goes on from there"
            ) from error


class Lines:
    """The same lines on standard output."""

    done = frozenset()

    def __init__(self, layout: Layout):
        self.layout, self.header = layout, ""

    def append(self, rows: list[dict]):
        text = self.layout.format(rows).removeprefix(self.header)
        self.header = self.layout.format([])
        if text:
            tqdm.write(text, end="")


class Table:
    """The same rows as a table on the terminal."""

    done = frozenset()

    def __init__(self, ids: list[str], labels: list[str]):
        self.labels = labels
        self.folder = len(os.path.commonprefix(ids).rpartition("/")[0]) + 1 if "/" in os.path.commonprefix(ids) else 0
        self.width = max(2, min(48, max(map(len, ids)) - self.folder))
        scores = "  ".join(f"{label:>5}" for label in labels)
        tqdm.write(f"{'id':{self.width}}  {'seconds':>13}  {'answer':>6}  {scores}  {'by':10}  text")

    def append(self, rows: list[dict]):
        lines = []
        for row in rows:
            name = row["id"][self.folder :]
            name = name if len(name) <= self.width else "..." + name[3 - self.width :]
            span = "" if row["start"] is None else f"{row['start']:.2f}-{row['end']:.2f}"
            written = {label: f"{score:.3f}" for label, score in row["scores"].items()}
            scores = "  ".join(f"{written.get(label, ''):>{max(5, len(label))}}" for label in self.labels)
            text = " ".join((row["text"] or "").split())
            line = f"{name:{self.width}}  {span:>13}  {row['prediction']:>6}  {scores}  {row['modality']:10}  {text}"
            lines.append(line.rstrip())
        if lines:
            tqdm.write("\n".join(lines))
