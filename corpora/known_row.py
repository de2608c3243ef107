"""What the row of a known corpus may say; the rows are in `corpora/known.py`.

A recording is known by the end of its path without the file's ending: `clips` is a regular expression whose named groups are
its fields. Fields are `emotion` (the label as it is written), `speaker`, `gender`, `intensity`, `sentence`, `session`,
`split`, `text`, `dialog`, `order`, `valence`, `arousal` and `dominance`. Tables and text files beside the recordings
(`files`) have fields too, and their rows are joined with the recordings by the id. In an id or a field, {name} stands for a
column or a group, {name.stem} for a file name without its ending, and {split} for a split as `splits` calls it.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

NOT_VERIFIED = "not verified"  # in place of a source, or at its beginning


@dataclass(frozen=True)
class Facts:
    """
    A table or a text file of a corpus.

    Attributes:
        name: what people call it.
        path: regular expression of the end of its path. Of several files with the same groups the one nearest to the root is
            read, so that tables of earlier releases in folders below do not count.
        id: of the utterance that a row is about.
        fields: name -> what it says.
        line: regular expression of a line, of a file that is no table with names of columns. Lines that do not match say
            nothing.
        has_utterances: whether each row is an utterance, so that one without a recording is missing.
        only: column and regular expression of the rows that count.
        vote: column, or group of the lines that follow, with what one annotator chose. An utterance may have many.
        vote_line: regular expression of such a line.
        vote_counts: columns with the number of votes for a label, by the label as the row of the corpus writes it.
        encoding: of text files that are neither UTF-8, UTF-16 nor cp1252.
    """

    name: str
    path: str
    id: str
    fields: Mapping[str, str] = field(default_factory=dict)
    line: str | None = None
    has_utterances: bool = False
    only: tuple[str, str] | None = None
    vote: str | None = None
    vote_line: str | None = None
    vote_counts: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None


@dataclass(frozen=True)
class KnownCorpus:
    """
    What is known of a corpus.

    Attributes:
        title, language, licence, page: for people.
        classes: in words, for the table of docs/corpora.md.
        layout: an example of a recording's path.
        clips: regular expression of a recording's path.
        emotions: label as it is written -> standard name; None for a label that is no class.
        protocols: names of `corpora/protocols.py` that the corpus allows; the first one is used by default.
        num_folds: into how many folds the speakers are dealt by default; None for a fold of each speaker.
        id: of a recording; None for the last part of its path.
        files: tables and text files beside the recordings.
        splits: split as it is written -> train, validation, or the name of a test split.
        speakers: speaker as it is written -> the speaker that is meant, where a copy's names differ; None for no speaker.
        genders: speaker -> F or M.
        words: sentence -> its words, or a template; the same sentences are said in every emotion.
        complete: names of all recordings, with {a,b} and {1..9} for each of several, where the publisher's plan gives them.
        counts: split ("" without splits) -> label -> number of utterances of the whole release.
        num_clips, num_speakers: of the whole release, None where it grows or nothing is known.
        other_files: regular expression of recordings that belong to the release and are no utterances -> what they are.
        faults: id -> what is wrong with it in every copy.
        label_sets: name -> label -> class; the first one is used by default. For `--labels`.
        sources: fact -> where it was read, or that it could not be verified.
    """

    title: str
    language: str
    licence: str
    page: str
    layout: str
    emotions: Mapping[str, str | None]
    protocols: tuple[str, ...]
    sources: Mapping[str, str]
    clips: str = ""
    num_folds: int | None = None
    id: str | None = None
    files: tuple[Facts, ...] = ()
    splits: Mapping[str, str] = field(default_factory=dict)
    speakers: Mapping[str, str | None] = field(default_factory=dict)
    genders: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, str] | str = field(default_factory=dict)
    complete: tuple[str, ...] = ()
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    num_clips: int | None = None
    num_speakers: int | None = None
    other_files: Mapping[str, str] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    label_sets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def classes(self) -> list[str]:
        """The standard names of its emotions, in the order of the row."""
        return list(dict.fromkeys(name for name in self.emotions.values() if name is not None))

    @property
    def complete_names(self) -> list[str]:
        return [name for template in self.complete for name in expand(template)]


def expand(template: str) -> Iterator[str]:
    """Yield every text that a template stands for: `a{1,2}-{08..10}` is a1-08, a1-09, a1-10, a2-08, a2-09 and a2-10."""
    parts = re.split(r"\{([^}]*)\}", template)
    for number in range(1, len(parts), 2):
        first, dots, last = parts[number].partition("..")
        if dots:
            parts[number] = [f"{value:0{len(first)}d}" for value in range(int(first), int(last) + 1)]
        else:
            parts[number] = parts[number].split(",")
    choices = [part if isinstance(part, list) else [part] for part in parts]
    return map("".join, itertools.product(*choices))


# ------------------------------------------------------------------------------------------------------------ the page


def format_table(rows: Mapping[str, KnownCorpus]) -> str:
    """The corpora as a Markdown table, for docs/corpora.md."""
    lines = ["| name | corpus | language | classes | speakers | utterances | split by | licence |", f"|{'---|' * 8}"]
    for name, row in rows.items():
        classes = ", ".join(row.classes)
        if row.label_sets:
            sets = (f"{word}: {', '.join(dict.fromkeys(labels.values()))}" for word, labels in row.label_sets.items())
            classes = "; ".join(sets)
        protocols = ", ".join(row.protocols)
        if row.num_folds is not None:
            protocols = protocols.replace("speaker", f"speaker ({row.num_folds} folds)", 1)
        speakers = "" if row.num_speakers is None else f"{row.num_speakers:,}"
        clips = "grows" if row.num_clips is None else f"{row.num_clips:,}"
        cells = [f"`{name}`", f"[{row.title}]({row.page})", row.language, classes, speakers, clips, protocols, row.licence]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def format_sources(rows: Mapping[str, KnownCorpus]) -> str:
    """What each row says of its files and where its facts were read, as Markdown, for docs/corpora.md."""
    parts = []
    for name, row in rows.items():
        lines = [f"### {row.title}", "", f"`{name}`: files such as `{row.layout}`.", ""]
        lines += [f"- {fact}: {source}" for fact, source in row.sources.items()]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
