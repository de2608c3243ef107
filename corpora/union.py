"""Several corpora as one: their rows in one label set, with names that keep them apart, and the share of each.

    dataset, report = unite({"ravdess": (rows, report), "crema-d": (rows, report)}, labels=None)

Ids, dialogs and speakers get the corpus's name before them (ravdess/01), and the column `corpus` has it. The classes are
those that every corpus has, unless others are asked for: a model that is tested on a whole corpus must know all of its
classes.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import datasets

from .emotions import standard_name
from .report import Kinds, Report, fingerprint_lines

COMMON = ("id", "dialog", "session", "speaker", "start", "end", "audio", "text", "label", "num_frames", "history")
OPTIONAL = ("gender", "emotion", "split", "recording")  # columns that not every corpus has
KINDS = Kinds(
    damaged={},
    kept={"shared_name": "speakers of one name in several corpora (kept apart)"},
    left_out={"other_class": "samples of classes that are not told apart here (history only)"},
)


def unite(
    parts: dict[str, tuple[datasets.Dataset, Report]], labels: Sequence[str] | None
) -> tuple[datasets.Dataset, Report]:
    """
    The rows of all corpora, in their order, and the report on them. The folds are the corpora.

    Args:
        parts: name -> rows of the schema, and the report on them.
        labels: classes, in this order; None: those that every corpus has.

    Raises:
        ValueError: fewer than two classes are common to all; a label is in no corpus.
    """
    classes = _common_classes({name: report for name, (_, report) in parts.items()}, labels)
    notes: dict[str, list[str]] = defaultdict(list)
    kinds, remarks, tables, samples = KINDS, [], [], {}
    for number, (name, (dataset, report)) in enumerate(parts.items(), start=1):
        kinds = Kinds(*({**ours, **theirs} for ours, theirs in zip(kinds, report.kinds, strict=True)))
        for kind, items in report.notes.items():
            notes[kind] += [f"{name}: {item}" for item in items]
        remarks += [f"{name}: {remark}" for remark in report.remarks]
        if report.published is not None:
            remarks.append(f"{name}: {report.published.verdict}")
        table, other = _part(name, number, dataset, report, classes)
        notes["other_class"] += other
        counts = Counter(table["label"])
        samples[number] = {label: counts[place] for place, label in enumerate(classes)}
        tables.append(table)
    notes["shared_name"] = _shared_names({name: dataset["speaker"] for name, (dataset, _) in parts.items()})
    total = sum(sum(counts.values()) for counts in samples.values())
    shares = [
        f"{name} {sum(counts.values()):,} ({sum(counts.values()) / max(total, 1):.0%})"
        for name, counts in zip(parts, samples.values(), strict=True)
    ]
    if any(set(dataset.column_names) & {"valence", "arousal", "dominance"} for dataset, _ in parts.values()):
        remarks.append("valence, arousal and dominance are left out: every corpus has a scale of its own")
    reports = [report for _, report in parts.values()]
    united = datasets.concatenate_datasets(tables)
    lines = [
        f"{row} {classes[label] if label >= 0 else ''}" for row, label in zip(united["id"], united["label"], strict=True)
    ]
    report = Report(
        name=" + ".join(parts),
        classes=classes,
        folds=dict(enumerate(parts, start=1)),
        held_out=[number for number, counts in samples.items() if sum(counts.values())],
        split="not split",
        history="as in each corpus, never from one to another",
        rows={number: len(table) for number, table in enumerate(tables, start=1)},
        samples=samples,
        kinds=kinds,
        notes={kind: notes[kind] for kind in kinds.all},
        fingerprints={"all": fingerprint_lines([*(report.fingerprints["all"] for report in reports), *lines])},
        remarks=[f"samples of each corpus: {', '.join(shares)}", *remarks],
        has_audio=all(report.has_audio for report in reports),
        has_text=all(report.has_text for report in reports),
        has_dialogs=any(report.has_dialogs for report in reports),
    )
    return united, report


def _common_classes(reports: dict[str, Report], labels: Sequence[str] | None) -> list[str]:
    """The classes of the union, in the order of the first corpus that has them."""
    there = {name: {label for label in report.classes if _count(report, label)} for name, report in reports.items()}
    ordered = list(dict.fromkeys(label for report in reports.values() for label in report.classes))
    has = "; ".join(f"{name}: {', '.join(label for label in ordered if label in labels)}" for name, labels in there.items())
    if labels is None:
        classes = [label for label in ordered if all(label in labels for labels in there.values())]
        if len(classes) < 2:
            raise ValueError(
                f"the corpora have {len(classes)} classes in common, and a classifier needs two ({has}). Map labels that "
                "mean the same (--label_map LABEL=CLASS), or name the classes (--labels)"
            )
        return classes
    known = {standard_name(label) or label: label for label in ordered}
    classes = [known.get(standard_name(label) or label, label) for label in labels]
    unknown = [label for label in classes if not any(label in labels for labels in there.values())]
    if unknown or len(set(classes)) < max(2, len(classes)):
        raise ValueError(
            f"--labels {' '.join(labels)}: they must be at least two different ones of those that occur ({has})"
        )
    return classes


def _count(report: Report, label: str) -> int:
    return sum(counts.get(label, 0) for counts in report.samples.values())


def _part(
    name: str, number: int, dataset: datasets.Dataset, report: Report, classes: list[str]
) -> tuple[datasets.Dataset, list[str]]:
    """The rows of one corpus as they stand in the union, and the names of samples of other classes."""
    columns = dataset.select_columns([column for column in dataset.column_names if column not in ("audio", "history")])[:]
    places = {place: classes.index(label) if label in classes else -1 for place, label in enumerate(report.classes)}
    labels = [places.get(label, -1) for label in columns["label"]]
    other = [
        f"{row} ({report.classes[old]})"
        for row, old, new in zip(columns["id"], columns["label"], labels, strict=True)
        if old >= 0 > new
    ]
    changed = {
        "id": [f"{name}/{row}" for row in columns["id"]],
        "dialog": [f"{name}/{dialog}" for dialog in columns["dialog"]],
        "session": [number] * len(labels),
        "speaker": [speaker and f"{name}/{speaker}" for speaker in columns["speaker"]],
        "label": labels,
        "num_frames": [
            frames if new >= 0 or old < 0 else 0
            for frames, old, new in zip(columns["num_frames"], columns["label"], labels, strict=True)
        ],
        **{column: columns[column] for column in ("start", "end", "text")},
        **{column: columns.get(column, [""] * len(labels)) for column in OPTIONAL},
        "corpus": [name] * len(labels),
        "votes": _votes(columns.get("votes", [[]] * len(labels)), report.classes, classes),
    }
    kinds: dict = {column: datasets.Value("string") for column in changed}
    kinds.update(
        session=datasets.Value("int32"), label=datasets.ClassLabel(names=classes), num_frames=datasets.Value("int64")
    )
    kinds.update(dict.fromkeys(("start", "end"), datasets.Value("float64")))
    kinds["votes"] = datasets.List(datasets.Value("float64"))
    described = datasets.Dataset.from_dict(changed, features=datasets.Features(kinds))
    joined = datasets.concatenate_datasets([described, dataset.select_columns(["audio", "history"])], axis=1)
    return joined, [f"{name}: {row}" for row in other]


def _votes(votes: Sequence[Sequence[float]], old: Sequence[str], new: Sequence[str]) -> list[list[float]]:
    """Votes in the order of the union's classes; an empty list where none of them has any."""
    rows = []
    for numbers in votes:
        counts = dict(zip(old, numbers, strict=False))
        row = [counts.get(label, 0.0) for label in new]
        rows.append(row if any(row) else [])
    return rows


def _shared_names(speakers: dict[str, Sequence[str]]) -> list[str]:
    """Names of speakers that occur in several corpora."""
    where: dict[str, list[str]] = defaultdict(list)
    for name, column in speakers.items():
        for speaker in sorted(set(column) - {""}):
            where[speaker].append(name)
    return [f"{speaker} ({', '.join(names)})" for speaker, names in where.items() if len(names) > 1]
