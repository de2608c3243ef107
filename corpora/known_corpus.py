"""A corpus of `corpora/known.py` as a dataset, and what a copy of it holds against what was published.

    lemer corpus ravdess RAVDESS_FOLDER

    dataset, report = load_known("crema-d", "CREMA-D", label_map={"calm": "neutral"}, protocol="speaker")

Columns of a row are those of `corpora/any_dataset.py`, and where the corpus says something of it
    emotion       the label as it is written, such as W or 05
    gender        F or M
    intensity, sentence   codes of the corpus
    split         with the protocol official alone: train, validation, or the name of a test split
Labels have standard names (`corpora/emotions.py`).
"""

import argparse
import hashlib
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import datasets

from ..runtime.command import command_parser
from ..runtime.files import replace_files
from ..runtime.locks import hold
from ..runtime.stopping import run_command
from .any_dataset import make_corpus, sorted_names
from .any_source import prepare_rows
from .emotions import check_changes, classes_of, describe_classes, standard_name
from .known import KNOWN
from .known_files import FILE_KINDS, KnownFiles, count_labels, read_known_files
from .known_row import NOT_VERIFIED, KnownCorpus
from .options import PROTOCOLS
from .protocols import apply_protocol
from .report import Kinds, Published, Report
from .sources import Source, TableSplit
from .tables import Table

READ = ("id", "text", "label", "speaker", "dialog", "order", "votes", "valence", "arousal", "dominance")
KEPT = ("emotion", "gender", "intensity", "sentence", "split")  # columns of the dataset beside those of the schema


def load_known(
    name: str,
    folder: str | os.PathLike,
    *,
    labels: Sequence[str] | None = None,
    label_map: Mapping[str, str] | None = None,
    protocol: str | None = None,
    num_folds: int | None = None,
    test_share: float | None = None,
    cache_dir: str | os.PathLike | None = None,
    max_bad: int | None = None,
    progress: bool = True,
) -> tuple[datasets.Dataset, Report]:
    """
    Rows of the corpus schema of a known corpus, and the report on them.

    Args:
        name: key of `KNOWN`, but for iemocap, which `load_iemocap` loads.
        folder: of the copy.
        labels: Classes, in this order; rows of other labels are history only. None: all that occur.
        label_map: Label, or a word for its class -> class, where it is not that of the corpus's row.
        protocol: One of `PROTOCOLS`. None: the first one of the row.
        num_folds, test_share: as in `apply_protocol`; None with the protocol speaker: as in the row.
        cache_dir: Default: the cache of `datasets`.
        max_bad: Refuse a copy with more damaged or missing items.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such folder.
        ValueError: it is no copy of the corpus; a label or protocol is not there; no class has a usable recording.
    """
    row = KNOWN[name]
    dataset, report = load_whole(name, folder, labels, label_map or {}, cache_dir, progress)
    meaning = {} if report.published is None else report.published.meaning
    check_changes(label_map or {}, {row.title: (meaning, row.emotions)})
    protocol = protocol or row.protocols[0]
    if protocol not in row.protocols:
        raise ValueError(f"--protocol {protocol}: {row.title} has {', '.join(row.protocols)}")
    if protocol == "speaker" and num_folds is None:
        speakers = {speaker for speaker in dataset["speaker"][:] if speaker}
        num_folds = None if row.num_folds is None or row.num_folds >= len(speakers) else row.num_folds
    report.check_damage(max_bad)
    report.check_classes()
    dataset, report = apply_protocol(dataset, report, protocol, num_folds=num_folds, test_share=test_share)
    return dataset, report


