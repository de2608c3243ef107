"""The report of a corpus, the same for all loaders: samples by fold and class, what is damaged, what was left out.

dataset, report = load_iemocap(folder)       # or load_any_dataset
print(report.format())
report.notes["audio_missing"]                # names of the rows, files or lines of that kind
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

EXAMPLES = 3  # names of a kind in the printed report
MOST_NOTES = 500  # characters of the examples of a kind


class Standard(NamedTuple):
    """
    The samples of a corpus as they are known from public lists: numbers and digests only.

    Attributes:
        rows: fold -> number of rows.
        samples: fold -> class -> number of samples.
        fingerprints: "all" and the name of every fold -> sha256 of its samples and labels.
        ids_fingerprint: sha256 of the samples alone.
    """

    rows: dict[int, int]
    samples: dict[int, dict[str, int]]
    fingerprints: dict[str, str]
    ids_fingerprint: str


class Kinds(NamedTuple):
    """
    Kinds of notes, each with what it counts.

    Attributes:
        damaged: something is missing in the corpus for it.
        kept: it is in the corpus, and worth knowing.
        left_out: it is left out of an intact corpus as well.
    """

    damaged: dict[str, str]
    kept: dict[str, str]
    left_out: dict[str, str]

    @property
    def all(self) -> dict[str, str]:
        return {**self.damaged, **self.kept, **self.left_out}


class Published(NamedTuple):
    """
    The utterances of a copy of a corpus against those of the whole release, by the labels as they are written.

    Attributes:
        title: of the corpus.
        found, known: split ("" for all together) -> label -> number of utterances; of the release only what is known.
        meaning: label -> the class that it stands for, or None.
        speakers: numbers found and published; the latter is None where it is not known.
        clips: number of utterances published, None where it is not known.
        missing: names of utterances of the publisher's plan that are not there.
    """

    title: str
    found: Mapping[str, Mapping[str, int]]
    known: Mapping[str, Mapping[str, int]]
    meaning: Mapping[str, str | None]
    speakers: tuple[int, int | None]
    clips: int | None
    missing: list[str]

    @property
    def is_complete(self) -> bool:
        """Whether all that is known of the release is there, and nothing more; never of a corpus that grows."""
        counts = {
            split: {label: self.found.get(split, {}).get(label, 0) for label in known} for split, known in self.known.items()
        }
        speakers, known_speakers = self.speakers
        total = sum(self.found.get("", {}).values())
        return (
            counts == {split: dict(known) for split, known in self.known.items()}
            and not self.missing
            and known_speakers in (None, speakers)
            and self.clips == total
        )

    @property
    def verdict(self) -> str:
        total = sum(self.found.get("", {}).values())
        speakers, known_speakers = self.speakers
        if self.clips is None:
            return f"{total:,} utterances of {speakers:,} speakers. {self.title} grows: there is no number to compare with."
        if self.is_complete:
            return f"All {self.clips:,} utterances of {self.title} are there."
        of_speakers = f", {speakers:,} of {known_speakers:,} speakers" if known_speakers is not None else ""
        return f"Not the whole {self.title}: {total:,} of {self.clips:,} utterances{of_speakers}."

    def lines(self) -> list[str]:
        """A table of what was found and what was published."""
        labels = sorted({label for counts in (*self.found.values(), *self.known.values()) for label in counts}, key=str)
        table = {}
        for split in sorted({*self.found, *self.known}):
            found, known = self.found.get(split, {}), self.known.get(split, {})
            cells = [f"{found.get(label, 0):,}" + (f" / {known[label]:,}" if label in known else "") for label in labels]
            total = f"{sum(found.values()):,}" + (f" / {sum(known.values()):,}" if known else "")
            table[split or "all"] = [*cells, total]
        names = [
            f"{label} ({name})" if (name := self.meaning.get(label)) not in (None, label) else str(label) for label in labels
        ]
        width = max(13, *(len(name) + 2 for name in names))
        first = max(10, *(len(split) + 1 for split in table))
        lines = ["Found / published, by the labels as they are written:" if self.known else "Found:", ""]
        lines.append(f"{'':<{first}}" + "".join(f"{name:>{width}}" for name in (*names, "utterances")))
        return lines + [f"{split:<{first}}" + "".join(f"{cell:>{width}}" for cell in row) for split, row in table.items()]


@dataclass(frozen=True)
class Report:
    """
    What is in a loaded corpus, and what is not.

    Attributes:
        name: Hub name, folder, or last part of a path.
        classes: labels in the order of the logits.
        folds: number -> name of every fold.
        held_out: numbers of the folds to be tested on.
        split: in words how the folds were made.
        history: in words which turns are the history of another.
        rows: fold -> number of rows.
        samples: fold -> class -> number of samples.
        kinds: the kinds of notes that the loader knows.
        notes: kind, all of them -> names of files, lines or rows.
        fingerprints: "all" and what else the loader digests -> sha256.
        remarks: sentences on how the source was read.
        has_audio, has_text, has_dialogs: whether the corpus has recordings, transcripts, and dialogs.
        standard: what the corpus is compared with, None where nothing is known of it.
        published: the same of a corpus of `corpora/known.py`, by the labels as they are written.
    """

    name: str
    classes: list[str]
    folds: dict[int, str]
    held_out: list[int]
    split: str
    history: str
    rows: dict[int, int]
    samples: dict[int, dict[str, int]]
    kinds: Kinds
    notes: dict[str, list[str]]
    fingerprints: dict[str, str]
    remarks: list[str] = field(default_factory=list)
    has_audio: bool = True
    has_text: bool = True
    has_dialogs: bool = True
    standard: Standard | None = None
    published: Published | None = None

    @property
    def num_samples(self) -> int:
        return sum(sum(classes.values()) for classes in self.samples.values())

    @property
    def num_damaged(self) -> int:
        return sum(len(self.notes[kind]) for kind in self.kinds.damaged)

    @property
    def turns(self) -> dict[int, int]:
        """The rows of every fold, as IEMOCAP calls them."""
        return self.rows

    @property
    def is_standard(self) -> bool:
        """Whether the samples and their labels are exactly those of the literature."""
        return self.standard is not None and self.fingerprints["all"] == self.standard.fingerprints["all"]

    @property
    def verdict(self) -> str:
        """One sentence that compares the samples with those of the literature, "" where none are known."""
        if self.published is not None:
            return self.published.verdict
        if self.standard is None:
            return ""
        total = sum(sum(classes.values()) for classes in self.standard.samples.values())
        if self.is_standard:
            return f"The samples are the standard {total:,} subset."
        known = self.standard.fingerprints
        other = [
            str(number)
            for number, name in self.folds.items()
            if name in known and self.fingerprints.get(name) != known[name]
        ]
        same_ids = self.fingerprints["ids"] == self.standard.ids_fingerprint
        where = f"session{'s' if len(other) > 1 else ''} {', '.join(other)}"
        return f"Not the standard {total:,} subset: differs in {where}{' (labels only)' if same_ids else ''}."

    def commonest(self) -> str:
        """The commonest kinds of damage, with their numbers."""
        damage = sorted(((len(self.notes[kind]), kind) for kind in self.kinds.damaged if self.notes[kind]), reverse=True)
        return ", ".join(f"{count:,} {kind}" for count, kind in damage[:EXAMPLES]) or "no damage"

    def examples(self, *kinds: str) -> str:
        """The first names of some kinds."""
        names = [name for kind in kinds for name in self.notes[kind]]
        text = ", ".join(names[:EXAMPLES])
        return (text if len(text) <= MOST_NOTES else f"{text[:MOST_NOTES]}...") + (", ..." if len(names) > EXAMPLES else "")

    def check_damage(self, max_bad: int | None) -> None:
        """Raises ValueError where more is damaged than `max_bad` allows; None allows everything."""
        if max_bad is not None and self.num_damaged > max_bad:
            raise ValueError(
                f"{self.num_damaged:,} damaged items in {self.name}, max_bad allows {max_bad:,}; commonest: "
                f"{self.commonest()}; such as {self.examples(*self.kinds.damaged)}. Repair the corpus, or allow more"
            )

    def check_classes(self) -> None:
        """Raises ValueError where a class has no sample at all."""
        without = [name for name in self.classes if not any(counts[name] for counts in self.samples.values())]
        if without:
            kinds = [kind for kind in ("audio_damaged", "part_damaged", "audio_missing") if kind in self.notes]
            raise ValueError(
                f"no row of {', '.join(without)} has a recording that can be used: {self.commonest()}, such as "
                f"{self.examples(*kinds)}"
            )

    def check_modality(self, modality: str) -> None:
        """Raises ValueError where a model of this modality asks for what the corpus does not have."""
        if modality != "text" and not self.has_audio:
            raise ValueError(f"{self.name} has no recordings (audio_column): take a recipe of words alone, such as A5")
        if modality != "speech" and not self.has_text:
            raise ValueError(f"{self.name} has no transcripts (text_column): take a recipe of speech alone, such as B5")

    def untrained_classes(self, folds: Iterable[int]) -> list[str]:
        """Classes that occur in one of the folds and in no other, so that a model tested on it never saw them."""
        return [
            f"{name} (fold {fold})"
            for fold in folds
            for name in self.classes
            if self.samples[fold].get(name)
            and not any(self.samples[other].get(name) for other in self.samples if other != fold)
        ]

    def check_folds(self, folds: Iterable[int]) -> None:
        """Raises ValueError where a class occurs in a test fold alone."""
        if untrained := self.untrained_classes(folds):
            raise ValueError(
                f"classes that occur in the fold held out and nowhere else: {', '.join(untrained)}. A model cannot learn "
                "them: leave them out (--labels), hold other folds out (--folds), or make other folds"
            )

    # ------------------------------------------------------------------------------------------------------------ text

    def format(self) -> str:
        """The report as text: samples of every fold and class, then the notes with up to three names of each kind."""
        published = [] if self.published is None else ["", *self.published.lines()]
        lines = [f"{self.name}: {self.split}", "", *self._table(), *published]
        if self.verdict:
            lines += ["", self.verdict]
        lines += ["", "How it was read:", *(f"  {remark}" for remark in self.remarks)] if self.remarks else []
        headings = {
            "Damaged or missing": self.kinds.damaged,
            "Kept, but worth knowing": self.kinds.kept,
            "Left out as usual": self.kinds.left_out,
        }
        for heading, kinds in headings.items():
            kinds = {kind: text for kind, text in kinds.items() if self.notes[kind]}
            lines += ["", f"{heading}:{'' if kinds else ' nothing'}"]
            for kind, text in kinds.items():
                lines += [f"{len(self.notes[kind]):>7,}  {kind}: {text}", f"{'':9}{self.examples(kind)}"]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        """Samples and rows of every fold; found / known where the corpus has a standard."""
        known = self.standard

        def cells(samples: dict[str, int], rows: int, standard: dict[str, int], standard_rows: int) -> list[str]:
            found = [*(samples.get(name, 0) for name in self.classes), sum(samples.values()), rows]
            if known is None:
                return [f"{number:,}" for number in found]
            expected = [*(standard[name] for name in self.classes), sum(standard.values()), standard_rows]
            return [f"{number:,} / {other:,}" for number, other in zip(found, expected, strict=True)]

        def total(counts: dict[int, dict[str, int]]) -> dict[str, int]:
            return {name: sum(classes.get(name, 0) for classes in counts.values()) for name in self.classes}

        table = {}
        for fold, name in self.folds.items():
            title = name if known is not None else f"{fold} ({name})"[:23]
            standard = (known.samples[fold], known.rows[fold]) if known is not None else ({}, 0)
            table[title] = cells(self.samples.get(fold, {}), self.rows.get(fold, 0), *standard)
        standard = (total(known.samples), sum(known.rows.values())) if known is not None else ({}, 0)
        table["all"] = cells(total(self.samples), sum(self.rows.values()), *standard)
        width = max(14 if known is not None else 10, *(len(name) + 2 for name in self.classes))
        first = max(10, *(len(title) + 1 for title in table))
        lines = ["Found / in the standard release:", ""] if known is not None else []
        lines.append(f"{'fold':<{first}}" + "".join(f"{name:>{width}}" for name in (*self.classes, "samples", "rows")))
        return lines + [f"{title:<{first}}" + "".join(f"{cell:>{width}}" for cell in row) for title, row in table.items()]

    def to_json(self) -> str:
        """
        The counters as JSON.

        Each kind of note -> {"count", "items"}, and beside them "turns" and "samples" by the name of the fold,
        "fingerprints", and "standard": whether the samples are the standard ones.
        """
        counters: dict = {kind: {"count": len(names), "items": names} for kind, names in self.notes.items()}
        counters["turns"] = {self.folds[number]: count for number, count in self.rows.items()}
        counters["samples"] = {self.folds[number]: dict(classes) for number, classes in self.samples.items()}
        counters["fingerprints"] = self.fingerprints
        counters["standard"] = self.is_standard
        if self.published is not None:
            counters["published"] = {
                "complete": self.published.is_complete,
                "found": {split or "all": dict(counts) for split, counts in self.published.found.items()},
                "known": {split or "all": dict(counts) for split, counts in self.published.known.items()},
            }
        return json.dumps(counters, ensure_ascii=False, indent=1) + "\n"


def fingerprint_lines(lines: Iterable[str]) -> str:
    """sha256 of lines, sorted."""
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(lines)).encode()).hexdigest()
