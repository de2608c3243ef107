"""IEMOCAP as a dataset: one row per evaluated turn, with the dialog's earlier turns, and a report of what was met.

    python -m lemer.corpora.iemocap RELEASE_FOLDER [--manifest FILE] [--counters FILE]

    dataset, report = load_iemocap("~/IEMOCAP_full_release")
    print(report.format())
    samples = dataset.filter(lambda label: label >= 0, input_columns="label")

The release is read in place, and any folder of the same layout is read as well. A bad file, line or recording never
stops the reading; it is counted by kind and named. The four classes are ang, hap (with exc), neu and sad;
`labels` asks for others (six, or four without excited: `corpora/known.py`). Turns of other classes are rows with the label
-1: they are history of later turns, never samples.

Columns of a row:
    id, dialog       such as Ses01F_impro01_M000 and Ses01F_impro01
    session          1 to 5: leave-one-session-out folds split by it
    speaker, gender  such as Ses01_M and M, from the id's last part (the dialog's name tells who wore the markers)
    start, end       seconds from the dialog's beginning, from the label file
    audio            {"path": ..., "bytes": None}: not decoded, None where there is no recording
    text             the transcript, "" where it is empty or missing
    label            ClassLabel ang, hap, neu, sad; -1 for a turn that is history only
    emotion          the label file's code, such as exc or fru
    num_frames       samples of the recording at 16 kHz; 0 for a turn that has neither a class nor votes for one
    history          texts of all earlier turns of the dialog, oldest first, of both speakers, whatever their label
    history_ids      their ids
    problems         kinds of note on this turn, see `KINDS` in corpora/release.py
    votes, valence, arousal, dominance
                     what the outside raters said, where the label files have it: votes for each class, and means from 1
                     to 5 (`corpora/annotations.py`)
Rows are ordered by session, dialog, and then (start, end, id).

Prepared once under the cache of `datasets`; a changed corpus is noticed and read again.
"""

import argparse
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import cast

import datasets
import pyarrow as pa
from datasets.exceptions import ManualDownloadError

from ..audio_lemer import SAMPLING_RATE
from ..runtime.command import command_parser
from ..runtime.files import replace_files
from ..runtime.locks import hold
from ..runtime.stopping import run_command
from .annotations import add_annotations, votes_by_class
from .columns import ATTRIBUTES
from .release import (
    CLASS_OF,
    CODES,
    DROPPED,
    LOST,
    RELEASE_KINDS,
    SESSIONS,
    Dialog,
    check_audio,
    find_release,
    read_release,
)
from .report import Report, Standard, fingerprint_lines

SCHEMA_VERSION = "3"  # in the cache's key: raise it with every change of what a row holds
CLASSES = ("ang", "hap", "neu", "sad")

# The release as it is known from public lists: numbers and digests only, nothing of the corpus.
STANDARD_TURNS = {1: 1819, 2: 1811, 3: 2136, 4: 2103, 5: 2170}  # 10,039
STANDARD_SAMPLES = {  # in the order of CLASSES; 5,531
    1: (229, 278, 384, 194),
    2: (137, 327, 362, 197),
    3: (240, 286, 320, 305),
    4: (327, 303, 258, 143),
    5: (170, 442, 384, 245),
}
# sha256 of the lines "<id> <label>\n" of the samples, sorted.
STANDARD_FINGERPRINTS = {
    "all": "d77e8e3576bf030217bdffc87179c976648d31c3970d47743931f4841e922095",
    "Session1": "65002cd528d83675c5ee43e57a10aae566f7a11d06f59f3f7cf532e1d53944b8",
    "Session2": "39cdc202486088cb31a5113cb89cded932d8ba514c28bd0dd70b6f3d335033a8",
    "Session3": "ab0496d62dbde557444a4c4bc1efc35c0c378d883ef1011629ee251b7110e127",
    "Session4": "635bc01e88579ecafd38ce9a446d9047ce51bdc8c79c4794f7dca425860188bf",
    "Session5": "ddb8de5b96a8429d145a0966652efaf95eb4df5a1ea4d4a53648f12954ab3e16",
}
STANDARD_IDS_FINGERPRINT = "c3532591dc59b0ec0efd2b67553f2a045a96a0f8879ae172d5a4fc713dbc0baa"  # of the lines "<id>\n"
STANDARD = Standard(
    rows=STANDARD_TURNS,
    samples={session: dict(zip(CLASSES, counts, strict=True)) for session, counts in STANDARD_SAMPLES.items()},
    fingerprints=STANDARD_FINGERPRINTS,
    ids_fingerprint=STANDARD_IDS_FINGERPRINT,
)

