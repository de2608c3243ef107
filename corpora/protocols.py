"""How a corpus is split for testing: by sessions, by speakers, as its publisher says, at random, or by whole corpora.

    dataset, report = apply_protocol(dataset, report, "speaker", num_folds=6)

A protocol gives every row a fold (the column `session`), and each fold that is held out has a name (`report.folds`).

session    the sessions of the corpus, whose speakers occur in no other
speaker    whole speakers: each one is a fold, or they are dealt into `num_folds` folds with women and men in each. Rows of
           an unknown speaker are in no test fold
official   the publisher's test splits, one after the other. The column `split` stays in the dataset: trained on is `train`,
           and `validation` chooses the epoch (`training/folds.py`)
random     one fold: a share of the samples, by whole speakers and dialogs where they can be kept together (`splits.py`)
corpus     of several corpora, each one whole

Speakers of the fold held out who occur in the training rows too are counted and named.
"""

from collections import Counter, defaultdict
from dataclasses import replace

import datasets
import numpy as np

from .any_dataset import is_whole, refuse_shared_dialogs, sorted_names
from .options import PROTOCOLS
from .report import EXAMPLES, Kinds, Report, fingerprint_lines
from .splits import copies_across, groups_to_split, hold_named_out

TEST_SHARE = 0.2  # of the samples, held out by the protocol random
TRAINING_SPLITS = ("train", "validation")
UNKNOWN_SPEAKER = -1  # the fold of rows without a speaker
KINDS = Kinds(
    damaged={},
    kept={
        "shared_speaker": "speakers of a fold held out who occur in training rows too",
        "no_speaker": "rows without a speaker (never in a test fold, and their speaker may be one of it)",
        "untrained_class": "classes that occur in one fold only (a model tested on it cannot know them)",
    },
    left_out={"copied_across": "rows with the same recording as a row of another fold (history only)"},
)


def apply_protocol(
    dataset: datasets.Dataset,
    report: Report,
    protocol: str,
    *,
    num_folds: int | None = None,
    test_share: float | None = None,
) -> tuple[datasets.Dataset, Report]:
    """
    Rows of the schema with the folds of a protocol, and the report on them.

    Args:
        dataset: rows of the schema, with `split` where the publisher has splits, `gender` where it is known, and `corpus`
            where there are several; its folds are the corpus's sessions if it has any.
        protocol: one of `PROTOCOLS` in options.py.
        num_folds: of the protocol speaker; None for a fold of each speaker.
        test_share: of the protocol random, the share of the samples that is held out; None for `TEST_SHARE`.

    Raises:
        ValueError: the corpus has nothing to split so; a dialog lies in several folds; nothing is left to train on.
    """
    if num_folds is not None and protocol != "speaker":
        raise ValueError(f"--num_folds deals speakers: give --protocol speaker with it, not {protocol}")
    if test_share is not None and protocol != "random":
        raise ValueError(f"--test_share is of --protocol random, not of {protocol}")
    columns = dataset.select_columns([name for name in dataset.column_names if name not in ("audio", "history")])[:]
    makers = {
        "session": lambda: _sessions(columns, report),
        "speaker": lambda: _speakers(columns, report, num_folds),
        "official": lambda: _official(columns, report),
        "random": lambda: _random(columns, TEST_SHARE if test_share is None else test_share),
        "corpus": lambda: _corpora(columns),
    }
    if protocol not in makers:
        raise ValueError(f"--protocol {protocol}: choose one of {', '.join(PROTOCOLS)}")
    made = makers[protocol]()
    folds, names = made[:2]
    if protocol in ("official", "corpus"):
        refuse_shared_dialogs(columns["dialog"], folds, names)
    if protocol != "official" and "split" in dataset.column_names:
        dataset = dataset.remove_columns("split")
    copies = _drop_copies(columns, folds)
    changed = {"session": folds, "label": columns["label"], "num_frames": columns["num_frames"]}
    features = datasets.Features({name: dataset.features[name] for name in changed})
    changed = datasets.Dataset.from_dict(changed, features=features)
    dataset = datasets.concatenate_datasets([dataset.remove_columns(list(features)), changed], axis=1)
    return dataset, _report(report, columns, made, protocol, copies)


