"""Reads what lies in a folder laid out like the IEMOCAP release: labels, transcripts, and which recordings there are.

    release = read_release(find_release("~/IEMOCAP_full_release"))
    release.dialogs[0].turns[0]      # id, start and end (seconds), emotion, text, path of the recording
    release.notes                    # kind -> names of the files, lines and turns with something to say about them

Nothing here stops at one bad file, line or recording: each is noted under one of the kinds below, and reading goes on.
`corpora/iemocap.py` makes the dataset and the report of it. All work with files is done here and not there: `datasets`
replaces `open`, `Path` and some of `os.path` in the module of a builder by versions that also take addresses.
"""

import hashlib
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import numpy as np
import soundfile
from datasets.exceptions import ManualDownloadError

from ..audio_lemer import SAMPLING_RATE, load_audio
from .recordings import SILENCE
from .report import Kinds

SESSIONS = (1, 2, 3, 4, 5)
CLASS_OF = {"ang": "ang", "hap": "hap", "exc": "hap", "neu": "neu", "sad": "sad"}  # the four-class set-up: exc is hap
DROPPED = ("fru", "xxx", "sur", "fea", "dis", "oth")  # known codes outside the four classes: history only
CODES = (*CLASS_OF, *DROPPED)
# A recording may be shorter than its label's span by this much before it is noted, whichever is more.
SHORTER_BY_SECONDS = 0.1
SHORTER_BY_SHARE = 0.1

LOST = {
    "session_missing": "sessions without a dialog/EmoEvaluation folder",
    "folder_unreadable": "folders that cannot be listed",
    "label_file_missing": "dialogs without a label file",
    "label_file_unreadable": "label files that cannot be read, or are no text",
    "label_file_empty": "label files without an evaluated turn",
    "transcript_file_missing": "dialogs without a transcript file",
    "transcript_file_unreadable": "transcript files that cannot be read, or are no text",
    "malformed_label_line": "label lines without valid times, id and emotion",
    "malformed_transcript_line": "transcript lines without valid id, times and colon",
    "foreign_label": "label lines with the id of another dialog",
    "foreign_transcript": "transcript lines with the id of another dialog",
    "duplicate_label": "label lines with an id met before (the first is kept)",
    "duplicate_transcript": "transcript lines with an id met before (the first is kept)",
    "unknown_label_code": "turns with an unknown emotion (history only)",
    "transcript_missing": "evaluated turns without a transcript (not in any history)",
    "audio_missing": "turns of the four classes without a recording (history only)",
    "audio_unreadable": "turns whose recording cannot be decoded (history only)",
    "audio_empty": "turns whose recording has no frames (history only)",
    "audio_not_finite": "turns whose recording holds NaN or infinity (history only)",
}
KEPT = {
    "decoded_as_cp1252": "files that are not UTF-8, read as cp1252",
    "decoded_with_replacement": "of those, files with bytes that cp1252 does not have, read as U+FFFD",
    "wrong_session_folder": "files in the folder of another session than their name says",
    "transcript_empty": "evaluated turns with an empty transcript (not in any history)",
    "audio_other_rate": f"recordings of another rate than {SAMPLING_RATE} Hz",
    "audio_other_channels": "recordings of more than one channel",
    "audio_silent": "recordings with nothing to hear (silence, or channels that cancel each other)",
    "audio_short": "recordings shorter than their label's span by more than 0.1 s and 10 %",
}
NORMAL = {
    **{f"dropped_{code}": f"turns labelled {code} (history only)" for code in DROPPED},
    "xx_turn": "lines of XX turns, which have no evaluation",
    "idless_line": "transcript lines of a speaker without an id",
    "transcript_without_label": "transcribed turns without an evaluation",
    "unexpected_file_name": "Ses*.txt files that are not named like a dialog",
}
# Every kind of note and what it counts. LOST is damage, for which something is missing in the dataset; what is noted
# as KEPT is in it; what is NORMAL is out of it in an intact release as well.
RELEASE_KINDS = Kinds(damaged=LOST, kept=KEPT, left_out=NORMAL)
KINDS = RELEASE_KINDS.all