MANIFEST_HISTORY = 10  # turns of history in a manifest's line, the newest ones
MAX_PROCESSES = 8  # reading is soon limited by the disk
# `datasets` starts processes anew for each session, which takes longer than decoding fewer recordings than this: 7,650
# clips of 4.5 s took 2.3 s in one process and 6.1 s in two.
FEW_TURNS = 20_000


class Iemocap(datasets.ArrowBasedBuilder):
    """Builder of the dataset, with the splits session1 to session5. `load_iemocap` is the usual way in.

    It reads labels and transcripts when it is made, because the cache has to be keyed by their content: by itself
    `datasets` keys it by the text of `data_dir` and would give the old rows of a changed corpus.

    Args:
        cache_dir: folder of the cache; by default that of `datasets`.
        data_dir: the release's folder, see `find_release`.
        labels: the label file's code -> class; by default the four classes.

    Attributes:
        release: what was read, a `lemer.corpora.release.Release`.
        labels: as above.

    Raises:
        The errors of `find_release`.
    """

    VERSION = datasets.Version("1.0.0")

    def __init__(
        self,
        cache_dir: str | None = None,
        data_dir: str | os.PathLike | None = None,
        labels: Mapping[str, str] | None = None,
        **kwargs,
    ):
        if data_dir is None:
            raise ManualDownloadError(
                "IEMOCAP cannot be downloaded: USC SAIL gives it out on request (https://sail.usc.edu/iemocap); "
                "give its folder as data_dir"
            )
        self.release = read_release(find_release(data_dir))
        self.labels = dict(CLASS_OF if labels is None else labels)
        told = "" if self.labels == CLASS_OF else json.dumps(self.labels)
        key = hashlib.sha256(f"{SCHEMA_VERSION}\n{self.release.digest}{told}".encode()).hexdigest()[:32]
        super().__init__(cache_dir=cache_dir, data_dir=self.release.root, hash=key, **kwargs)

    def _info(self) -> datasets.DatasetInfo:
        features = {
            "id": datasets.Value("string"),
            "dialog": datasets.Value("string"),
            "session": datasets.Value("int32"),
            "speaker": datasets.Value("string"),
            "gender": datasets.Value("string"),
            "start": datasets.Value("float64"),
            "end": datasets.Value("float64"),
            "audio": datasets.Audio(sampling_rate=SAMPLING_RATE, decode=False),
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=class_names(self.labels)),
            "emotion": datasets.Value("string"),
            "num_frames": datasets.Value("int64"),
            "history": datasets.List(datasets.Value("string")),
            "history_ids": datasets.List(datasets.Value("string")),
            "problems": datasets.List(datasets.Value("string")),
        }
        return datasets.DatasetInfo(
            description="IEMOCAP, one row per evaluated turn, with the history of its dialog.",
            features=datasets.Features(features),
            license="USC SAIL's release form: no redistribution",
        )

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
        # A list is what `datasets` shares out among processes. It refuses to read a split without rows: there is none.
        dialogs = [dialog for dialog in self.release.dialogs if dialog.turns]
        return [
            datasets.SplitGenerator(
                name=f"session{number}",
                gen_kwargs={"dialogs": [dialog for dialog in dialogs if dialog.session == number]},
            )
            for number in sorted({dialog.session for dialog in dialogs})
        ]

    def _generate_tables(self, dialogs: list[Dialog]) -> Iterator[tuple[str, pa.Table]]:
        schema = datasets.Features(self.info.features or {}).arrow_schema
        for dialog in dialogs:
            yield dialog.id, pa.Table.from_pylist(dialog_rows(dialog, self.labels), schema=schema)