# --------------------------------------------------------------------------------------------------------- protocols

Folds = tuple[list[int], dict[int, str], list[int], str]  # every row's fold, the folds' names, those held out, in words how


def _sessions(columns: dict, report: Report) -> Folds:
    if len(report.folds) < 2:
        raise ValueError(f"{report.name} has no sessions to hold out: give another --protocol")
    labelled = {fold for fold, label in zip(columns["session"], columns["label"], strict=True) if label >= 0}
    return columns["session"], report.folds, sorted(labelled), "leave one session out"


def _speakers(columns: dict, report: Report, num_folds: int | None) -> Folds:
    genders = dict(zip(columns["speaker"], columns.get("gender", columns["speaker"]), strict=True))
    speakers = sorted_names({name for name in genders if name})
    if len(speakers) < 2:
        raise ValueError(
            f"{report.name} has {len(speakers)} known speakers ({', '.join(speakers) or 'none'}): to hold one out there "
            "must be at least two. Give --protocol random, or the whole corpus"
        )
    if num_folds is None or num_folds == len(speakers):
        whole = all(map(is_whole, speakers))
        numbers = {name: int(name) if whole else place for place, name in enumerate(speakers, start=1)}
        names = {number: name for name, number in numbers.items()}
        split = "leave one speaker out"
    else:
        if not 2 <= num_folds <= len(speakers):
            raise ValueError(
                f"--num_folds {num_folds}: {len(speakers)} speakers can be dealt into 2 to {len(speakers)} folds"
            )
        dealt = sorted(speakers, key=lambda name: (genders[name] if "gender" in columns else "", speakers.index(name)))
        numbers = {name: place % num_folds + 1 for place, name in enumerate(dealt)}
        members = {number: [name for name in speakers if numbers[name] == number] for number in range(1, num_folds + 1)}
        names = {number: "+".join(group) for number, group in members.items()}
        split = f"{num_folds} folds of whole speakers (--num_folds {len(speakers)} holds out one speaker at a time)"
    folds = [numbers.get(name, UNKNOWN_SPEAKER) for name in columns["speaker"]]
    if UNKNOWN_SPEAKER in folds:
        names = {UNKNOWN_SPEAKER: "unknown speakers", **names}
    labelled = {fold for fold, label in zip(folds, columns["label"], strict=True) if label >= 0}
    return folds, names, sorted(labelled - {UNKNOWN_SPEAKER}), split


def _official(columns: dict, report: Report) -> Folds:
    splits = columns.get("split", [""] * len(columns["id"]))
    without = [name for name, split in zip(columns["id"], splits, strict=True) if not split]
    if without:
        raise ValueError(
            f"{report.name} has no official split: {len(without):,} of its {len(splits):,} rows are in none, such as "
            f"{', '.join(without[:EXAMPLES])}. Give another --protocol"
        )
    tests = sorted(set(splits) - set(TRAINING_SPLITS))
    if not tests or "train" not in splits:
        raise ValueError(f"{report.name} has the splits {', '.join(sorted(set(splits)))}: a test split and train are needed")
    names = dict(enumerate([*tests, *TRAINING_SPLITS], start=1))
    numbers = {name: number for number, name in names.items()}
    folds = [numbers[split] for split in splits]
    labelled = {fold for fold, label in zip(folds, columns["label"], strict=True) if label >= 0}
    names = {number: name for number, name in names.items() if number in set(folds)}
    held_out = [number for number, name in names.items() if name in tests and number in labelled]
    return folds, names, held_out, "the publisher's splits: trained on train, the epoch chosen on validation"


def _random(columns: dict, share: float) -> Folds:
    if not 0 < share < 1:
        raise ValueError(f"--test_share must be between 0 and 1, got {share}")
    common = {name: columns[name] for name in ("speaker", "dialog", "recording") if name in columns}
    groups, unit = groups_to_split(common)
    names = [speaker or dialog for speaker, dialog in zip(columns["speaker"], columns["dialog"], strict=True)]
    held = hold_named_out(groups, columns["label"], share, names, unit)
    split = f"{share:g} of the samples held out at random, by whole {unit}"
    return np.where(held, 1, 2).tolist(), {1: "held out", 2: "training"}, [1], split


