"""Which column of a table is meant for what, and what its cells say: the same for training, prediction and the page.

A column is taken by its name. Case, blanks around it, and the difference between `File Name`, `file-name` and `file_name`
are ignored. `ALIASES` lists the names of each use, the usual one first. An option such as --text_column overrules it.

- Two columns that could be the audio, the text, the label or the history are an error that names both.
- For the other uses the first name in the list is taken, and the other column is named as not used.
- A row with a start (or offset) and a duration, and without an end, as in NeMo's manifests, ends at their sum.
- Times are milliseconds in columns whose names end with `_ms`, else seconds.

Where a file or the README of its repository names the classes of a column, a number there is the index of one, also as text.

What annotators said is read as well. `votes` holds the labels that they chose, one a vote (`["ang", "ang", "neu"]`, or
`ang;ang;neu`), or a number for each label (`{"ang": 2, "neu": 1}`, counts or shares; a list of numbers where the labels are
a ClassLabel). `valence`, `arousal` and `dominance` hold numbers, on any scale.

A cell of a text file is text, as it stands there: None, NA, null, nan, 01 and inf mean nothing else. Only an empty cell is
missing. Times are numbers (1.5, or 1,5) or clock times (0:01.5, 00:16:16,059). The order of turns is numbers, also where
they are written as text, or else times and names that are sorted by the numbers in them (turn2 before turn10).
"""

import datetime
import difflib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from numbers import Number
from typing import NamedTuple

import numpy as np

from ..processing_lemer import check_text

ALIASES = {
    "audio": "audio path file filename file_name filepath file_path audio_path audio_file audio_filename audio_filepath wav "
    "wav_file wav_filename wav_path recording clip",
    "text": "text transcript transcription transcripts sentence utterance",
    "label": "label labels emotion emotions emotion_label emo emoclass class",
    "id": "id utt_id uttid utterance_name clip_id segment_id uid",
    "speaker": "speaker speaker_id spk spk_id spkrid speaker_name actor actor_id client_id",
    "start": "start start_time starttime start_sec start_seconds begin begin_time onset offset start_ms begin_ms",
    "end": "end end_time endtime end_sec end_seconds stop stop_time end_ms stop_ms",
    "duration": "duration duration_ms",
    "dialog": "dialog dialogue dialog_id dialogue_id conversation conversation_id",
    "order": "order turn turn_id turn_number turn_index",
    "history": "history",
    "votes": "votes label_votes emotion_votes",
    "valence": "valence emoval",
    "arousal": "arousal activation emoact",
    "dominance": "dominance emodom",
}
ALIASES = {use: tuple(names.split()) for use, names in ALIASES.items()}
ATTRIBUTES = ("valence", "arousal", "dominance")
STRICT = ("audio", "text", "label", "history")  # where a wrong choice between two columns would change an answer
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,3}):(\d{1,2}(?:[.,]\d+)?)")


class Columns(NamedTuple):
    """
    Columns of a table by use.

    Attributes:
        names: use -> name of the column, None where there is none.
        unused: the other columns.
    """

    names: dict[str, str | None]
    unused: list[str]

    def without(self, use: str) -> "Columns":
        """The same with the column of a use among those that are not used."""
        column = self.names.get(use)
        names = {name: None if name == use else taken for name, taken in self.names.items()}
        if column is None or column in names.values():
            return Columns(names, self.unused)
        return Columns(names, [*self.unused, column])

    def values(self, row: dict) -> dict:
        """A row of the table -> its cells by use."""
        return {use: None if column is None else row.get(column) for use, column in self.names.items()}

    def describe(self) -> list[str]:
        """Sentences on columns that were taken under another name than the usual one, and on those that are not used."""
        taken = [f"{use} from {column!r}" for use, column in self.names.items() if column not in (None, use)]
        remarks = [f"columns taken: {', '.join(taken)}"] if taken else []
        return remarks + ([f"columns not used: {', '.join(map(repr, self.unused))}"] if self.unused else [])


def plain_name(column: str) -> str:
    """A column's name without what does not count: ` File-Name` -> `file_name`."""
    return re.sub(r"[\s\-_.]+", "_", str(column).strip().casefold())