def class_names(labels: Mapping[str, str]) -> list[str]:
    """The classes of a map of codes, in the order of the logits."""
    return sorted(set(labels.values()))


def dialog_rows(dialog: Dialog, labels: Mapping[str, str] = CLASS_OF) -> list[dict]:
    """Returns the rows of a dialog in time order. Decodes the recordings of turns of the classes, or with votes for one."""
    rows, history, history_ids, classes = [], [], [], class_names(labels)
    for turn in dialog.turns:
        gender = turn.id.rpartition("_")[2][0]
        problems, frames = [], 0
        if turn.text is None:
            problems.append("transcript_missing")
        elif not turn.text:
            problems.append("transcript_empty")
        if turn.emotion in labels:
            frames, audio_problems = check_audio(turn.wav, turn.end - turn.start)
            problems += audio_problems
        elif turn.emotion not in CODES:
            problems.append("unknown_label_code")
        elif any(code in labels for code in turn.annotation.votes):
            frames, _ = check_audio(turn.wav, turn.end - turn.start)  # for a training on votes, so no loss of a sample
        whole = not any(kind in LOST for kind in problems)
        usable = turn.emotion in labels and whole
        rows.append(
            {
                "id": turn.id,
                "dialog": dialog.id,
                "session": dialog.session,
                "speaker": f"{turn.id[:5]}_{gender}",
                "gender": gender,
                "start": turn.start,
                "end": turn.end,
                "audio": {"bytes": None, "path": turn.wav},
                "text": turn.text or "",
                "label": classes.index(labels[turn.emotion]) if usable else -1,
                "emotion": turn.emotion,
                "num_frames": frames if whole else 0,
                "history": list(history),
                "history_ids": list(history_ids),
                "problems": problems,
            }
        )
        if turn.text:
            history.append(turn.text)
            history_ids.append(turn.id)
    return rows


def load_iemocap(
    data_dir: str | os.PathLike,
    *,
    labels: Mapping[str, str] | None = None,
    cache_dir: str | os.PathLike | None = None,
    num_proc: int | None = None,
    max_bad: int | None = None,
) -> tuple[datasets.Dataset, Report]:
    """Loads IEMOCAP, or a corpus of its layout, from the folder it was unpacked in.

    Args:
        data_dir: the folder that holds Session1 to Session5, the one above it, or one of the sessions.
        labels: the label file's code -> class, such as `KNOWN["iemocap"].label_sets["six"]`; turns of other codes are
            history only. By default ang, hap (with exc), neu and sad.
        cache_dir: folder of the prepared rows; by default the cache of `datasets`.
        num_proc: processes that decode the recordings on the first load. By default one per core (8 at most) for a
            corpus much larger than IEMOCAP, else a single one, which is faster unless the disk is slow to answer.
            Never more than the session with the fewest dialogs has dialogs.
        max_bad: refuse a corpus with more than so many damaged items (files, lines, turns of the kinds in
            `lemer.corpora.release.LOST`; a lost transcript line counts as line and as turn). By default any number
            is only reported.

    Returns:
        The rows of all sessions (columns in this file's docstring), and the report on them.

    Raises:
        FileNotFoundError, NotADirectoryError, datasets.exceptions.ManualDownloadError: `data_dir` is no release.
        ValueError: no turn is usable; too many are damaged; an argument is out of range.
    """
    if num_proc is not None and num_proc < 1:
        raise ValueError(f"num_proc must be at least 1, got {num_proc}")
    if max_bad is not None and max_bad < 0:
        raise ValueError(f"max_bad is a number of damaged items, at least 0, got {max_bad}")
    builder = Iemocap(cache_dir=None if cache_dir is None else os.fspath(cache_dir), data_dir=data_dir, labels=labels)
    root, notes = builder.release.root, builder.release.notes
    dialogs = [dialog for dialog in builder.release.dialogs if dialog.turns]
    if not dialogs:
        damage = ", ".join(f"{len(notes[kind]):,} {kind}" for kind in LOST if notes.get(kind)) or "no damage"
        raise ValueError(
            f"no evaluated turn in {root}: {damage}. Are the label files "
            "Session*/dialog/EmoEvaluation/Ses*.txt there, and named like dialogs?"
        )
    if num_proc is None:
        turns = sum(turn.emotion in builder.labels for dialog in dialogs for turn in dialog.turns)
        num_proc = 1 if turns < FEW_TURNS else min(os.cpu_count() or 1, MAX_PROCESSES)
    sessions = [dialog.session for dialog in dialogs]
    builder.download_and_prepare(num_proc=min(num_proc, *(sessions.count(number) for number in set(sessions))))
    dataset = cast(datasets.Dataset, builder.as_dataset(split="all"))
    report = make_report(dataset, root, notes, builder.labels)
    if not report.num_samples:
        raise ValueError(
            f"no usable turn of the classes {', '.join(report.classes)} in {root}: {len(dataset):,} evaluated turns, "
            f"{report.commonest()}. Is the release complete (labels, transcriptions, sentences/wav)?"
        )
    report.check_damage(max_bad)
    return annotate(dataset, dialogs, builder.labels), report