def _corpora(columns: dict) -> Folds:
    names = list(dict.fromkeys(columns.get("corpus", [])))
    if len(names) < 2:
        raise ValueError(
            "--protocol corpus leaves one whole corpus out, and nothing would be left to train on: give at least two, such "
            "as --corpus ravdess=DIR crema-d=DIR"
        )
    numbers = {name: number for number, name in enumerate(names, start=1)}
    folds = [numbers[name] for name in columns["corpus"]]
    labelled = {fold for fold, label in zip(folds, columns["label"], strict=True) if label >= 0}
    return folds, {number: name for name, number in numbers.items()}, sorted(labelled), "leave one corpus out"


def _drop_copies(columns: dict, folds: list[int]) -> list[str]:
    """Take the label of rows whose recording is in an earlier fold too; returns their names."""
    copies = copies_across(columns.get("recording", [""] * len(folds)), folds)
    labelled = {index: first for index, first in copies.items() if columns["label"][index] >= 0}
    for index in labelled:
        columns["label"][index], columns["num_frames"][index] = -1, 0
    return [f"{columns['id'][index]} (as {columns['id'][first]})" for index, first in labelled.items()]


# ------------------------------------------------------------------------------------------------------------- report


def _report(report: Report, columns: dict, made: Folds, protocol: str, copies: list[str]) -> Report:
    """The report of the corpus with the folds of a protocol."""
    folds, names, held_out, split = made
    samples = {fold: dict.fromkeys(report.classes, 0) for fold in names}
    for fold, label in zip(folds, columns["label"], strict=True):
        if label >= 0:
            samples[fold][report.classes[label]] += 1
    if not held_out or sum(bool(sum(counts.values())) for counts in samples.values()) < 2:
        counts = ", ".join(f"{names[fold]} {sum(classes.values()):,}" for fold, classes in samples.items())
        raise ValueError(
            f"{report.name}: with --protocol {protocol} there is nothing to test on, or nothing left to train on (samples: "
            f"{counts}). Is the copy whole? Else give another --protocol"
        )
    kinds = Kinds(*({**ours, **new} for ours, new in zip(report.kinds, KINDS, strict=True)))
    notes = {kind: list(report.notes.get(kind, [])) for kind in kinds.all}
    notes["copied_across"] += copies
    notes["shared_speaker"] = _shared_speakers(columns, folds, held_out, protocol)
    if protocol == "speaker":
        notes["no_speaker"] = [name for name, fold in zip(columns["id"], folds, strict=True) if fold == UNKNOWN_SPEAKER]
    lines = (f"{name} {fold}" for name, fold in zip(columns["id"], folds, strict=True))
    fingerprint = fingerprint_lines([report.fingerprints["all"], *lines])
    report = replace(
        report,
        folds=names,
        held_out=held_out,
        split=split,
        rows=dict(Counter(folds)),
        samples=samples,
        kinds=kinds,
        notes=notes,
        fingerprints={**report.fingerprints, "all": fingerprint},
        remarks=[*report.remarks, *([report.verdict] if report.standard is not None else [])],
        standard=None,
    )
    notes["untrained_class"] = report.untrained_classes(held_out)
    return report


def _shared_speakers(columns: dict, folds: list[int], held_out: list[int], protocol: str) -> list[str]:
    """Speakers of a fold held out who occur in rows that are trained on then."""
    heard: dict[str, set[int]] = defaultdict(set)
    trained: dict[str, set[int]] = defaultdict(set)
    splits = columns["split"] if protocol == "official" else [""] * len(folds)
    for name, fold, split in zip(columns["speaker"], folds, splits, strict=True):
        if name:
            heard[name].add(fold)
            if split in ("", *TRAINING_SPLITS):
                trained[name].add(fold)
    return sorted(name for name, where in heard.items() if any(trained[name] - {fold} for fold in where & set(held_out)))
