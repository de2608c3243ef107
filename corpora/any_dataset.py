"""Any dataset as a corpus: audio, text and label columns of tables, folders, `datasets` -> rows of the schema, and a report.

    dataset, report = load_any_dataset("folder/of/recordings", fold_column="speaker")
    dataset, report = load_any_dataset("table.csv", test_share=0.2, dialog_column="dialog", order_column="turn")
    dataset, report = load_any_dataset("owner/name", test_split="test", label_column="emotion", streaming=True)

What a source may be is in `corpora/sources.py`, how tables are read in `corpora/tables.py`, which columns are taken and what
cells say in `corpora/columns.py`, and which part of a recording is heard in `corpora/recordings.py`. predict.py and the page
read tables by the same code. A source is read once, in shards, so that a killed run goes on where it was; every recording is
decoded once to see that it can be used. Prepared rows are kept under the cache and are read again when a file has changed.

Columns of a row are those of `corpora/iemocap.py`, but for what is particular to IEMOCAP:
    id            the column `id`, else the recording's path in the folder (a.wav, or a.wav[0-1] where several rows are parts
                  of it), else split and number, such as train-000017. Ids mean one thing in their table or split alone:
                  where they occur in several, its name stands before them (test/17). An id in two rows of one table is
                  refused. A second row of a recording without an id is named a.wav#2, and counted
    dialog        of `dialog_column`, kept apart in the same way: history never crosses splits or tables. Without the column
                  every row is a dialog of its own
    session       the fold: see `load_any_dataset`
    speaker       of a column of such a name, else ""
    start, end    of columns of such names, else 0 and the length in seconds; a part of a recording is cut out by them
    audio         {"path": ..., "bytes": ...}, one of them None; both where the corpus has none or it is damaged
    text          "" where it is missing
    label         ClassLabel; -1 for a row that is history only: unlabelled (missing, or a number below 0), of another label,
                  or its recording damaged. Labels that differ alone by case, blanks, or how
                  accented letters are encoded are one class
    num_frames    samples at 16 kHz; in a corpus without recordings, characters of the text
    history       texts of all earlier turns of the dialog, oldest first; without a dialog column, the column `history`
    votes, valence, arousal, dominance   where the source has them: see `corpora/annotations.py`
"""

import hashlib
import json
import os
import re
import unicodedata
from collections import Counter, defaultdict, deque
from collections.abc import Sequence

import datasets
import numpy as np
import pyarrow
from datasets.fingerprint import generate_random_fingerprint
from datasets.table import InMemoryTable

from ..audio_lemer import SAMPLING_RATE
from ..processing_lemer import newest_turns
from .annotations import add_annotations, numbers_or_none, votes_by_class
from .any_source import PART_CUT, PART_WHOLE, as_lists, prepare_rows
from .columns import ATTRIBUTES, order_keys
from .recordings import choose_part, name_part
from .report import EXAMPLES, Kinds, Report
from .sources import keep_apart, number_twins, refuse_twins, source_name
from .splits import copies_across, groups_to_split, hold_named_out

ROWS_AT_ONCE = 10_000  # rows that are copied out of a table, or whose histories are made
KINDS = Kinds(
    damaged={
        "audio_missing": "rows without a recording (history only)",
        "audio_damaged": "rows whose recording cannot be used (history only)",
        "part_damaged": "rows whose start and end are no part of their recording (history only)",
        "text_missing": "rows without a text (not in any history)",
    },
    kept={
        "duplicate_id": "rows with the id of an earlier row (they got a number behind it)",
        "label_spelling": "labels that differ from their class by case alone",
        "whole_recording": "rows whose start and end lie in something longer than their recording (heard as a whole)",
        "audio_silent": "recordings with nothing to hear (silence, or channels that cancel each other)",
        "shared_recording": "rows that have their recording in common with others, without start and end",
        "copied_recording": "rows with the same recording as an earlier row (never on both sides of a split)",
        "shared_speaker": "speakers who occur in several folds",
        "other_vote": "rows with votes for labels that are no classes here (those votes do not count)",
        "only_votes": "rows without a label that have votes (training on votes learns from them)",
        "untrained_class": "classes that occur in one fold only (a model tested on it cannot know them)",
    },
    left_out={
        "unlabelled": "rows without a label (history only)",
        "other_label": "rows of labels that were not asked for (history only)",
        "copied_across": "rows with the same recording as a row of another fold (history only)",
    },
)