_DIALOG = r"Ses0[1-5][FM]_[a-z]+[0-9]+(?:_[0-9]+)?[a-z]?"
_TIME = r"[0-9]+(?:\.[0-9]*)?"
_DIALOG_FILE = re.compile(rf"({_DIALOG})\.(?i:txt)")
_UTTERANCE = re.compile(rf"{_DIALOG}_[FM][0-9]{{3}}")
_XX_TURN = re.compile(r"\S+_[FM](?=[0-9]*X)[0-9X]{3}")
_LABEL_LINE = re.compile(rf"\[\s*({_TIME})\s*-\s*({_TIME})\s*\]\s*(\S+)\s+([^\s\[\]]+)(?:\s*\[[^\[\]]*\]?)?")
_TRANSCRIPT_LINE = re.compile(rf"(\S+?)\s*\[\s*{_TIME}\s*-\s*{_TIME}\s*\]\s*:(.*)", re.DOTALL)
_IDLESS_LINE = re.compile(r"[FM]\s*:")
_ATTRIBUTES = re.compile(rf"\[\s*({_TIME})\s*,\s*({_TIME})\s*,\s*({_TIME})\s*\]\s*$")
_RATER_LINE = re.compile(r"C-E[0-9]+\s*:([^()]*)")  # of an outside rater; C-F1 and C-M1 are the actors' own
# What raters write, and the code of a summary line that means the same.
RATER_WORDS = {
    **{"anger": "ang", "disgust": "dis", "excited": "exc", "fear": "fea", "frustration": "fru", "happiness": "hap"},
    **{"neutral": "neu", "neutral state": "neu", "other": "oth", "sadness": "sad", "surprise": "sur"},
}


class LabelLine(NamedTuple):
    """The summary line of one evaluated turn; `start` and `end` in seconds from the dialog's beginning."""

    id: str
    start: float
    end: float
    emotion: str


class TranscriptLine(NamedTuple):
    """The transcript of one turn; `text` may be empty."""

    id: str
    text: str


Line = TypeVar("Line", LabelLine, TranscriptLine)


class Annotation(NamedTuple):
    """What the annotators of a turn said.

    Attributes:
        valence, arousal, dominance: means over the raters, from 1 to 5; None where the line has none.
        votes: code -> number of outside raters; a rater who chose several categories has a share of a vote for each.
    """

    valence: float | None = None
    arousal: float | None = None
    dominance: float | None = None
    votes: Mapping[str, float] = MappingProxyType({})


class Turn(NamedTuple):
    """One evaluated turn.

    Attributes:
        id: such as `Ses01F_impro01_M000`.
        start, end: seconds from the dialog's beginning, from the label file.
        emotion: the label file's code as it stands there; any code.
        text: the transcript, stripped; None where there is none.
        wav: absolute path of the recording; None where there is none.
        annotation: what the annotators said.
    """

    id: str
    start: float
    end: float
    emotion: str
    text: str | None
    wav: str | None
    annotation: Annotation = Annotation()


class Dialog(NamedTuple):
    """The evaluated turns of one dialog, both speakers, in order of (start, end, id)."""

    id: str
    turns: list[Turn]

    @property
    def session(self) -> int:
        return int(self.id[4])


class Release(NamedTuple):
    """What `read_release` found.

    Attributes:
        root: absolute path of the folder that holds Session1 to Session5.
        dialogs: sorted by id, which is by session.
        notes: kind (of `KINDS`) -> names; a file is named by its path below `root`, a line by `path:number`.
        digest: hexadecimal digest of all that was read: it changes with `root`, with any label or transcript file, and
            with the name, size or time of any recording.
    """

    root: str
    dialogs: list[Dialog]
    notes: dict[str, list[str]]
    digest: str


