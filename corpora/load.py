"""The corpus that a script's options name: IEMOCAP's layout, corpora that are known by name, or any dataset."""

import argparse
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np

from . import any_dataset, iemocap
from .emotions import check_changes, classes_of, describe_classes, parse_label_map, standard_name
from .known import KNOWN
from .known_corpus import load_known, load_whole
from .options import COLUMNS
from .protocols import apply_protocol
from .report import Report
from .union import unite


class Corpus(NamedTuple):
    """
    A loaded corpus.

    Attributes:
        samples: its labelled rows; with `--targets votes` also those that have votes alone.
        report: `format()`, `fingerprints["all"]` and `is_standard`, of its loader.
        folds: numbers of the folds to hold out.
        protocol: in words, what corpus it is, how it is split, and what history a turn has; names of folds.
    """

    samples: datasets.Dataset
    report: Report
    folds: list[int]
    protocol: dict


def load_corpus(args: argparse.Namespace, modality: str = "speech", max_history: int | None = None) -> Corpus:
    """
    The corpus that the options name, for models of a modality.

    Args:
        args: options of `corpora/options.py`.
        modality: "multimodal", "speech" or "text".
        max_history: of the processor that will read the rows; see `load_any_dataset`.

    Raises:
        ValueError, OSError, datasets.exceptions.DatasetsError: of the loaders; options that do not fit the corpus; folds
            or a modality that it does not have.
    """
    known = named_corpora(args.corpus, args.data_dir)
    options = {f"{name}_column": getattr(args, f"{name}_column") for name in COLUMNS}
    others = ("subset", "splits", "test_split", "speaker_pattern", "streaming")
    options.update({name: getattr(args, name) for name in others})
    shared = {"labels": args.labels, "test_share": args.test_share}
    named = {name: getattr(args, name) for name in ("protocol", "num_folds", "label_map")}
    if known is None:
        if given := [f"--{name}" for name, value in named.items() if value is not None]:
            raise ValueError(f"{', '.join(given)}: of corpora that are known by name, such as --corpus ravdess=DIR")
        dataset, report = any_dataset.load_any_dataset(
            args.corpus[0],
            **options,
            **shared,
            cache_dir=args.cache_dir,
            max_bad=args.max_bad,
            max_history=max_history,
        )
    else:
        given = [f"--{'split' if name == 'splits' else name}" for name, value in options.items() if value]
        if args.test_share is not None and args.protocol != "random":
            given.append("--test_share")  # without --protocol random
        if given:
            raise ValueError(
                f"{', '.join(given)}: of any dataset; a corpus that is known by name takes --protocol, and --test_share "
                "with --protocol random"
            )
        named["label_map"] = parse_label_map(args.label_map or ())
        dataset, report = load_named(known, **shared, **named, cache_dir=args.cache_dir, max_bad=args.max_bad)
    report.check_modality(modality)
    protocol: dict = {"corpus": report.name, "split": report.split, "history": report.history}
    if known is not None and list(known) == ["iemocap"]:
        # Not where it lies. Other classes or folds are another task, which no paper's number stands beside.
        other = f", {', '.join(report.classes)}, {report.split}" if report.standard is None else ""
        protocol["corpus"] = f"iemocap{other}"
    if known is not None and report.standard is None:
        protocol["fold_names"] = {str(number): name for number, name in report.folds.items()}
    labelled = np.asarray(dataset["label"][:]) >= 0
    sessions = sorted(set(np.asarray(dataset["session"][:])[labelled].tolist()))
    if getattr(args, "targets", "label") == "votes":
        if "votes" not in dataset.column_names:
            raise ValueError(f"--targets votes: {report.name} has no column votes")
        frames, votes = np.asarray(dataset["num_frames"][:]), np.array([any(row) for row in dataset["votes"][:]])
        labelled |= (frames > 0) & votes
    samples = dataset.select(np.flatnonzero(labelled))
    folds = choose_folds(args.folds, {number: report.folds[number] for number in report.held_out if number in sessions})
    report.check_folds(folds)
    return Corpus(samples, report, folds, protocol)