# long: two thirds of it say what the arguments are
def load_any_dataset(
    source: str | os.PathLike | datasets.Dataset | datasets.DatasetDict,
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
    speaker_pattern: str | None = None,
    unsplit: bool = False,
    dialog_column: str | None = None,
    order_column: str | None = None,
    streaming: bool = False,
    cache_dir: str | os.PathLike | None = None,
    max_bad: int | None = None,
    max_history: int | None = None,
    progress: bool = True,
) -> tuple[datasets.Dataset, "Report"]:
    """
    Rows of the corpus schema, in the order of (fold, dialog, place in the dialog), and the report on them.

    Args:
        source: Hub name, folder, file, or a dataset that is loaded already.
        subset: Configuration of a Hub dataset that has several.
        splits: Splits to read. None: all.
        audio_column, text_column, label_column: None: the one with a name of `ALIASES` in `corpora/columns.py`.
        labels: Classes, in this order; rows of other labels are history only. None: all, in the order of the ClassLabel,
            of numbers, or of the alphabet.
        fold_column: Leave one out: every value is a fold, of its own number where all are whole numbers, else numbered
            from 1 in alphabetical order.
        test_share: One fold: about this share of the samples, and of every class, is held out (fold 1, the others are fold
            2), by whole speakers where they are known, whole dialogs, and whole values of `fold_column` if it is given.
            Which ones depends on their names alone.
        test_split: One fold: this split is held out (fold 1, the others are fold 2).
        speaker_pattern: Regular expression that finds the speaker (its first group, or the whole match) in the name of a
            recording, or in an id. "speaker" as `fold_column` then leaves one of these speakers out.
        unsplit: No fold is held out: all rows are in fold 1.
        dialog_column, order_column: What dialog a row belongs to, and a number, a time, or a name with a number in it that
            orders its turns. None: no dialogs; the order of the source.
        streaming: Recordings stay in shards (.parquet, .tar), here or on the Hub, and are read there when they are heard
            (`corpora/in_place.py`). Of other datasets on the Hub, the files are not kept, only the prepared rows.
        cache_dir: Default: the cache of `datasets`.
        max_history: Keep what a processor of this `max_history` reads of a history, so that a row does not grow with its
            dialog. None keeps all earlier turns.
        max_bad: Refuse a corpus with more damaged rows (kinds of `KINDS.damaged`).

    Raises:
        FileNotFoundError: there is no such dataset.
        ValueError: a table cannot be read; a column, split, subset or label is not there; two rows of a table have one id;
            no way to hold rows out; a dialog lies in two folds; fewer than two classes; a class without a usable recording;
            more than `max_bad` damaged rows.
    """
    if not unsplit:
        _check_options(fold_column, test_share, test_split)
    pattern = _compile_speaker_pattern(speaker_pattern)
    wanted = {"audio": audio_column, "text": text_column, "label": label_column}
    wanted.update(fold=fold_column, dialog=dialog_column, order=order_column)
    read = {**wanted, "fold": None} if pattern is not None and fold_column == "speaker" else wanted
    prepared, facts = prepare_rows(
        source, read, subset=subset, splits=splits, streaming=streaming, cache_dir=cache_dir, progress=progress
    )
    refuse_twins(source_name(source), prepared["id"][:], prepared["group"][:])
    folds = ([1] * len(prepared), {1: "all"}, "not split") if unsplit else None
    split = (test_share, test_split, pattern)
    dataset, report = make_corpus(
        source_name(source), prepared, facts, wanted, labels, *split, made=folds, max_history=max_history
    )
    report.check_damage(max_bad)
    report.check_classes()
    return dataset, report


