"""Any dataset that `datasets` can read as a corpus: audio, text and label columns -> rows of the schema, and a report.

    dataset, report = load_any_dataset("folder/of/recordings", fold_column="speaker")
    dataset, report = load_any_dataset("owner/name", test_split="test", label_column="emotion", streaming=True)

The source is a name on the Hub or a local path: a folder that `save_to_disk` wrote, an `audiofolder` (recordings with
metadata.csv or .jsonl, or in one folder a label), a folder of parquet, CSV or JSON files, or one such file. It is read
once, in shards, so that a killed run goes on where it was; every recording is decoded once to see that it can be used.
Prepared rows are kept under the cache and are read again when a file has changed.

Columns of a row are those of `corpora/iemocap.py`, but for what is particular to IEMOCAP:
    id            the column `id`, else the recording's path in the folder, else (or where they do not differ) split and
                  number, such as train-000017
    dialog        of `dialog_column`; without one every row is a dialog of its own, without history
    session       the fold: see `load_any_dataset`
    speaker, start, end    columns of these names, else "", 0 and the recording's length in seconds
    audio         {"path": ..., "bytes": ...}, one of them None; both where the corpus has none or it is damaged
    text          "" where it is missing
    label         ClassLabel; -1 for a row that is history only: unlabelled, of another label, or its recording damaged
    num_frames    samples at 16 kHz; in a corpus without recordings, characters of the text
    history       texts of all earlier turns of the dialog, oldest first
"""

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import datasets

from .any_source import SAMPLING_RATE, prepare_rows, source_name

EXAMPLES = 3  # names of a kind in the printed report
BAD = {
    "audio_missing": "rows without a recording (history only)",
    "audio_damaged": "rows whose recording cannot be used (history only)",
    "text_missing": "rows without a text (not in any history)",
}
NORMAL = {
    "unlabelled": "rows without a label (history only)",
    "other_label": "rows of labels that were not asked for (history only)",
}


def load_any_dataset(
    source: str | os.PathLike,
    *,
    subset: str | None = None,
    splits: Sequence[str] | None = None,
    audio_column: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    labels: Sequence[str] | None = None,
    fold_column: str | None = None,
    test_share: float | None = None,
    test_split: str | None = None,
    dialog_column: str | None = None,
    order_column: str | None = None,
    streaming: bool = False,
    cache_dir: str | os.PathLike | None = None,
    max_bad: int | None = None,
    progress: bool = True,
) -> tuple[datasets.Dataset, "Report"]:
    """
    Rows of the corpus schema, in the order of (fold, dialog, place in the dialog), and the report on them.

    Args:
        source: Hub name, folder or file, see this file's docstring.
        subset: Configuration of a Hub dataset that has several.
        splits: Splits to read. None: all.
        audio_column, text_column, label_column: None: "audio" and "text" where there are such columns, and "label".
        labels: Classes, in this order; rows of other labels are history only. None: all, in the order of the ClassLabel,
            of numbers, or of the alphabet.
        fold_column: Leave one out: every value is a fold, of its own number where all are whole numbers, else numbered
            from 1 in alphabetical order.
        test_share: One fold: at least this share of the samples is held out (fold 1, the others are fold 2), by whole
            values of `fold_column` if it is given, else whole dialogs if there are any, else rows. Which ones depends on
            their names alone.
        test_split: One fold: this split is held out (fold 1, the others are fold 2).
        dialog_column, order_column: What dialog a row belongs to, and a number, time or text that orders its turns. None:
            no dialogs; the order of the source.
        streaming: Do not keep a Hub dataset's own files, only the prepared rows.
        cache_dir: Default: the cache of `datasets`.
        max_bad: Refuse a corpus with more damaged rows (kinds of `BAD`).

    Raises:
        FileNotFoundError: there is no such dataset.
        ValueError: a column, split or label is not there; no way to hold rows out; a dialog lies in two folds; fewer than
            two classes; more than `max_bad` damaged rows.
    """
    if test_split is not None and (fold_column is not None or test_share is not None):
        raise ValueError("test_split holds a split out: give neither fold_column nor test_share with it")
    if fold_column is None and test_share is None and test_split is None:
        raise ValueError("say what is held out: fold_column (one value after the other), test_share, or test_split")
    if test_share is not None and not 0 < test_share < 1:
        raise ValueError(f"test_share must be between 0 and 1, got {test_share}")
    wanted = {
        **{"audio": audio_column, "text": text_column, "label": label_column},
        **{"fold": fold_column, "dialog": dialog_column, "order": order_column},
    }
    prepared, facts = prepare_rows(
        source, wanted, subset=subset, splits=splits, streaming=streaming, cache_dir=cache_dir, progress=progress
    )
    columns = prepared.remove_columns("audio")[:]
    columns["id"] = ids = _ids(columns)
    columns["dialog"] = [dialog or own for dialog, own in zip(columns["dialog"], ids, strict=True)]
    classes = _classes(columns["label"], facts["label_names"], labels)
    folds, fold_names, split = _folds(columns, wanted, test_share, test_split)
    _refuse_shared_dialogs(columns["dialog"], folds, fold_names)
    order = _order(columns, folds, order_column)

    described, notes = _describe(columns, folds, order, classes, facts)
    samples = {fold: Counter() for fold in fold_names}
    for fold, label in zip(folds, described["label"], strict=True):
        samples[fold].update([classes[label]] if label >= 0 else [])
    # Joined before they are ordered: indices would be written out with all recordings.
    dataset = datasets.concatenate_datasets([described, prepared.select_columns(["audio"])], axis=1).select(order)
    report = Report(
        name=source_name(source),
        classes=classes,
        folds=fold_names,
        held_out=[1] if test_share or test_split else [fold for fold in fold_names if samples[fold]],
        split=split,
        rows=dict(Counter(folds)),
        samples=samples,
        notes=notes,
        fingerprints={"all": _fingerprint(described, columns["digest"], order)},
        has_audio=facts["audio"],
        has_text=facts["text"],
        has_dialogs=dialog_column is not None,
    )
    report.check(max_bad)
    return dataset, report


