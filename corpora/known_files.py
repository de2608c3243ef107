"""Reads the files of a known corpus, by its row in `corpora/known.py`: which utterances there are, and what is said of each.

    found = read_known_files("ravdess", "~/RAVDESS")
    found.utterances[0]["emotion"]      # "01", as it is written
    found.notes["clip_missing"]         # names of the recordings of the publisher's plan that are not there

The folder is the corpus's own, one above it, or a part of it. Nothing is decoded here, and nothing stops at one odd file:
what is not read is noted under one of the kinds below.
"""

import os
import re
import string
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .columns import find_column
from .emotions import standard_name
from .known import KNOWN
from .known_row import Facts, KnownCorpus
from .recordings import AUDIO_SUFFIXES, is_hidden, printable, walk
from .report import EXAMPLES, Kinds
from .tables import decode_text, read_table

FILE_KINDS = Kinds(
    damaged={
        "clip_missing": "recordings that the publisher's plan has and that are not there",
        "fewer_than_published": "labels with fewer utterances than were published",
        "unknown_label": "labels that the corpus's row does not know (history only; --label_map gives them a class)",
        "duplicate_line": "lines of the tables with the id of an earlier line (the first is read)",
        "malformed_line": "lines of the tables that could not be read",
    },
    kept={
        "known_fault": "utterances that are faulty in every copy",
        "more_than_published": "labels with more utterances than were published",
        "speaker_unknown": "utterances whose speaker is not known",
    },
    left_out={
        "other_copy": "further copies of a recording (one is read)",
        "other_file": "recordings of the release that are no utterances here",
        "other_corpus": "recordings named as those of another corpus",
        "other_name": "recordings named otherwise than those of the corpus",
        "unlisted": "recordings without a line in the tables",
        "other_table": "further tables of the same kind (that nearest to the folder is read)",
        "hidden": "hidden files, such as the ._ files of macOS",
    },
)
FIELDS = ("emotion", "speaker", "gender", "intensity", "sentence", "session", "split", "text", "dialog", "order")
ATTRIBUTE_FIELDS = ("valence", "arousal", "dominance")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
LOSSLESS = (".wav", ".flac")  # of several copies of a recording these come first


class KnownFiles(NamedTuple):
    """
    What was found.

    Attributes:
        root: the folder.
        utterances: dicts of `id`, `audio` (a path, None where there is no recording), `FIELDS`, `ATTRIBUTE_FIELDS` and
            `votes` (label -> number); None where nothing is said.
        notes: kind, all of `FILE_KINDS` -> names.
        remarks: sentences on how tables were read.
    """

    root: Path
    utterances: list[dict]
    notes: dict[str, list[str]]
    remarks: list[str]


class _Cell(str):
    """A cell of a table; {name.stem} in a template is a file name without its ending."""

    @property
    def stem(self) -> str:
        return Path(self).stem if Path(self).suffix.lower() in AUDIO_SUFFIXES else str(self)


def read_known_files(name: str, folder: str | os.PathLike) -> KnownFiles:
    """
    The utterances of a copy of a known corpus, in the order of its tables, else of their ids.

    Args:
        name: key of `KNOWN`.
        folder: of the copy.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such folder.
        ValueError: nothing in it is of this corpus, a table is missing or cannot be read.
    """
    row = KNOWN[name]
    root = Path(folder).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"no folder {root}; expected {row.title}, with files such as {row.layout}")
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is a file; expected the folder of {row.title}, with files such as {row.layout}")
    reader = _Reader(name, row, Path(os.path.abspath(root)))
    utterances = reader.utterances()
    reader.note_speakers(utterances)
    reader.compare(utterances)
    return KnownFiles(reader.root, utterances, reader.notes, reader.remarks)


def corpora_named_so(paths: list[Path], root: Path) -> Counter:
    """How many of some recordings are named as those of each known corpus."""
    counts: Counter = Counter()
    for path in paths:
        counts.update(name for name, row in KNOWN.items() if row.clips and _match(row.clips, path.with_suffix(""), root))
    return counts