# long: one step after the other, each a function of its own
def make_corpus(
    name: str,
    prepared: datasets.Dataset,
    facts: dict,
    wanted: dict,
    labels: Sequence[str] | None,
    test_share: float | None = None,
    test_split: str | None = None,
    pattern: re.Pattern | None = None,
    *,
    changed: dict[str, list] | None = None,
    made: tuple[list[int], dict[int, str], str] | None = None,
    max_history: int | None = None,
) -> tuple[datasets.Dataset, Report]:
    """
    Rows of the schema, in their order, and the report on them.

    Args:
        prepared, facts, wanted: of `prepare_rows`.
        labels, test_share, test_split, max_history: as in `load_any_dataset`.
        changed: columns of the prepared rows that have other values than when they were prepared.
        made: the fold of every prepared row, the folds' names, and in words how they were made; None for those of `wanted`,
            `test_share` and `test_split`.
    """
    columns = {**as_lists(prepared.remove_columns(["audio", "stamp"])), **(changed or {})}
    notes: dict[str, list[str]] = {kind: [] for kind in KINDS.all}
    remarks = list(facts["remarks"])
    columns["id"] = _ids(columns, notes, remarks)
    columns["dialog"] = _dialogs(columns, remarks)
    columns["label"] = _merge_labels(columns["label"], facts["label_names"], labels, notes)
    columns["problem"] = _parts(columns, notes, remarks)
    _tell_speakers(columns, pattern, wanted, remarks)
    columns["recording"] = _recordings(columns, notes)
    for unused in ("name", "group", "path", "part"):  # not used below, and as large as all others together
        del columns[unused]
    notes["audio_silent"] += [name for name, silent in zip(columns["id"], columns["silent"], strict=True) if silent]
    classes = _classes(columns["label"], facts["label_names"], labels)
    folds, fold_names, split = made or _folds(columns, wanted, test_share, test_split)
    refuse_shared_dialogs(columns["dialog"], folds, fold_names)
    order = _order(columns, folds, wanted["order"])

    votes = votes_by_class(columns["votes"], classes, columns["id"], notes)
    described = _describe(columns, folds, order, classes, facts, votes, notes, max_history)
    attributes = {name: numbers_or_none(name, columns[name], remarks) for name in ATTRIBUTES}
    described = add_annotations(described, votes, attributes)
    samples = _count_samples(folds, described["label"][:], fold_names, classes)
    # Joined before they are ordered: indices would be written out with all recordings.
    dataset = datasets.concatenate_datasets([described, prepared.select_columns(["audio"])], axis=1)
    dataset = dataset.select(np.asarray(order, dtype=np.int64))  # a list would be pickled number by number
    one_fold = bool(test_share or test_split)
    notes["shared_speaker"] = _shared_speakers(columns["speaker"], folds)
    report = Report(
        name=name,
        classes=classes,
        folds=fold_names,
        held_out=[1] if one_fold else [fold for fold in fold_names if any(samples[fold].values())],
        split=split,
        history=_history_in_words(wanted, facts),
        rows=dict(Counter(folds)),
        samples=samples,
        kinds=KINDS,
        notes=notes,
        fingerprints={"all": _fingerprint(described, columns["digest"], order)},
        remarks=remarks,
        has_audio=facts["audio"],
        has_text=facts["text"],
        has_dialogs=wanted["dialog"] is not None,
    )
    notes["untrained_class"] += report.untrained_classes(report.held_out)
    return dataset, report


def _count_samples(folds: list[int], labels: Sequence[int], fold_names: dict[int, str], classes: list[str]) -> dict:
    """Fold -> class -> number of samples."""
    samples = {fold: dict.fromkeys(classes, 0) for fold in fold_names}
    for fold, label in zip(folds, labels, strict=True):
        if label >= 0:
            samples[fold][classes[label]] += 1
    return samples


def _history_in_words(wanted: dict, facts: dict) -> str:
    if wanted["dialog"] is not None:
        return "every earlier turn of the dialog, whatever its label"
    return "the earlier turns of the column history" if facts["history"] else "none: no dialogs"