def _ids(columns: dict) -> list[str]:
    """Those of the source where they are there and differ, else split and number."""
    if None not in columns["id"] and len(set(columns["id"])) == len(columns["id"]):
        return columns["id"]
    counts = Counter()
    ids = []
    for split in columns["split"]:
        ids.append(f"{split}-{counts[split]:06d}")
        counts[split] += 1
    return ids


def _sorted_names(names: set[str]) -> list[str]:
    return sorted(names, key=int) if all(_is_whole(name) for name in names) else sorted(names)


def _is_whole(name: str) -> bool:
    return name.isascii() and name.isdigit() and str(int(name)) == name


def _classes(found: list[str | None], names: list[str] | None, labels: Sequence[str] | None) -> list[str]:
    present = set(found) - {None}
    classes = [name for name in names if name in present] if names is not None else _sorted_names(present)
    if labels is not None:
        if set(labels) - present or len(set(labels)) < len(labels):
            raise ValueError(f"labels {list(labels)} must be different ones of those that occur: {', '.join(classes)}")
        classes = list(labels)
    if len(classes) < 2:
        raise ValueError(f"a classifier needs at least two labels, the rows have {', '.join(classes) or 'none'}")
    return classes


def _folds(columns: dict, wanted: dict, test_share, test_split) -> tuple[list[int], dict[int, str], str]:
    """Every row's fold, the folds' names, and in words how they were made."""
    if test_split is not None:
        splits = sorted(set(columns["split"]))
        if test_split not in splits or len(splits) < 2:
            raise ValueError(f"test_split {test_split!r} must be one of several splits, those read are {', '.join(splits)}")
        folds = [1 if split == test_split else 2 for split in columns["split"]]
        return folds, {1: test_split, 2: "the other splits"}, f"the split {test_split} held out"
    groups, what = columns["dialog"], "rows" if wanted["dialog"] is None else "dialogs"
    if wanted["fold"] is not None:
        groups, what = columns["fold"], f"values of {wanted['fold']}"
        lost = [name for name, group in zip(columns["id"], groups, strict=True) if group is None]
        if lost:
            raise ValueError(f"{len(lost)} rows have no {wanted['fold']}, such as {', '.join(lost[:EXAMPLES])}")
    values = _sorted_names(set(groups))
    if len(values) < 2:
        raise ValueError(f"to hold something out there must be at least two {what}, there is only {values[0]}")
    if test_share is None:
        whole = all(map(_is_whole, values))
        numbers = {value: int(value) if whole else place for place, value in enumerate(values, start=1)}
        fold_names = {number: value for value, number in numbers.items()}
        return [numbers[group] for group in groups], fold_names, f"leave one value of {wanted['fold']} out"
    sizes = Counter(group for group, label in zip(groups, columns["label"], strict=True) if label is not None)
    held_out, size = set(), 0
    for value in sorted(values, key=lambda value: hashlib.sha256(value.encode()).digest())[:-1]:
        if size >= test_share * sizes.total():
            break
        held_out.add(value)
        size += sizes[value]
    folds = [1 if group in held_out else 2 for group in groups]
    return folds, {1: "held out", 2: "training"}, f"{test_share:g} of the {what} held out"