def find_release(data_dir: str | os.PathLike) -> str:
    """Returns the absolute path of the release that `data_dir` is, lies one level above, or is a session folder of.

    Raises:
        FileNotFoundError: there is no such folder.
        NotADirectoryError: it is a file.
        datasets.exceptions.ManualDownloadError: there is no session in it.
        ValueError: several folders in it are releases.
    """
    if not os.fspath(data_dir):
        raise FileNotFoundError("data_dir is empty; expected the folder that holds Session1 to Session5")
    folder = Path(os.path.abspath(os.path.expanduser(data_dir)))
    if not folder.exists():
        raise FileNotFoundError(f"no folder {folder}; expected the IEMOCAP release, which holds Session1 to Session5")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; expected the folder that holds Session1 to Session5")
    if _has_session(folder):
        return str(folder.resolve())
    if re.fullmatch("Session[1-5]", folder.name) and _has_session(folder.parent):
        return str(folder.parent.resolve())
    inside = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and _has_session(path)]
    if len(inside) > 1:
        names = ", ".join(path.name for path in inside)
        raise ValueError(f"{folder} holds several releases: {names}; give one of them")
    if not inside:
        raise ManualDownloadError(
            f"no IEMOCAP release in {folder}: found none of Session1 to Session5 with a folder dialog/EmoEvaluation "
            "(labels), beside which dialog/transcriptions and sentences/wav are expected, neither there nor one level "
            "above or below. The corpus cannot be downloaded: USC SAIL gives it out on request "
            "(https://sail.usc.edu/iemocap); unpack it and give the folder that holds Session1 to Session5. Any other "
            f"corpus, a folder of recordings or a table, is given by its own name: --corpus {folder}"
        )
    return str(inside[0].resolve())


def _has_session(folder: Path) -> bool:
    return any(os.path.isdir(folder / f"Session{number}" / "dialog" / "EmoEvaluation") for number in SESSIONS)


def parse_label_line(line: str) -> LabelLine | str | None:
    """Parses a line of an EmoEvaluation file.

    Returns:
        The turn; or the kind of note where the line is meant as a turn's and is none ("malformed_label_line",
        "xx_turn"); or None for the other lines: header, raters, blank.
    """
    line = line.strip()
    if not line.startswith("["):
        # Raters' lines never name an utterance, so a line that does is a summary that lost its beginning.
        return "malformed_label_line" if _UTTERANCE.search(line) and not line.startswith("%") else None
    match = _LABEL_LINE.fullmatch(line)
    if match is None:
        # The header may come without its per cent sign.
        return None if line.startswith("[START_TIME") else "malformed_label_line"
    start, end, utterance, emotion = match.groups()
    if _XX_TURN.fullmatch(utterance):
        return "xx_turn"
    turn = LabelLine(utterance, float(start), float(end), emotion)
    if not _UTTERANCE.fullmatch(utterance) or not math.isfinite(turn.end) or turn.end < turn.start:
        return "malformed_label_line"
    return turn


def parse_rater_line(line: str) -> dict[str, float]:
    """The votes of a rater's line, by code; empty for every other line, and where the rater chose nothing."""
    match = _RATER_LINE.match(line.strip())
    words = [word.strip().casefold() for word in match[1].split(";")] if match else []
    codes = [RATER_WORDS.get(word, "oth") for word in words if word]
    return {code: count / len(codes) for code, count in Counter(codes).items()}


def parse_transcript_line(line: str) -> TranscriptLine | str | None:
    """Parses a line of a transcript file.

    Returns:
        The transcript; or the kind of note ("malformed_transcript_line", "idless_line", "xx_turn"); or None for a
        blank line.
    """
    line = line.strip()
    if not line:
        return None
    if _IDLESS_LINE.match(line):
        return "idless_line"
    match = _TRANSCRIPT_LINE.fullmatch(line)
    if match is None:
        return "malformed_transcript_line"
    utterance, text = match.groups()
    if _XX_TURN.fullmatch(utterance):
        return "xx_turn"
    return TranscriptLine(utterance, text.strip()) if _UTTERANCE.fullmatch(utterance) else "malformed_transcript_line"


def decode(data: bytes) -> tuple[str, list[str]]:
    """Returns the text, UTF-8 with or without BOM or else cp1252, and the kinds of note on how it was decoded."""
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        pass
    try:
        return data.decode("cp1252"), ["decoded_as_cp1252"]
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace"), ["decoded_as_cp1252", "decoded_with_replacement"]