def _check_options(fold_column: str | None, test_share: float | None, test_split: str | None) -> None:
    if test_split is not None and (fold_column is not None or test_share is not None):
        raise ValueError("test_split holds a split out: give neither fold_column nor test_share with it")
    if fold_column is None and test_share is None and test_split is None:
        raise ValueError(
            "say what is held out: --fold_column COLUMN, such as speaker (one value after the other), --test_share 0.2 (a "
            "share of the rows), or --test_split NAME"
        )
    if test_share is not None and not 0 < test_share < 1:
        raise ValueError(f"test_share must be between 0 and 1, got {test_share}")


def _ids(columns: dict, notes: dict, remarks: list[str]) -> list[str]:
    """Those of the source, else the recordings' names, else split and number; told apart where they are not."""
    numbers: Counter = Counter()
    timed, names = _count_timed(columns), []
    for index, (name, split) in enumerate(zip(columns["id"], columns["split"], strict=True)):
        if name is None:
            name = columns["name"][index]
            start, end = columns["start"][index], columns["end"][index]
            if (start, end) != (None, None) and timed[columns["path"][index]] > 1:
                name = name_part(name, start, end)
        names.append(f"{split}-{numbers[split]:06d}" if name is None else name)
        numbers[split] += 1
    names, twins = number_twins([str(name) for name in keep_apart(names, columns["group"], "ids", remarks)])
    notes["duplicate_id"] += twins
    return names


def _dialogs(columns: dict, remarks: list[str]) -> list[str]:
    """The dialog of every row; a row that belongs to none is one of its own."""
    dialogs = keep_apart(columns["dialog"], columns["group"], "dialogs", remarks)
    named = set(dialogs)
    alone = [name if name not in named else f"row {name}" for name in columns["id"]]
    return [name if dialog is None else dialog for dialog, name in zip(dialogs, alone, strict=True)]


def _merge_labels(written: list[str | None], names, labels: Sequence[str] | None, notes: dict) -> list[str | None]:
    """Labels in the spelling of their class: that of `labels` or of the ClassLabel, else the most frequent one."""
    counts = Counter(label for label in written if label is not None)
    spelling: dict[str, str] = {}
    for label in [*(labels or ()), *(names or ()), *sorted(counts, key=lambda label: (-counts[label], label))]:
        spelling.setdefault(_plain_label(label), label)
    merged = {label: spelling[_plain_label(label)] for label in counts}
    notes["label_spelling"] += [f"{label} ({counts[label]} as {into})" for label, into in merged.items() if label != into]
    return [None if label is None else merged[label] for label in written]


def _plain_label(label: str) -> str:
    return unicodedata.normalize("NFC", label.strip().casefold())


def _count_timed(columns: dict) -> Counter:
    """How many rows with a start or an end each recording has."""
    rows = zip(columns["path"], columns["start"], columns["end"], strict=True)
    return Counter(path for path, start, end in rows if path is not None and (start, end) != (None, None))


def _parts(columns: dict, notes: dict, remarks: list[str]) -> list[str | None]:
    """Every row's problem, after a look at which rows have a recording in common."""
    parts, paths, problems = columns["part"], columns["path"], list(columns["problem"])
    uses = Counter(path for path in paths if path is not None)
    timed = _count_timed(columns)
    for index, (path, part) in enumerate(zip(paths, parts, strict=True)):
        if part == PART_WHOLE:
            try:  # only now is it known which rows have a recording in common
                seconds, shared = columns["num_frames"][index] / SAMPLING_RATE, timed[path] > 1
                choose_part(seconds, columns["start"][index], columns["end"][index], shared)
                notes["whole_recording"].append(columns["id"][index])
            except ValueError as error:
                problems[index] = f"part_damaged: {error}, which {timed[path]} rows have in common"
        elif part is None and problems[index] is None and uses[path] > 1:
            notes["shared_recording"].append(columns["id"][index])
    cut = [index for index, part in enumerate(parts) if part == PART_CUT]
    if cut:
        recordings = len({paths[index] or index for index in cut})
        remarks.append(f"start and end cut {len(cut)} rows out of {recordings} recordings")
    return problems