def load_unsplit(args: argparse.Namespace) -> tuple[datasets.Dataset, Report]:
    """
    All labelled rows of the corpus that the options of `add_source_options` name, and the report on it.

    The labels are those of the corpus: standard names of one that is known by name.

    Raises:
        ValueError, OSError, datasets.exceptions.DatasetsError: of the loaders; several corpora.
    """
    known = named_corpora(args.corpus, args.data_dir)
    if known is None:
        names = ("audio", "text", "label", "dialog", "order")
        options = {f"{name}_column": getattr(args, f"{name}_column") for name in names}
        options.update({name: getattr(args, name) for name in ("subset", "splits", "streaming", "cache_dir", "max_bad")})
        dataset, report = any_dataset.load_any_dataset(args.corpus[0], **options, unsplit=True)
    elif len(known) > 1:
        raise ValueError(f"--corpus {' '.join(args.corpus)}: give one corpus, and the others by commands of their own")
    else:
        ((name, folder),) = known.items()
        if name == "iemocap":
            dataset, report = iemocap.load_iemocap(folder, cache_dir=args.cache_dir)
        else:
            dataset, report = load_whole(name, folder, None, {}, args.cache_dir)
        report.check_damage(args.max_bad)
    return dataset.select(np.flatnonzero(np.asarray(dataset["label"][:]) >= 0)), report