def check_audio(path: str | None, span: float) -> tuple[int, list[str]]:
    """Decodes a recording once, to see that it can be used.

    Args:
        path: the file, or None where there is none.
        span: seconds from the label's start to its end.

    Returns:
        The number of samples that the model hears, at 16 kHz, and the kinds of note. 0 where it cannot be used.
    """
    if path is None:
        return 0, ["audio_missing"]
    # A pipe or a device would block, a folder is none of soundfile's errors on every system.
    if not os.path.isfile(path):
        return 0, ["audio_unreadable"]
    frames, finite, lowest, highest = 0, True, math.inf, -math.inf
    try:
        with soundfile.SoundFile(path) as recording:
            rate, channels = recording.samplerate, recording.channels
            while len(block := recording.read(2**20, dtype="float32", always_2d=True)):
                frames += len(block)
                finite = finite and bool(np.isfinite(block).all())
                mono = block.mean(axis=1)
                lowest, highest = min(lowest, float(mono.min())), max(highest, float(mono.max()))
    except (OSError, RuntimeError):  # soundfile.LibsndfileError is a RuntimeError
        return 0, ["audio_unreadable"]
    if not frames:
        return 0, ["audio_empty"]
    if not finite:
        return 0, ["audio_not_finite"]
    kinds, heard = [], frames
    if rate != SAMPLING_RATE:
        kinds.append("audio_other_rate")
        try:
            heard = len(load_audio(path))
        except (OSError, ValueError):
            return 0, ["audio_unreadable"]
    if channels != 1:
        kinds.append("audio_other_channels")
    if highest - lowest < SILENCE:
        kinds.append("audio_silent")
    if span - frames / rate > max(SHORTER_BY_SECONDS, SHORTER_BY_SHARE * span):
        kinds.append("audio_short")
    return heard, kinds


class _Reader:
    """One pass over a release: its notes, and a digest of what it met."""

    def __init__(self, root: str):
        self.root = root
        self.notes: dict[str, list[str]] = defaultdict(list)
        self.annotations: dict[str, Annotation] = {}
        self.sha256 = hashlib.sha256(os.fsencode(root))

    def name(self, path: str) -> str:
        # A name that is no UTF-8 could be neither printed nor written to JSON.
        return os.fsencode(os.path.relpath(path, self.root)).decode("utf-8", errors="replace")

    def digest(self, *parts: object):
        self.sha256.update(("\0".join(map(str, parts)) + "\n").encode("utf-8", errors="surrogateescape"))

    def entries(self, *folder: str) -> list[os.DirEntry]:
        """What is in a folder below the root, sorted, without hidden files; nothing where the folder is missing."""
        path = os.path.join(self.root, *folder)
        try:
            with os.scandir(path) as entries:
                return sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
        except FileNotFoundError:
            return []
        except OSError:
            self.notes["folder_unreadable"].append(self.name(path))
            return []

    def dialog_files(self, *folder: str) -> Iterator[tuple[str, str]]:
        """Yields (dialog, path) of the files of a folder that are named like dialogs."""
        for entry in self.entries(*folder):
            match = _DIALOG_FILE.fullmatch(entry.name)
            if match:
                yield match[1], entry.path
                if entry.name[4] != folder[0][-1]:
                    self.notes["wrong_session_folder"].append(self.name(entry.path))
            elif entry.name.startswith("Ses") and entry.name.lower().endswith(".txt"):
                self.notes["unexpected_file_name"].append(self.name(entry.path))

    def recordings(self, *folder: str) -> Iterator[tuple[str, str]]:
        """Yields (utterance, path) of the recordings of a folder."""
        for entry in self.entries(*folder):
            utterance, extension = os.path.splitext(entry.name)
            if extension.lower() != ".wav":
                continue
            try:
                status = entry.stat()
                self.digest(entry.path, status.st_size, status.st_mtime_ns)
            except OSError:  # a link to nowhere: decoding will say so
                self.digest(entry.path)
            yield utterance, entry.path

    def turns(
        self, paths: list[str], dialog: str, role: str, parse_line: Callable[[str], Line | str | None], line_type: type[Line]
    ) -> dict[str, Line]:
        """Reads the files of a dialog: id -> line, in the files' order. `role` is "label" or "transcript"."""
        found: dict[str, Line] = {}
        if not paths:
            self.notes[f"{role}_file_missing"].append(dialog)
        for path in paths:
            name = self.name(path)
            try:
                if not os.path.isfile(path):  # reading a pipe would wait for ever
                    raise FileNotFoundError(path)
                with open(path, "rb") as file:
                    data = file.read()
            except OSError:
                self.digest(path)
                self.notes[f"{role}_file_unreadable"].append(name)
                continue
            self.digest(path, hashlib.sha256(data).hexdigest())
            text, kinds = decode(data)
            # Not str.splitlines, which also cuts at the separators that a text may hold (U+0085, U+2028).
            written = re.split(r"\r*\n|\r", text)
            parsed = [(number, parse_line(line)) for number, line in enumerate(written, start=1)]
            lines: list[tuple[int, Line]] = [(number, line) for number, line in parsed if isinstance(line, line_type)]
            if not lines and ("decoded_with_replacement" in kinds or b"\0" in data):
                self.notes[f"{role}_file_unreadable"].append(name)
                continue
            for kind in kinds:
                self.notes[kind].append(name)
            for number, kind in parsed:
                if isinstance(kind, str):
                    self.notes[kind].append(f"{name}:{number}")
            if not lines and role == "label":
                self.notes["label_file_empty"].append(name)
            for number, line in lines:
                if line.id.rpartition("_")[0] != dialog:
                    self.notes[f"foreign_{role}"].append(f"{line.id} ({name}:{number})")
                elif line.id in found:
                    self.notes[f"duplicate_{role}"].append(f"{line.id} ({name}:{number})")
                else:
                    found[line.id] = line
            if role == "label":
                self.annotate(written)
        return found

    def annotate(self, lines: list[str]) -> None:
        """Keep what the annotators of a label file's turns said: the numbers of a summary, the raters' lines below it."""
        turn = None
        for line in lines:
            summary = parse_label_line(line)
            if isinstance(summary, LabelLine):
                turn = None if summary.id in self.annotations else summary.id
                numbers = _ATTRIBUTES.search(line)
                if turn is not None:
                    valence, arousal, dominance = map(float, numbers.groups()) if numbers else (None, None, None)
                    self.annotations[turn] = Annotation(valence, arousal, dominance)
            elif turn is not None and (votes := parse_rater_line(line)):
                told = self.annotations[turn]
                both = Counter(told.votes) + Counter(votes)
                self.annotations[turn] = told._replace(votes=dict(both))