def _compile_speaker_pattern(pattern: str | None) -> re.Pattern | None:
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise ValueError(f"speaker_pattern {pattern!r} is no regular expression: {error}") from error


def _tell_speakers(columns: dict, pattern: re.Pattern | None, wanted: dict, remarks: list[str]) -> None:
    """Take the speakers from names if there is a pattern, and say it where no speaker is known."""
    if pattern is not None:
        names = [name or row for name, row in zip(columns["name"], columns["id"], strict=True)]
        found = [pattern.search(name) for name in names]
        lost = [name for name, match in zip(names, found, strict=True) if match is None or not match[match.re.groups and 1]]
        if lost:
            raise ValueError(
                f"speaker_pattern {pattern.pattern!r} finds no speaker in {len(lost)} of {len(names)} names, such as "
                f"{', '.join(lost[:EXAMPLES])}"
            )
        columns["speaker"] = [match[pattern.groups and 1] for match in found if match is not None]
        speakers = sorted(set(columns["speaker"]))
        remarks.append(
            f"speaker_pattern tells {len(speakers)} speakers: {', '.join(speakers[:10])}{', ...' * (len(speakers) > 10)}"
        )
        if wanted["fold"] == "speaker":
            columns["fold"] = columns["speaker"]
    elif not any(columns["speaker"]):
        remarks.append(
            "no speaker is known, so one person may be in training, validation and test, and scores may be better than for "
            "new people: name a column speaker, or tell speakers by the names of recordings (speaker_pattern)"
        )


def _recordings(columns: dict, notes: dict) -> list[str | None]:
    """The digest of every row's samples, by which copies are known; None without a recording, and for silence."""
    first: dict[str, int] = {}
    recordings = []
    for index, (digest, silent) in enumerate(zip(columns["digest"], columns["silent"], strict=True)):
        recordings.append(None if silent else digest or None)
        if recordings[-1] is None:
            continue
        other = first.setdefault(digest, index)
        if other != index and (columns["path"][index] is None or columns["path"][index] != columns["path"][other]):
            labels = {columns["label"][index], columns["label"][other]}
            notes["copied_recording"].append(
                f"{columns['id'][index]} (as {columns['id'][other]}{', with another label' * (len(labels) > 1)})"
            )
    return recordings


def sorted_names(names: set[str]) -> list[str]:
    """Names in alphabetical order, numbers where all are whole numbers in the order of numbers."""
    return sorted(names, key=int) if all(is_whole(name) for name in names) else sorted(names)


def is_whole(name: str) -> bool:
    """Whether a name is a whole number as it is usually written."""
    return name.isascii() and name.isdigit() and str(int(name)) == name


def _classes(row_labels: list[str | None], names: list[str] | None, labels: Sequence[str] | None) -> list[str]:
    present = {label for label in row_labels if label is not None}
    classes = [name for name in names if name in present] if names is not None else sorted_names(present)
    if labels is not None:
        if set(labels) - present or len(set(labels)) < len(labels):
            raise ValueError(f"labels {list(labels)} must be different ones of those that occur: {', '.join(classes)}")
        classes = list(labels)
    if len(classes) < 2:
        raise ValueError(f"a classifier needs at least two labels, the rows have {', '.join(classes) or 'none'}")
    return classes


def _folds(columns: dict, wanted: dict, test_share, test_split) -> tuple[list[int], dict[int, str], str]:
    """Every row's fold, the folds' names, and in words how they were made; of copies across folds the first ones stay."""
    folds, names, split = _choose_folds(columns, wanted, test_share, test_split)
    _drop_copies_across(columns, folds)
    return folds, names, split


