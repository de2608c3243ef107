"""What predict.py and the page are given: recordings, folders, and manifests (tables of recordings, words and dialogs)."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

# Of what counts as a recording in a folder; what cannot be decoded is then named, not overlooked.
AUDIO_SUFFIXES = set(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64 .m4a .aac .mp4 .wma .webm .amr".split())
MANIFEST_SUFFIXES = {".csv", ".jsonl"}


class Utterance(NamedTuple):
    """One input: its name in the output, its recording and its words, and its history where it is given, not found."""

    id: str
    audio: str | None = None
    text: str | None = None
    history: list[str] | None = None


def read_inputs(names: list[str], one_dialog: bool) -> list[list[Utterance]]:
    """Dialogs, each a list of turns, oldest first; an utterance that belongs to none is one of a single turn."""
    dialogs = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES and file.is_file())
            files = [file for file in files if not file.name.startswith(".")]
            if not files:
                raise ValueError(f"no recording in the folder {path} (looked for {' '.join(sorted(AUDIO_SUFFIXES))})")
            dialogs += [[Utterance(printable(file), str(file))] for file in files]
        elif path.suffix.lower() in MANIFEST_SUFFIXES:
            rows = read_manifest(path)
            if one_dialog and any(row.get("dialog") for row in rows):
                raise ValueError(f"{path} names its dialogs, and --dialog says that all inputs are one: leave --dialog out")
            dialogs += group_dialogs(path, rows)
        else:
            dialogs.append([Utterance(printable(path), name)])
    utterances = [turn for dialog in dialogs for turn in dialog]
    twice = [name for name, count in Counter(turn.id for turn in utterances).items() if count > 1]
    if twice:
        raise ValueError(f"{len(twice)} inputs have the id of another, such as {twice[0]!r}: every id must be there once")
    return [utterances] if one_dialog else dialogs


def printable(thing) -> str:
    """As text that can be written, also a path whose bytes are no text."""
    return str(thing).encode("utf-8", "backslashreplace").decode("utf-8")


def read_manifest(path: Path) -> list[dict]:
    """Rows of a .csv or .jsonl."""
    rows = []
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(file, strict=True)
                for row in reader:
                    if None in row or None in row.values():
                        raise ValueError("not as many fields as the header has; a text with commas must stand in quotes")
                    rows.append(row)
            else:
                for line in file:
                    rows += [json.loads(line)] if line.strip() else []
        except (csv.Error, ValueError) as error:
            raise ValueError(f"{path}, after {len(rows)} rows: {error}") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} has no rows" if not rows else f"{path}: every line must be a JSON object")
    known = {name for row in rows for name in row}
    if not known & {"audio", "path", "text"}:
        raise ValueError(f"{path} has no column audio, path or text, but {', '.join(sorted(known))}")
    return rows


def group_dialogs(path: Path, rows: list[dict]) -> list[list[Utterance]]:
    dialogs = {}
    for number, row in enumerate(rows, 1):
        audio = str(row.get("audio") or row.get("path") or "")
        name = printable(row.get("id") or audio or f"{path}:{number}")
        turn = Utterance(name, str(path.parent / audio) if audio else None, row.get("text"), row.get("history") or None)
        dialog, order = row.get("dialog") or None, row.get("order")
        if dialog is not None and turn.history is not None:
            raise ValueError(f"{path}, row {number} has both dialog and history: give one of them")
        try:
            order = number if dialog is None or order is None else float(order)
        except ValueError:
            raise ValueError(f"{path}, row {number}: order must be a number, got {order!r}") from None
        dialogs.setdefault(("row", number) if dialog is None else ("dialog", dialog), []).append((order, turn))
    return [[turn for _, turn in sorted(turns, key=lambda pair: pair[0])] for turns in dialogs.values()]