def load_whole(
    name: str,
    folder: str | os.PathLike,
    labels: Sequence[str] | None,
    label_map: Mapping[str, str],
    cache_dir: str | os.PathLike | None = None,
    progress: bool = True,
) -> tuple[datasets.Dataset, Report]:
    """The rows of a copy before it is split, and their report; the folds are its sessions, or one for all."""
    row = KNOWN[name]
    files = read_known_files(name, folder)
    written = list(dict.fromkeys(row["emotion"] for row in files.utterances if row["emotion"] is not None))
    classes = classes_of(sorted_names(set(written)), row.emotions, label_map)
    wanted_labels = _wanted(labels, classes, row, label_map)
    source, wanted = _source(name, files)
    prepared, facts = prepare_rows(source, wanted, cache_dir=cache_dir, progress=progress)
    changed = {
        "label": [None if label is None else classes[label] or _unknown(label, row) for label in prepared["label"]],
        "votes": [_votes(votes, {**row.emotions, **classes}) for votes in prepared["votes"]],
    }
    dataset, report = make_corpus(
        name, prepared, facts, wanted, wanted_labels, changed=changed, made=_sessions(files.utterances)
    )
    dataset = _with_columns(dataset, files.utterances)
    kinds = Kinds(*({**ours, **theirs} for ours, theirs in zip(report.kinds, FILE_KINDS, strict=True)))
    notes = {kind: [*report.notes.get(kind, []), *files.notes.get(kind, [])] for kind in kinds.all}
    notes["untrained_class"] = []
    published = Published(
        title=row.title,
        found=count_labels(files.utterances),
        known=row.counts,
        meaning={**row.emotions, **classes},
        speakers=(len({utterance["speaker"] for utterance in files.utterances} - {None}), row.num_speakers),
        clips=row.num_clips,
        missing=files.notes["clip_missing"],
    )
    # What the row takes from its table is no news; what is not used does not exist here.
    remarks = [remark for remark in report.remarks if not remark.startswith("columns ")]
    remarks = [*_describe(row, classes, files), *remarks]
    report = replace(report, kinds=kinds, notes=notes, remarks=remarks, published=published, split="not split")
    return dataset, report


def _wanted(
    labels: Sequence[str] | None, classes: Mapping[str, str | None], row: KnownCorpus, label_map: Mapping[str, str]
) -> list[str]:
    """The classes to tell apart, in the order of the row."""
    there = {name for name in classes.values() if name is not None}
    ordered = [name for name in dict.fromkeys([*row.classes, *label_map.values(), *sorted(there)]) if name in there]
    if labels is None:
        return ordered
    known = {standard_name(name) or name: name for name in ordered}
    return [known.get(standard_name(label) or label, label) for label in labels]


def _unknown(label: str, row: KnownCorpus) -> str | None:
    """A label without a class: none where the row says so, else as it is written, so that it is counted as another label."""
    return None if label in row.emotions else f"{label} (unknown)"


def _votes(votes: str | None, classes: Mapping[str, str | None]) -> str | None:
    """Votes for labels -> votes for classes, as JSON."""
    if votes is None:
        return None
    counts: dict[str, float] = {}
    for label, count in json.loads(votes).items():
        name = classes.get(label) or label
        counts[name] = counts.get(name, 0.0) + count
    return json.dumps(counts)


def _source(name: str, files: KnownFiles) -> tuple[Source, dict[str, str | None]]:
    """The utterances as a table that `prepare_rows` reads, and its columns by use."""
    used = [use for use in READ if use == "label" or any(row.get(use) is not None for row in files.utterances)]
    has_audio = any(row["audio"] is not None for row in files.utterances)
    columns = ["audio", *used] if has_audio else used
    rows = [{column: row["emotion"] if column == "label" else row[column] for column in columns} for row in files.utterances]
    table = Table(files.root, columns, lambda: ((f"utterance {number}", row) for number, row in enumerate(rows, start=1)))
    digest = hashlib.sha256(json.dumps([str(files.root), rows]).encode("utf-8", "surrogateescape")).hexdigest()
    source = Source(name, {"train": TableSplit("train", [("train", lambda: table)])}, digest, files.remarks, [])
    wanted = {use: use if use in columns else None for use in ("audio", "text", "label", "dialog", "order")}
    return source, {**wanted, "fold": None}


def _sessions(utterances: list[dict]) -> tuple[list[int], dict[int, str], str]:
    """The sessions of a corpus as folds; one fold where it has none."""
    sessions = [row["session"] or "" for row in utterances]
    names = sorted_names(set(sessions))
    numbers = {session: number for number, session in enumerate(names, start=1)}
    return (
        [numbers[session] for session in sessions],
        {number: name or "all" for name, number in numbers.items()},
        "not split",
    )