def choose_columns(
    columns: Sequence[str], uses: Iterable[str], wanted: dict[str, str | None] | None = None, options: bool = False
) -> Columns:
    """
    The column of each use.

    Args:
        columns: names of the columns that there are.
        uses: uses to look for, keys of `ALIASES` or of `wanted`.
        wanted: use -> the column that was asked for, None where none was.
        options: whether the caller has options such as --text_column, which a message can point to.

    Raises:
        ValueError: a column that was asked for is not there; two columns could be the same use.
    """
    wanted = wanted or {}
    asked = {use: column for use, column in wanted.items() if column is not None}
    names = {use: find_column(columns, column) for use, column in asked.items()}
    missing = [f"{use}_column {column!r}" for use, column in asked.items() if names[use] is None]
    if missing:
        nearest = difflib.get_close_matches(plain_name(missing[0].split("'")[1]), map(plain_name, columns), n=1, cutoff=0.5)
        hint = [column for column in columns if plain_name(column) in nearest]
        raise ValueError(
            f"no {', '.join(missing)}: its columns are {', '.join(columns) or 'none'}"
            + (f". Did you mean {hint[0]!r}?" if hint else "")
        )
    # A column may be asked for as fold or dialog, and tell the speaker as well.
    taken = {column for use, column in names.items() if use in STRICT}
    for use in uses:
        if use in names:
            continue
        aliases = ALIASES.get(use, ())
        candidates = [
            column for alias in aliases for column in columns if plain_name(column) == alias and column not in taken
        ]
        if len(candidates) > 1 and use in STRICT:
            what_to_do = f"say which with --{use}_column" if options and use != "history" else "rename or remove all but one"
            raise ValueError(
                f"{len(candidates)} columns that could be the {use}: {', '.join(map(repr, candidates))}; {what_to_do}"
            )
        names[use] = candidates[0] if candidates else None
        taken.add(names[use])
    chosen = Columns(names, [column for column in columns if column not in names.values()])
    if names.get("end") is not None or names.get("start") is None:
        chosen = chosen.without("duration")  # of a part that has no end; else it says what the recording says itself
    return chosen


def find_column(columns: Sequence[str], name: str) -> str | None:
    """The column called `name`, or the only one that is called so but for case and blanks; None where there is none."""
    if name in columns:
        return name
    alike = [column for column in columns if plain_name(column) == plain_name(name)]
    return alike[0] if len(alike) == 1 else None


# --------------------------------------------------------------------------------------------------------------- cells


def is_missing(value) -> bool:
    """Whether a cell holds nothing. 0, empty lists and arrays are something."""
    return value is None or (isinstance(value, str) and not value.strip()) or (isinstance(value, Number) and value != value)


def as_text(value) -> str | None:
    """
    A name or a text as it is written; None where it is missing.

    Whole numbers lose the point that missing numbers in the same column give them (2.0 -> "2").
    """
    if is_missing(value):
        return None
    if isinstance(value, (list, tuple, dict, set, np.ndarray, bytes)):
        raise ValueError(f"expected a text or a number, got {str(value):.80}")
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    check_text(str(value))
    return str(value).strip()


def as_words(value) -> str | None:
    """A transcript, without the blanks around it; None where it is missing."""
    if is_missing(value):
        return None
    if not isinstance(value, str):
        raise ValueError(f"text must be a string, got {str(value):.80}")
    check_text(value)
    return value.strip()


def as_label(value, names: Sequence[str] | None) -> str | None:
    """
    The name of a label; None where the row has none: a missing cell, or a number below 0.

    Args:
        value: a name or a whole number; an index where `names` are given, also as the text of a .csv.
        names: of a ClassLabel column.
    """
    if isinstance(value, (list, tuple, dict, np.ndarray)) or (isinstance(value, float) and value == value and value % 1):
        raise ValueError(f"label {str(value):.80}: expected a name or a whole number")
    if names is not None and not isinstance(value, str):
        return None if is_missing(value) or value < 0 else names[int(value)]
    text = as_text(value)
    if text is not None and re.fullmatch(r"-\d+", text):
        return None
    if names is not None and text is not None and text not in names and text.isdecimal() and int(text) < len(names):
        return names[int(text)]
    return text