def _refuse_shared_dialogs(dialogs: list[str], folds: list[int], names: dict[int, str]) -> None:
    seen, shared = {}, {}
    for dialog, fold in zip(dialogs, folds, strict=True):
        if seen.setdefault(dialog, fold) != fold:
            shared[dialog] = f"{dialog} ({names[seen[dialog]]}, {names[fold]})"
    if shared:
        examples = ", ".join(list(shared.values())[:EXAMPLES])
        raise ValueError(
            f"{len(shared)} dialogs lie in several folds, such as {examples}: their history "
            "would carry words of one fold into another. Take folds that no dialog crosses, or give no dialog_column"
        )


def _order(columns: dict, folds: list[int], order_column: str | None) -> list[int]:
    """Indices of the rows by fold, dialog (as they come) and place in the dialog."""
    ids, dialogs = columns["id"], columns["dialog"]
    places = list(range(len(ids)))
    if order_column is not None:
        lost = [name for name, place in zip(ids, columns["order"], strict=True) if place is None]
        if lost:
            raise ValueError(f"{len(lost)} rows have no {order_column}, such as {', '.join(lost[:EXAMPLES])}")
        places = [json.loads(place) for place in columns["order"]]
    first = {}
    for index, dialog in enumerate(dialogs):
        first.setdefault(dialog, index)
    try:
        return sorted(range(len(ids)), key=lambda index: (folds[index], first[dialogs[index]], places[index], index))
    except TypeError as error:
        raise ValueError(f"values of {order_column} cannot be compared: {error}") from error


def _describe(columns: dict, folds, order, classes, facts) -> tuple[datasets.Dataset, dict[str, list[str]]]:
    """All columns but the recordings, in the order of the source, and the notes."""
    notes = {kind: [] for kind in (*BAD, *NORMAL)}
    histories, told = [None] * len(order), defaultdict(list)
    labels, frames, ends = [], [], []
    for index in order:
        history, text = told[columns["dialog"][index]], columns["text"][index]
        histories[index] = list(history)
        if text:
            history.append(text)
    rows = zip(*(columns[name] for name in ("id", "text", "label", "problem", "num_frames", "end")), strict=True)
    for name, text, label, problem, samples, end in rows:
        if label not in classes:
            notes["unlabelled" if label is None else "other_label"].append(name)
        elif problem is not None:
            kind, _, what = problem.partition(": ")
            notes[kind].append(f"{name} ({what})" if what else name)
        if facts["text"] and not text:
            notes["text_missing"].append(name)
        usable = label in classes and problem is None
        labels.append(classes.index(label) if usable else -1)
        frames.append((samples if facts["audio"] else len(text or "")) if usable else 0)
        ends.append(samples / SAMPLING_RATE if end is None else end)
    rows = {
        "id": columns["id"],
        "dialog": columns["dialog"],
        "session": folds,
        "speaker": [speaker or "" for speaker in columns["speaker"]],
        "start": [start or 0.0 for start in columns["start"]],
        "end": ends,
        "text": [text or "" for text in columns["text"]],
        "label": labels,
        "num_frames": frames,
        "history": histories,
    }
    features = {
        **dict.fromkeys(("id", "dialog", "speaker", "text"), datasets.Value("string")),
        **dict.fromkeys(("start", "end"), datasets.Value("float64")),
        "session": datasets.Value("int32"),
        "label": datasets.ClassLabel(names=classes),
        "num_frames": datasets.Value("int64"),
        "history": datasets.List(datasets.Value("string")),
    }
    return datasets.Dataset.from_dict(rows, features=datasets.Features({name: features[name] for name in rows})), notes