def named_beside_folders(paths: list[Path], labels: list[str], root: Path) -> str | None:
    """
    The known corpus that some recordings are named as, where the folders that would be their labels tell no emotion.

    Args:
        paths: of the recordings.
        labels: the folder of each that would be its label.
        root: the folder of all.

    Returns:
        Key of `KNOWN`; None where fewer than half of the recordings are named so, and where the folders may be labels: they
        are called like emotions, or all clips of an emotion lie in one of them.
    """
    named = corpora_named_so(paths, root).most_common(1)
    if not named or 2 * named[0][1] < len(paths) or all(standard_name(label) for label in labels):
        return None
    name = named[0][0]
    folders: dict[str, set[str]] = defaultdict(set)
    for path, label in zip(paths, labels, strict=True):
        match = _match(KNOWN[name].clips, path.with_suffix(""), root)
        folders[match.groupdict().get("emotion", "") if match else ""].add(label)
    return name if len(set(labels)) < 2 or any(len(found) > 1 for found in folders.values()) else None


def _match(pattern: str, path: Path, root: Path) -> re.Match | None:
    """A match of the end of a path, which begins with the name of the root: `a/DC` may be given as well as `a`."""
    return re.search(rf"(?:^|/)(?:{pattern})$", f"{root.name}/{path.relative_to(root).as_posix()}")