def _choose_folds(columns: dict, wanted: dict, test_share, test_split) -> tuple[list[int], dict[int, str], str]:
    """`_folds` before copies are dropped."""
    if test_split is not None:
        splits = sorted(set(columns["split"]))
        if test_split not in splits or len(splits) < 2:
            raise ValueError(f"test_split {test_split!r} must be one of several splits, those read are {', '.join(splits)}")
        folds = [1 if split == test_split else 2 for split in columns["split"]]
        return folds, {1: test_split, 2: "the other splits"}, f"the split {test_split} held out"
    column, values = wanted["fold"], columns["fold"]
    if column is not None:
        lost = [name for name, group in zip(columns["id"], values, strict=True) if group is None]
        if lost:
            raise ValueError(f"{len(lost)} rows have no {column}, such as {', '.join(lost[:EXAMPLES])}")
        if len(set(values)) < 2:
            raise ValueError(
                f"to hold something out there must be at least two values of {column}, there is only {values[0]}"
            )
    if test_share is not None:
        return _hold_share_out(columns, column, test_share)
    names = sorted_names(set(values))
    whole = all(map(is_whole, names))
    numbers = {value: int(value) if whole else place for place, value in enumerate(names, start=1)}
    fold_names = {number: value for value, number in numbers.items()}
    return [numbers[group] for group in values], fold_names, f"leave one value of {column} out"


def _drop_copies_across(columns: dict, folds: list[int]) -> None:
    for index, first in copies_across(columns["recording"], folds).items():
        if columns["problem"][index] is None:
            columns["problem"][index] = f"copied_across: as {columns['id'][first]}"


def _hold_share_out(columns: dict, column: str | None, share: float) -> tuple[list[int], dict[int, str], str]:
    """Folds of a share, by whole speakers where they are known; whole values of `column` stay together if it is given."""
    common = {name: columns[name] for name in ("speaker", "dialog", "recording")}
    if column is not None:
        common["fold"] = columns["fold"]
    groups, unit = groups_to_split(common)
    if column is not None and unit != "speakers":
        unit = f"values of {column}"
    classes = {name: place for place, name in enumerate(sorted({label for label in columns["label"] if label is not None}))}
    labels = [classes.get(label, -1) for label in columns["label"]]
    names = [speaker or dialog for speaker, dialog in zip(columns["speaker"], columns["dialog"], strict=True)]
    held = hold_named_out(groups, labels, share, names, unit)
    folds = np.where(held, 1, 2).tolist()
    return folds, {1: "held out", 2: "training"}, f"{share:g} of the samples held out by whole {unit}"


def refuse_shared_dialogs(dialogs: Sequence[str], folds: Sequence[int], names: dict[int, str]) -> None:
    """Raises ValueError where a dialog lies in several folds."""
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
        places = order_keys(columns["order"])
    first: dict[str, int] = {}
    for index, dialog in enumerate(dialogs):
        first.setdefault(dialog, index)
    return sorted(range(len(ids)), key=lambda index: (folds[index], first[dialogs[index]], places[index], index))