def _with_columns(dataset: datasets.Dataset, utterances: list[dict]) -> datasets.Dataset:
    """The dataset with what else the corpus says of its utterances."""
    by_id = {row["id"]: row for row in utterances}
    for use in KEPT:
        values = [by_id[name][use] or "" for name in dataset["id"][:]]
        if any(values):
            dataset = dataset.add_column(use, values)
    return dataset


def _describe(row: KnownCorpus, classes: Mapping[str, str | None], files: KnownFiles) -> list[str]:
    """Sentences on what the corpus is."""
    remarks = [f"{row.title}, {row.language}; licence: {row.licence}; {row.page}"]
    if merged := describe_classes(classes):
        remarks.append(f"labels: {merged} (--label_map LABEL=CLASS changes this)")
    nothing = [label for label, name in classes.items() if name is None and label in row.emotions]
    if nothing:
        remarks.append(f"labels that are no class: {', '.join(nothing)} (history only; --label_map gives them one)")
    if row.words:
        number = "the word alone differs" if isinstance(row.words, str) else f"{len(row.words)} sentences"
        remarks.append(
            f"the same sentences are said in every emotion ({number}): the text tells nothing of it, so take a recipe of "
            "speech alone, such as B5"
        )
    unverified = [fact for fact, source in row.sources.items() if source.startswith(NOT_VERIFIED)]
    if unverified:
        remarks.append(f"not verified by a public source: {', '.join(unverified)}")
    return remarks


# ------------------------------------------------------------------------------------------------------- command line


def main(arguments: list[str] | None = None) -> int:
    """Runs `lemer corpus NAME DIR` and returns the exit status: 0, or 2 after one line on stderr."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "NAME"
    row = KNOWN.get(name)
    parser = command_parser(
        f"python -m lemer.corpora.known_corpus {name}",
        f"{row.title if row else name}_FOLDER",
        "Reads a copy of a corpus that is known by name and reports what is in it, what is missing or damaged, and how\n"
        "it compares with what was published. The recordings are decoded once; the second run is fast.",
    )
    parser.add_argument("folder", metavar="DIR", help="the folder of the corpus")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="how it is split (default: what docs/corpora.md says)")
    parser.add_argument("--num_folds", type=int, metavar="N", help="with --protocol speaker: deal the speakers into N folds")
    parser.add_argument("--counters", metavar="FILE", help="write all counters, with all names, as JSON")
    parser.add_argument("--cache_dir", metavar="DIR", help="keep the prepared rows here (default: datasets' cache)")
    parser.add_argument("--max_bad", type=int, metavar="N", help="fail when more than N items are damaged or missing")
    options = parser.parse_args(arguments)
    if row is None or not row.clips:
        parser.error(f"no corpus is known as {name}; choose one of {', '.join(name for name in KNOWN if KNOWN[name].clips)}")
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()  # a log wants the error's line only
    return run_command(parser.prog, lambda: _read_and_report(name, options), "No file was changed", failure=2)


def _read_and_report(name: str, options: argparse.Namespace) -> None:
    """Read a copy of a corpus, write the counters if they are asked for, and print the report."""
    counters = options.counters
    if counters is not None and not Path(os.path.abspath(counters)).parent.is_dir():
        raise FileNotFoundError(f"cannot write {counters}: its folder is not there")
    settings = {"protocol": options.protocol, "num_folds": options.num_folds, "max_bad": options.max_bad}
    with ExitStack() as locks:
        if counters is not None:
            locks.enter_context(hold(counters))
        progress = sys.stderr.isatty()
        report = load_known(name, options.folder, **settings, cache_dir=options.cache_dir, progress=progress)[1]
        if counters is not None:
            replace_files({counters: report.to_json()})
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name in the report may be more than the terminal can show
        sys.stdout.reconfigure(errors="backslashreplace")
    print(report.format())


if __name__ == "__main__":
    sys.exit(main())