def as_seconds(value, use: str) -> float | None:
    """A time in seconds, of a number, a clock time or a `datetime` value; None where it is missing."""
    if is_missing(value):
        return None
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    text = str(value).strip()
    clock = _CLOCK.fullmatch(text)
    try:
        if clock is not None:
            hours, minutes, seconds = clock.groups(default="0")
            return 3600 * int(hours) + 60 * int(minutes) + float(seconds.replace(",", "."))
        seconds = float(re.sub(r"^(\d+),(\d+)$", r"\1.\2", text))
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{use} must be seconds, at least 0, or a clock time such as 0:01.5, got {value!r}")
    return seconds


def read_times(columns: Columns, cells: dict) -> tuple[float | None, float | None]:
    """Start and end of a row in seconds, None where it has none. `cells` are its cells by use."""
    times = {}
    for use in ("start", "end", "duration"):
        milliseconds = plain_name(columns.names.get(use) or "").endswith("_ms")
        seconds = as_seconds(cells[use], use)
        times[use] = seconds / 1000 if seconds is not None and milliseconds else seconds
    if None not in (times["start"], times["duration"]) and times["end"] is None:
        times["end"] = times["start"] + times["duration"]
    return times["start"], times["end"]


def as_order(value) -> str | None:
    """The place of a turn as text; `order_keys` sorts by it."""
    if isinstance(value, datetime.timedelta):
        return str(value.total_seconds())
    return value.isoformat() if isinstance(value, (datetime.date, datetime.time)) else as_text(value)


def order_keys(places: Sequence[str]) -> list:
    """
    Keys that sort the turns of dialogs: numbers where all are, else texts by the numbers in them.

    Raises:
        ValueError: a place has no number in it.
    """
    try:
        numbers = [float(place) for place in places]
        if all(map(math.isfinite, numbers)):
            return numbers
    except ValueError:
        pass
    for place in places:
        if not re.search(r"\d", place):
            raise ValueError(f"order must be a number, got {place!r} (a time, or a name with a number in it, will do too)")
    # Text and numbers in turn, so that like stands against like.
    return [
        [int(part) if index % 2 else part for index, part in enumerate(re.split(r"(\d+)", place.casefold()))]
        for place in places
    ]


def as_history(value) -> list[str] | None:
    """Earlier turns, oldest first; None where they are missing. A cell of a text file holds them as a JSON list."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            pass
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if is_missing(value):
        return None
    if not isinstance(value, (list, tuple)) or not all(isinstance(turn, str) or turn is None for turn in value):
        raise ValueError(f"history must be a list of earlier turns, each a text, got {value!r:.80}")
    turns = [turn for turn in value if not is_missing(turn)]
    for turn in turns:
        check_text(turn)
    return turns


def as_votes(value, names: Sequence[str] | None) -> dict[str, float] | None:
    """
    How many votes each label has, or what share of them; None where there are none.

    Args:
        value: names of labels, one a vote, as a list or as text with `;`, `,` or `|` between them; or numbers by label, as a
            dict, or as a list in the order of `names`. Text may hold the same as JSON.
        names: of a ClassLabel column.

    Raises:
        ValueError: it is something else, or a number is negative or not finite.
    """
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"votes {value!r:.80} cannot be read as JSON: {error}") from error
    elif isinstance(value, str):
        value = [name.strip() for name in re.split(r"[;,|]", value) if name.strip()]
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if is_missing(value):
        return None
    numbers = isinstance(value, list) and all(isinstance(vote, Number) for vote in value)
    if numbers and names is not None and len(value) == len(names):
        value = dict(zip(names, value, strict=True))
    if isinstance(value, list) and all(isinstance(vote, str) for vote in value):
        value = Counter(vote.strip() for vote in value)
    if not isinstance(value, dict):
        raise ValueError(
            f"votes must be names of labels, or numbers by label (in a list only as many as a ClassLabel has), got "
            f"{value!r:.80}"
        )
    votes = {str(name): 0.0 if is_missing(count) else float(count) for name, count in value.items()}
    if not all(math.isfinite(count) and count >= 0 for count in votes.values()):
        raise ValueError(f"votes must be finite and at least 0, got {votes!r:.80}")
    return {name: count for name, count in votes.items() if count} or None