class _Reader:
    """One pass over a copy."""

    def __init__(self, name: str, row: KnownCorpus, root: Path):
        self.name, self.row, self.root = name, row, root
        self.notes: dict[str, list[str]] = {kind: [] for kind in FILE_KINDS.all}
        self.remarks: list[str] = []
        files = list(walk(root))
        self.notes["hidden"] = [self.say(file) for file in files if is_hidden(file, root)]
        self.files = [file for file in files if not is_hidden(file, root)]

    def say(self, path: Path) -> str:
        return printable(path.relative_to(self.root).as_posix())

    # ---------------------------------------------------------------------------------------------------- recordings

    def clips(self) -> dict[str, tuple[Path, dict]]:
        """Id -> path and fields of every recording of the corpus; the others are noted."""
        found: dict[str, list[tuple[Path, dict]]] = defaultdict(list)
        strangers = []
        for path in self.files:
            if path.suffix.lower() not in AUDIO_SUFFIXES:
                continue
            match = _match(self.row.clips, path.with_suffix(""), self.root)
            if match is None:
                strangers.append(path)
                continue
            fields = self.fields_of(match)
            name = self.row.id.format_map(fields) if self.row.id else match[0].rpartition("/")[2]
            found[name].append((path, fields))
        for path in strangers:
            self.note_stranger(path)
        clips = {}
        for name, copies in found.items():
            copies.sort(key=lambda copy: (copy[0].suffix.lower() not in LOSSLESS, len(copy[0].parts), str(copy[0])))
            (first, fields), *others = copies
            clips[name] = first, fields
            size = os.path.getsize(first) if others else 0
            for path, _ in others:
                same = path.suffix.lower() != first.suffix.lower() or os.path.getsize(path) == size
                self.notes["other_copy"].append(self.say(path) + ("" if same else f" (differs from {self.say(first)})"))
        return clips

    def fields_of(self, match: re.Match) -> dict:
        """The groups of a match, the split as the row calls it."""
        fields = {group: text for group, text in match.groupdict().items() if text is not None}
        if "split" in fields:
            fields["split"] = self.row.splits[fields["split"]]
        return fields

    def note_stranger(self, path: Path) -> None:
        for pattern, what in self.row.other_files.items():
            if _match(pattern, path.with_suffix(""), self.root):
                self.notes["other_file"].append(f"{self.say(path)} ({what})")
                return
        others = corpora_named_so([path], self.root)
        if others:
            self.notes["other_corpus"].append(f"{self.say(path)} ({' or '.join(others)})")
        else:
            self.notes["other_name"].append(self.say(path))

    # -------------------------------------------------------------------------------------------------------- tables

    def read_facts(self, facts: Facts) -> dict[str, dict] | None:
        """Id -> fields of the tables of one kind; None where there is none."""
        tables: dict[tuple, list[tuple[Path, re.Match]]] = defaultdict(list)
        for path in self.files:
            if match := _match(facts.path, path, self.root):
                tables[tuple(match.groups())].append((path, match))
        if not tables:
            return None
        told: dict[str, dict] = {}
        for copies in tables.values():
            (path, match), *others = sorted(copies, key=lambda copy: (len(copy[0].parts), str(copy[0])))
            self.notes["other_table"] += [self.say(other) for other, _ in others]
            rows = self.table_rows(path, facts) if facts.line is None else self.text_rows(path, facts)
            for place, cells in rows:
                self.add(told, facts, {**self.fields_of(match), **cells}, f"{self.say(path)}, {place}")
        return told

    def add(self, told: dict[str, dict], facts: Facts, cells: dict, place: str) -> None:
        """What one row says goes to its utterance."""
        name = facts.id.format_map(cells).strip()
        if not name or name in ("-", "nan"):
            self.notes["malformed_line"].append(place)
            return
        fields = {use: text for use, template in facts.fields.items() if (text := template.format_map(cells).strip())}
        votes = Counter({label: _number(cells[column]) for label, column in facts.vote_counts.items()})
        if facts.vote is not None:
            votes.update(self.label_of(vote) for vote in cells.get("votes", [cells.get(facts.vote)]) if vote)
        if name not in told:
            told[name] = {**fields, "votes": votes}
        elif facts.has_utterances:
            self.notes["duplicate_line"].append(f"{name} ({place})")
        else:
            told[name]["votes"] += votes

    def label_of(self, word: str) -> str:
        """The label that a vote means: written as labels are, or a word for one."""
        meant = (label for label, name in self.row.emotions.items() if name is not None and name == standard_name(word))
        return word if word in self.row.emotions else next(meant, word)

    def table_rows(self, path: Path, facts: Facts) -> Iterator[tuple[str, dict]]:
        table = read_table(path)
        self.remarks += table.remarks
        templates = [facts.id, *facts.fields.values()]
        wanted = {
            name.partition(".")[0] for text in templates for _, name, _, _ in string.Formatter().parse(text) if name
        } - set(re.compile(facts.path).groupindex)
        wanted |= {*facts.vote_counts.values(), *filter(None, (facts.vote, facts.only and facts.only[0]))}
        columns = {name: find_column(table.columns, name) for name in sorted(wanted)}
        missing = [name for name, column in columns.items() if column is None]
        if missing:
            raise ValueError(
                f"{path} has no column {', '.join(missing)}, as the tables of {self.row.title} have: its columns are "
                f"{', '.join(table.columns)}. Is it of another release?"
            )
        for place, row in table.rows():
            cells = {name: _Cell("" if row[column] is None else row[column]) for name, column in columns.items()}
            if facts.only is None or re.fullmatch(facts.only[1], cells[facts.only[0]]):
                yield place, cells

    def text_rows(self, path: Path, facts: Facts) -> Iterator[tuple[str, dict]]:
        """Lines of a text file, each with the votes of the lines that follow it."""
        data = path.read_bytes()
        try:
            text, remarks = decode_text(data)
        except ValueError:
            if facts.encoding is None:
                raise ValueError(f"{path} is no text in UTF-8, UTF-16 or cp1252") from None
            text, remarks = data.decode(facts.encoding, errors="replace"), []
        self.remarks += [f"{path.name}: {remark}" for remark in remarks]
        row: tuple[str, dict] | None = None
        for number, line in enumerate(re.split(r"\r*\n|\r", text), start=1):
            match = re.fullmatch(facts.line or "", line.strip())
            if match is not None:
                if row is not None:
                    yield row
                row = f"line {number}", {name: _Cell(cell or "") for name, cell in match.groupdict().items()}
                row[1]["votes"] = []
            elif row is not None and facts.vote and (vote := re.fullmatch(facts.vote_line or "", line.strip())):
                row[1]["votes"].append(vote[facts.vote])
        if row is not None:
            yield row

    # ---------------------------------------------------------------------------------------------------- utterances

    def utterances(self) -> list[dict]:
        clips = self.clips()
        told = [self.read_facts(facts) for facts in self.row.files]
        lists = [(facts, table) for facts, table in zip(self.row.files, told, strict=True) if facts.has_utterances]
        listing = lists[0][1] if lists else None
        needed = [facts.name for facts, table in lists if table is None]
        if (not clips and not listing) or (needed and "(?P<emotion>" not in self.row.clips):
            self.refuse(clips, needed)
        if needed:
            self.remarks.append(f"no table {needed[0]}: labels and speakers are those of the recordings' names")
        if listing is not None:
            self.notes["unlisted"] += [self.say(path) for name, (path, _) in clips.items() if name not in listing]
        utterances = []
        for name in listing if listing is not None else sorted(clips):
            path, fields = clips.get(name, (None, {}))
            fields = dict(fields)
            votes: Counter = Counter()
            for table in filter(None, told):
                said = dict(table.get(name, {}))
                votes += said.pop("votes", Counter())
                fields.update(said)
            utterances.append(self.utterance(name, path, fields, votes))
        return utterances

    def utterance(self, name: str, path: Path | None, fields: dict, votes: Counter) -> dict:
        row = self.row
        speaker = fields.get("speaker")
        fields["speaker"] = row.speakers.get(speaker, speaker) if speaker else None
        gender = fields.get("gender", "")[:1].upper() or row.genders.get(fields["speaker"] or "", "")
        fields["gender"] = gender if gender in ("F", "M") else None
        if "split" in fields:
            fields["split"] = row.splits.get(fields["split"], fields["split"])
        if "text" not in fields and "sentence" in fields:
            words = row.words
            fields["text"] = words.format_map(fields) if isinstance(words, str) else words.get(fields["sentence"])
        return {
            "id": name,
            "audio": None if path is None else str(path),
            **{use: fields.get(use) or None for use in (*FIELDS, *ATTRIBUTE_FIELDS)},
            "votes": {label: count for label, count in votes.items() if count} or None,
        }

    def refuse(self, clips: dict, needed: list[str]) -> None:
        """Raise the error of a folder that is no copy of the corpus."""
        row, recordings = self.row, [path for path in self.files if path.suffix.lower() in AUDIO_SUFFIXES]
        if clips:
            raise ValueError(
                f"{self.root} has {len(clips):,} recordings of {row.title} and no table {needed[0]}, which holds the "
                "labels: give the folder that has both"
            )
        message = f"nothing of {row.title} in {self.root}: expected files such as {row.layout}"
        others = corpora_named_so(recordings, self.root)
        if others:
            other, count = others.most_common(1)[0]
            raise ValueError(
                f"{message}. {count:,} of its {len(recordings):,} recordings are named as those of {KNOWN[other].title}: "
                f"give --corpus {other}={self.root}"
            )
        if any("EmoEvaluation" in path.parts for path in self.files):
            raise ValueError(f"{message}. It has IEMOCAP's layout: give --corpus iemocap={self.root}")
        archives = [self.say(path) for path in self.files if path.suffix.lower() in ARCHIVES]
        if archives:
            message += f". There are archives: unpack {', '.join(archives[:EXAMPLES])}"
        elif recordings:
            names = ", ".join(self.say(path) for path in recordings[:EXAMPLES])
            message += f". Its {len(recordings):,} recordings have other names, such as {names}"
        else:
            message += f". It has {len(self.files):,} files and no recording"
        raise ValueError(
            f"{message}. Any folder of recordings can be read as --corpus {self.root}, without a name before it"
        )

    # ------------------------------------------------------------------------------------------------- what is missing

    def note_speakers(self, utterances: list[dict]) -> None:
        self.notes["speaker_unknown"] += [row["id"] for row in utterances if row["speaker"] is None]

    def compare(self, utterances: list[dict]) -> None:
        """Note what is missing and what is faulty in every copy, and labels that the row does not know."""
        row, there = self.row, {utterance["id"]: utterance for utterance in utterances}
        self.notes["clip_missing"] += [name for name in row.complete_names if name not in there]
        found = count_labels(utterances)
        for split, labels in {} if row.complete else row.counts.items():
            for label, number in labels.items():
                count = found.get(split, {}).get(label, 0)
                kind = "fewer_than_published" if count < number else "more_than_published"
                if count != number:
                    self.notes[kind].append(f"{split + ' ' if split else ''}{label}: {count:,} of {number:,}")
        strange = [utterance for utterance in utterances if utterance["emotion"] not in {None, *row.emotions}]
        for label, number in Counter(utterance["emotion"] for utterance in strange).items():
            example = next(utterance["id"] for utterance in strange if utterance["emotion"] == label)
            self.notes["unknown_label"].append(f"{label} ({number:,}, such as {example})")
        self.notes["known_fault"] += [f"{name} ({what})" for name, what in row.faults.items() if name in there]


def count_labels(utterances: list[dict]) -> dict[str, Counter]:
    """Split, and "" for all together -> label as it is written -> number of utterances."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for utterance in utterances:
        for split in {"", utterance["split"] or ""}:
            counts[split][utterance["emotion"] or "(none)"] += 1
    return counts


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return 0.0