def _describe(
    columns: dict, folds, order, classes, facts, votes, notes: dict[str, list[str]], max_history: int | None
) -> datasets.Dataset:
    """All columns but the recordings, in the order of the source; what is damaged or left out is noted."""
    labels, frames = [], []
    if facts["history"]:
        histories = [history or [] for history in columns["history"]]
        if max_history is not None:
            histories = [newest_turns(history, max_history) for history in histories]
    else:
        histories = _histories(columns["dialog"], columns["text"], order, max_history)
    rows = zip(*(columns[name] for name in ("id", "text", "label", "problem", "num_frames")), votes, strict=True)
    for name, text, label, problem, samples, voted in rows:
        if label not in classes:
            notes["unlabelled" if label is None else "other_label"].append(name)
        elif problem is not None:
            kind, _, what = problem.partition(": ")
            notes[kind].append(f"{name} ({what})" if what else name)
        if facts["text"] and not text:
            notes["text_missing"].append(name)
        usable = label in classes and problem is None
        labels.append(classes.index(label) if usable else -1)
        if voted and not usable and problem is None:
            notes["only_votes"].append(name)
            usable = True
        frames.append((samples if facts["audio"] else len(text or "")) if usable else 0)
    starts = [start or 0.0 for start in columns["start"]]
    times = zip(starts, columns["end"], columns["num_frames"], strict=True)
    rows = {
        "id": columns["id"],
        "dialog": columns["dialog"],
        "session": folds,
        "speaker": [speaker or "" for speaker in columns["speaker"]],
        "recording": [recording or "" for recording in columns["recording"]],
        "start": starts,
        "end": [start + samples / SAMPLING_RATE if end is None else end for start, end, samples in times],
        "text": [text or "" for text in columns["text"]],
        "label": labels,
        "num_frames": frames,
        "history": histories,
    }
    features = {
        **dict.fromkeys(("id", "dialog", "speaker", "recording", "text"), datasets.Value("string")),
        **dict.fromkeys(("start", "end"), datasets.Value("float64")),
        "session": datasets.Value("int32"),
        "label": datasets.ClassLabel(names=classes),
        "num_frames": datasets.Value("int64"),
        "history": datasets.List(datasets.Value("string")),
    }
    features = datasets.Features({name: features[name] for name in rows})
    # Not Dataset.from_dict, which looks at every value; with a fingerprint, since `datasets` would make one of a copy.
    table = InMemoryTable(pyarrow.Table.from_pydict(rows, schema=features.arrow_schema))
    return datasets.Dataset(table, info=datasets.DatasetInfo(features=features), fingerprint=generate_random_fingerprint())


def _histories(
    dialogs: list[str], texts: list[str | None], order: list[int], max_history: int | None
) -> pyarrow.ChunkedArray:
    """
    The earlier turns of every row's dialog, as `newest_turns` gives them. A history is a part of the row of all texts in the
    order of the dialogs, so that nothing is kept for a row but its two ends.
    """
    spoken: list[int] = []  # rows with a text
    ends = np.zeros((2, len(order)), dtype=np.int64)  # of every row's history in `spoken`
    dialog, begin, words = None, 0, deque[int](maxlen=max_history)  # where the newest turns with a letter or digit are
    for index in order:
        if dialogs[index] != dialog:
            dialog, begin = dialogs[index], len(spoken)
            words.clear()
        text, now = texts[index], len(spoken)
        oldest = words[0] if words and len(words) == max_history else begin
        ends[:, index] = now if max_history == 0 else oldest, now
        if text:
            if any(map(str.isalnum, text)):
                words.append(now)
            spoken.append(index)
    every, rows, parts = pyarrow.array(texts, pyarrow.large_string()), np.array(spoken, dtype=np.int64), []
    for start in range(0, len(order), ROWS_AT_ONCE):
        begins, sizes = ends[0, start : start + ROWS_AT_ONCE], np.diff(ends[:, start : start + ROWS_AT_ONCE], axis=0)[0]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        places = np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], sizes)
        said = every.take(pyarrow.array(rows[places])).cast(pyarrow.string())
        parts.append(pyarrow.ListArray.from_arrays(offsets.astype(np.int32), said))
    return pyarrow.chunked_array(parts)


def _shared_speakers(speakers: list[str | None], folds: list[int]) -> list[str]:
    """Speakers who occur in several folds."""
    where = defaultdict(set)
    for name, fold in zip(speakers, folds, strict=True):
        where[name].add(fold)
    return sorted(name for name, found in where.items() if name and len(found) > 1)


def _fingerprint(described: datasets.Dataset, digests: list[str], order: list[int]) -> str:
    """sha256 of ids, dialogs, folds, texts, labels, annotations and samples of all rows, in their order."""
    annotated = [name for name in ("votes", *ATTRIBUTES) if name in described.column_names]
    named = described.select_columns(["id", "dialog", "session", "text", "label", *annotated])
    digest = hashlib.sha256(json.dumps(described.features["label"].names).encode())
    for start in range(0, len(order), ROWS_AT_ONCE):
        part = order[start : start + ROWS_AT_ONCE]
        for line in zip(*named[part].values(), (digests[index] for index in part), strict=True):
            digest.update(json.dumps(line).encode() + b"\n")
    return digest.hexdigest()