def annotate(dataset: datasets.Dataset, dialogs: list[Dialog], labels: Mapping[str, str]) -> datasets.Dataset:
    """The rows with what the outside raters said of them; their votes for codes without a class are left out."""
    told = {turn.id: turn.annotation for dialog in dialogs for turn in dialog.turns}
    annotations = [told[name] for name in dataset["id"][:]]
    written = []
    for annotation in annotations:
        counts: dict[str, float] = {}
        for code, count in annotation.votes.items():
            if code in labels:
                counts[labels[code]] = counts.get(labels[code], 0.0) + count
        written.append(json.dumps(counts))
    votes = votes_by_class(written, class_names(labels), dataset["id"], {"other_vote": []})
    return add_annotations(dataset, votes, {name: [getattr(told, name) for told in annotations] for name in ATTRIBUTES})


def make_report(
    dataset: datasets.Dataset, root: str, notes: dict[str, list[str]], labels: Mapping[str, str] = CLASS_OF
) -> Report:
    """
    The report of a dataset.

    Args:
        dataset: rows of all sessions.
        root: the release's folder.
        notes: kind -> names, of the release; the notes of the turns are in the dataset.
        labels: the label file's code -> class.
    """
    dropped = {
        f"dropped_{code}": f"turns labelled {code} (history only)" for code in CODES if code not in {*labels, *DROPPED}
    }
    kinds = RELEASE_KINDS._replace(left_out={**RELEASE_KINDS.left_out, **dropped})
    notes = {kind: list(notes.get(kind, [])) for kind in kinds.all}
    classes = class_names(labels)
    turns: dict[int, int] = dict.fromkeys(SESSIONS, 0)
    samples: dict[int, dict[str, int]] = {number: dict.fromkeys(classes, 0) for number in SESSIONS}
    labelled = []
    columns = dataset.select_columns(["id", "session", "label", "emotion", "problems"])[:]
    for utterance, session, label, emotion, problems in zip(*columns.values(), strict=True):
        turns[session] += 1
        if label >= 0:
            samples[session][classes[label]] += 1
            labelled.append((utterance, session, classes[label]))
        if emotion in CODES and emotion not in labels:
            notes[f"dropped_{emotion}"].append(utterance)
        for kind in problems:
            notes[kind].append(f"{utterance} ({emotion!r})" if kind == "unknown_label_code" else utterance)
    fingerprints = {
        "all": fingerprint_lines(f"{utterance} {label}" for utterance, _, label in labelled),
        "ids": fingerprint_lines(utterance for utterance, _, _ in labelled),
    }
    sessions = sorted({session for _, session, _ in labelled})
    for number in sessions:
        lines = (f"{utterance} {label}" for utterance, session, label in labelled if session == number)
        fingerprints[f"Session{number}"] = fingerprint_lines(lines)
    missing = notes["session_missing"]
    return Report(
        name=root,
        classes=classes,
        folds={number: f"Session{number}" for number in SESSIONS},
        held_out=sessions,
        split="leave one session out; speakers of a session occur in no other",
        history="every earlier turn of the dialog, both speakers, whatever its label, with the corpus's transcripts",
        rows=turns,
        samples=samples,
        kinds=kinds,
        notes=notes,
        fingerprints=fingerprints,
        remarks=[f"Missing: {', '.join(missing)}."] if missing else [],
        standard=STANDARD if labels == CLASS_OF else None,
    )