def named_corpora(words: Sequence[str], data_dir: str | None) -> dict[str, str] | None:
    """
    The corpora of `--corpus` that are known by name, and their folders; None for any other dataset.

    Raises:
        ValueError: a name is not known or is there twice; a folder is missing; a dataset stands beside others.
    """
    if len(words) == 1 and (words[0] == "iemocap" or (words[0] in KNOWN and data_dir is not None)):
        if data_dir is None:
            raise ValueError(f"{words[0]} needs its folder: give --data_dir DIR, or --corpus {words[0]}=DIR")
        return {words[0]: data_dir}
    pairs = [tuple(word.partition("=")) for word in words]
    (name, equals, _), *others = pairs
    if not others and not (equals and (name in KNOWN or not Path(words[0]).exists())):
        if words[0] in KNOWN and not Path(words[0]).exists():
            raise ValueError(f"{words[0]} needs its folder: give --corpus {words[0]}=DIR")
        if data_dir is not None:
            raise ValueError("--data_dir is of --corpus iemocap: another dataset's name or folder is given as --corpus")
        return None
    if data_dir is not None:
        raise ValueError(f"--corpus {' '.join(words)}: the folders stand behind the names, give no --data_dir with them")
    found: dict[str, str] = {}
    for word, (name, equals, folder) in zip(words, pairs, strict=True):
        if not equals or not folder:
            raise ValueError(f"--corpus {word}: of several corpora each is given as NAME=DIR, such as ravdess=DIR")
        if name not in KNOWN:
            near = difflib.get_close_matches(name.lower(), KNOWN, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(f"--corpus {word}: no corpus is known as {name}.{hint} Known are {', '.join(KNOWN)}")
        if name in found:
            raise ValueError(f"--corpus has {name} twice: give it once, or put both copies into one folder")
        found[name] = folder
    return found


def load_named(
    corpora: Mapping[str, str],
    *,
    labels: Sequence[str] | None = None,
    label_map: Mapping[str, str] | None = None,
    protocol: str | None = None,
    num_folds: int | None = None,
    test_share: float | None = None,
    cache_dir: str | None = None,
    max_bad: int | None = None,
) -> tuple[datasets.Dataset, Report]:
    """
    One or several corpora that are known by name.

    Args:
        corpora: name -> folder.
        labels: classes; for IEMOCAP alone also the name of one of its label sets.
        label_map, protocol, num_folds, test_share, cache_dir, max_bad: as in `load_known`.

    Raises:
        ValueError, OSError: of the loaders.
    """
    changes = label_map or {}
    split = {"num_folds": num_folds, "test_share": test_share}
    (name, folder), *others = corpora.items()
    if others:
        dataset, report = unite(_load_parts(corpora, changes, cache_dir), labels)
        report.check_damage(max_bad)
        report.check_classes()
        dataset, report = apply_protocol(dataset, report, protocol or "corpus", **split)
    elif name != "iemocap":
        settings = {"labels": labels, "label_map": changes, "protocol": protocol, **split}
        return load_known(name, folder, **settings, cache_dir=cache_dir, max_bad=max_bad)
    else:
        chosen = iemocap_labels(labels, changes)
        dataset, report = iemocap.load_iemocap(folder, labels=chosen, cache_dir=cache_dir, max_bad=max_bad)
        if chosen != iemocap.CLASS_OF:
            report = replace(report, remarks=[*report.remarks, f"labels: {describe_classes(chosen) or ', '.join(chosen)}"])
        if protocol not in (None, "session") or num_folds or test_share:
            dataset, report = apply_protocol(dataset, report, protocol or "session", **split)
    return dataset, report


def _load_parts(
    corpora: Mapping[str, str], changes: Mapping[str, str], cache_dir: str | None
) -> dict[str, tuple[datasets.Dataset, Report]]:
    """The rows and the report of each corpus, with labels of standard names, before they are split."""
    parts, written = {}, {}
    for name, folder in corpora.items():
        row = KNOWN[name]
        if name == "iemocap":
            meaning = classes_of(row.emotions, row.emotions, changes)
            labels = {code: label for code, label in meaning.items() if label is not None}
            parts[name] = iemocap.load_iemocap(folder, labels=labels, cache_dir=cache_dir)
        else:
            parts[name] = load_whole(name, folder, None, changes, cache_dir)
            meaning = parts[name][1].published.meaning
        written[row.title] = list(meaning), row.emotions
    check_changes(changes, written)
    return parts


def iemocap_labels(labels: Sequence[str] | None, changes: Mapping[str, str]) -> dict[str, str]:
    """
    The class of IEMOCAP's codes; a code that is left out is history only.

    Args:
        labels: the name of one of its label sets, or classes; None for the four classes. exc is hap unless it is a class.
        changes: code, or a word for it -> class.

    Raises:
        ValueError: there is no such set, label or code.
    """
    row = KNOWN["iemocap"]
    classes = {code: row.label_sets["four"].get(code, code) for code, name in row.emotions.items() if name is not None}
    if labels is None or len(labels) == 1:
        word = "four" if labels is None else labels[0]
        if word not in row.label_sets:
            raise ValueError(
                f"--labels {word}: IEMOCAP has the sets {', '.join(row.label_sets)}; else give two or more labels"
            )
        classes.update({code: code for code in classes}, **row.label_sets[word])
        wanted = set(row.label_sets[word].values())
    else:
        words = {standard_name(code): code for code in classes}
        wanted = {words.get(standard_name(label), label) for label in labels}
        classes.update({code: code for code in wanted & {*classes}})
        if unknown := wanted - {*classes.values()}:
            raise ValueError(f"--labels {', '.join(sorted(unknown))}: IEMOCAP's labels are {', '.join(classes)}")
    names = {code: classes.get(code) for code in row.emotions}
    check_changes(changes, {row.title: (names, names)})
    mapped = classes_of(names, names, changes)
    wanted |= {name for code, name in mapped.items() if name is not None and name != names[code]}
    return {code: name for code, name in mapped.items() if name in wanted}


def choose_folds(wanted: Sequence[str] | None, folds: Mapping[int, str]) -> list[int]:
    """
    The numbers of the folds that `--folds` names.

    Args:
        wanted: names or numbers; None for all.
        folds: number -> name of every fold that can be held out.

    Raises:
        ValueError: there is no such fold; a number could mean two of them.
    """
    if not wanted:
        return sorted(folds)
    chosen = []
    for word in map(str, wanted):
        named = [number for number, name in folds.items() if name == word]
        if not named and word.isdigit():
            # 8 may be the number of a fold, or mean a name such as 08.
            named = sorted({number for number, name in folds.items() if number == int(word) or _is_number(name, int(word))})
        if len(named) > 1:
            meant = " and ".join(f"{folds[number]} (number {number})" for number in named)
            raise ValueError(f"--folds {word} could be {meant}: give the name")
        if not named:
            named = (
                f", called {', '.join(folds.values())}" if any(name != str(number) for number, name in folds.items()) else ""
            )
            raise ValueError(f"--folds [{word}]: the corpus has utterances in the sessions {sorted(folds)}{named}")
        chosen += named
    return list(dict.fromkeys(chosen))


def _is_number(name: str, number: int) -> bool:
    return name.isdigit() and int(name) == number