def read_release(root: str) -> Release:
    """Reads labels and transcripts of a release, and lists its recordings without opening them.

    Args:
        root: the folder that holds Session1 to Session5, as `find_release` gives it.
    """
    reader = _Reader(root)
    labels, transcripts, recordings = defaultdict(list), defaultdict(list), defaultdict(dict)
    for number in SESSIONS:
        session = f"Session{number}"
        if not os.path.isdir(os.path.join(root, session, "dialog", "EmoEvaluation")):
            reader.notes["session_missing"].append(session)
        for dialog, path in reader.dialog_files(session, "dialog", "EmoEvaluation"):
            labels[dialog].append(path)
        for dialog, path in reader.dialog_files(session, "dialog", "transcriptions"):
            transcripts[dialog].append(path)
        for entry in reader.entries(session, "sentences", "wav"):
            if re.fullmatch(_DIALOG, entry.name) and entry.is_dir():
                for utterance, path in reader.recordings(session, "sentences", "wav", entry.name):
                    recordings[entry.name].setdefault(utterance, path)
    dialogs = []
    for dialog in sorted({*labels, *transcripts, *recordings}):
        label_lines = reader.turns(labels[dialog], dialog, "label", parse_label_line, LabelLine)
        text_lines = reader.turns(transcripts[dialog], dialog, "transcript", parse_transcript_line, TranscriptLine)
        reader.notes["transcript_without_label"].extend(sorted(text_lines.keys() - label_lines.keys()))
        turns = [
            Turn(
                *line,
                text=text_lines[line.id].text if line.id in text_lines else None,
                wav=recordings[dialog].get(line.id),
                annotation=reader.annotations.get(line.id, Annotation()),
            )
            for line in sorted(label_lines.values(), key=lambda line: (line.start, line.end, line.id))
        ]
        dialogs.append(Dialog(dialog, turns))
    return Release(root, dialogs, dict(reader.notes), reader.sha256.hexdigest())