def manifest(dataset: datasets.Dataset) -> Iterator[dict]:
    """Yields one small dictionary per sample, without its history's texts; `history_ids` are the newest ten."""
    keys = [*"id session dialog gender speaker start end label text num_frames history_ids".split()]
    for row in cast(Iterable[dict], dataset.select_columns(keys)):
        if row["label"] >= 0:
            row = {key: row[key] for key in keys}
            yield {**row, "label": CLASSES[row["label"]], "history_ids": row["history_ids"][-MANIFEST_HISTORY:]}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit status: 0, or 2 after one line on stderr."""
    parser = command_parser(
        "python -m lemer.corpora.iemocap",
        "IEMOCAP_full_release",
        "Reads an IEMOCAP release and reports what is in it, what is damaged, and whether it gives the\n"
        "5,531 utterances of the literature. The recordings are decoded once; the second run is fast.",
    )
    parser.epilog = "IEMOCAP cannot be downloaded: USC SAIL gives it out on request (https://sail.usc.edu/iemocap)."
    parser.add_argument("data_dir", metavar="DIR", help="the folder that holds Session1 to Session5")
    parser.add_argument(
        "--manifest",
        metavar="FILE",
        help="write one JSON line per utterance of the four classes: id, session, dialog, gender, speaker, start, end "
        "(seconds), label (ang, hap, neu, sad), text, num_frames, history_ids (the newest ten, oldest first)",
    )
    parser.add_argument("--counters", metavar="FILE", help="write all counters, with all names, as JSON")
    parser.add_argument("--cache_dir", metavar="DIR", help="keep the prepared rows here (default: datasets' cache)")
    parser.add_argument("--num_proc", type=int, metavar="N", help="processes that decode (default: as many as pay)")
    parser.add_argument(
        "--max_bad", type=int, metavar="N", help="fail when more than N items are damaged (default: only report)"
    )
    options = parser.parse_args(arguments)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()  # a log wants the error's line only
    return run_command(parser.prog, lambda: _read_and_report(options), "No file was changed", failure=2)


def _read_and_report(options: argparse.Namespace) -> None:
    """Read the release, write the files that are asked for, and print the report."""
    outputs = [path for path in (options.manifest, options.counters) if path is not None]
    for path in outputs:
        if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
            raise FileNotFoundError(f"cannot write {path}: its folder is not there")
    if len({os.path.abspath(path) for path in outputs}) < len(outputs):
        raise ValueError(f"--manifest and --counters are the same file {outputs[0]}")
    with ExitStack() as locks:
        for path in outputs:
            locks.enter_context(hold(path))
        dataset, report = load_iemocap(
            options.data_dir, cache_dir=options.cache_dir, num_proc=options.num_proc, max_bad=options.max_bad
        )
        contents = {}
        if options.manifest is not None:
            lines = (json.dumps(row, ensure_ascii=False) for row in manifest(dataset))
            contents[options.manifest] = "".join(f"{line}\n" for line in lines)
        if options.counters is not None:
            contents[options.counters] = report.to_json()
        replace_files(contents)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name in the report may be more than the terminal can show
        sys.stdout.reconfigure(errors="backslashreplace")
    print(report.format())


if __name__ == "__main__":
    # By its importable name: a class of __main__ has another place in the cache, and no name in other processes.
    from .iemocap import main

    sys.exit(main())