def _fingerprint(described: datasets.Dataset, digests: list[str], order: list[int]) -> str:
    columns = described.select_columns(["id", "dialog", "session", "text", "label"])[:]
    lines = list(zip(*columns.values(), digests, strict=True))
    names = described.features["label"].names
    digest = hashlib.sha256(json.dumps(names).encode())
    for index in order:
        digest.update(json.dumps(lines[index]).encode() + b"\n")
    return digest.hexdigest()


@dataclass(frozen=True)
class Report:
    """
    What is in a loaded corpus, and what is not.

    Attributes:
        name: Hub name, or the last part of a path.
        classes: labels in the order of the logits.
        folds: number -> name of every fold; `held_out`: those to be tested on.
        split: in words how folds were made.
        rows: fold -> number of rows; `samples`: fold -> class -> number of samples.
        notes: kind of `BAD` and `NORMAL` -> ids.
        fingerprints: "all" -> sha256 of ids, dialogs, folds, texts, labels and samples of all rows, in their order.
        has_audio, has_text, has_dialogs: whether the corpus has such a column.
    """

    name: str
    classes: list[str]
    folds: dict[int, str]
    held_out: list[int]
    split: str
    rows: dict[int, int]
    samples: dict[int, Counter]
    notes: dict[str, list[str]]
    fingerprints: dict[str, str]
    has_audio: bool
    has_text: bool
    has_dialogs: bool

    is_standard = False  # the samples of the papers' figures are IEMOCAP's

    @property
    def history(self) -> str:
        return "every earlier turn of the dialog, whatever its label" if self.has_dialogs else "none: no dialogs"

    def check(self, max_bad: int | None) -> None:
        bad = {kind: len(self.notes[kind]) for kind in BAD}
        if max_bad is not None and sum(bad.values()) > max_bad:
            examples = ", ".join(
                [*self.notes["audio_damaged"], *self.notes["audio_missing"], *self.notes["text_missing"]][:3]
            )
            raise ValueError(f"{sum(bad.values())} damaged rows, max_bad allows {max_bad}: {examples}")
        unusable = [name for name in self.classes if not any(counts[name] for counts in self.samples.values())]
        if unusable:
            raise ValueError(
                f"no row of {', '.join(unusable)} has a recording that can be used: {self._examples('audio_damaged')}"
            )

    def check_modality(self, modality: str) -> None:
        """Raises ValueError where a model of this modality asks for what the corpus does not have."""
        if modality != "text" and not self.has_audio:
            raise ValueError(f"{self.name} has no recordings (audio_column): take a recipe of words alone, such as A5")
        if modality != "speech" and not self.has_text:
            raise ValueError(f"{self.name} has no transcripts (text_column): take a recipe of speech alone, such as B5")

    def _examples(self, kind: str) -> str:
        return ", ".join(self.notes[kind][:EXAMPLES]) + (", ..." if len(self.notes[kind]) > EXAMPLES else "")

    def format(self) -> str:
        """The report as text: samples of every fold and class, then damage with up to three names of each kind."""
        width = max(10, *(len(name) + 2 for name in self.classes))
        lines = [f"{self.name}: {self.split}", ""]
        lines.append(f"{'fold':<24}" + "".join(f"{name:>{width}}" for name in (*self.classes, "samples", "rows")))
        table = {f"{fold} ({name})"[:23]: [self.samples[fold], self.rows.get(fold, 0)] for fold, name in self.folds.items()}
        table["all"] = [sum(self.samples.values(), Counter()), sum(self.rows.values())]
        for title, (counts, rows) in table.items():
            numbers = [*(counts[name] for name in self.classes), counts.total(), rows]
            lines.append(f"{title:<24}" + "".join(f"{number:>{width},}" for number in numbers))
        for heading, kinds in (("Damaged or missing", BAD), ("Left out", NORMAL)):
            kinds = {kind: text for kind, text in kinds.items() if self.notes[kind]}
            lines += ["", f"{heading}:{'' if kinds else ' nothing'}"]
            for kind, text in kinds.items():
                lines += [f"{len(self.notes[kind]):>7,}  {kind}: {text}", f"{'':9}{self._examples(kind)}"]
        return "\n".join(lines)
