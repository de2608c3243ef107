"""Answers of one recording as subtitles, to be shown beside it by a player: SubRip (.srt) and WebVTT (.vtt)."""

from collections.abc import Sequence
from pathlib import Path

SUFFIXES = (".srt", ".vtt")


def format_time(seconds: float, mark: str) -> str:
    """Hours, minutes, seconds and milliseconds; the formats differ in the mark before the milliseconds."""
    whole, thousandths = divmod(round(1000 * seconds), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{mark}{thousandths:03}"


def format_subtitles(rows: Sequence[dict], suffix: str) -> str:
    """
    Rows of the output, of one recording, as the content of a file.

    Each part shows its answer with the score in per cent, and its words below, on one line.

    Raises:
        ValueError: a row has no times, since it has no recording.
    """
    without = [row["id"] for row in rows if row["start"] is None]
    if without:
        raise ValueError(f"subtitles need times, and {without[0]} has no recording: write .csv or .jsonl")
    mark = "," if suffix == ".srt" else "."
    cues = []
    for number, row in enumerate(sorted(rows, key=lambda row: row["start"]), 1):
        shown = f"{row['prediction']} {100 * row['scores'][row['prediction']]:.0f} %"
        words = " ".join((row["text"] or "").split()).replace("-->", "->")
        if suffix == ".vtt":
            words = words.replace("&", "&amp;").replace("<", "&lt;")
        times = f"{format_time(row['start'], mark)} --> {format_time(row['end'], mark)}"
        cues.append("\n".join([str(number), times, shown, *([words] if words else [])]) + "\n")
    return ("WEBVTT\n\n" if suffix == ".vtt" else "") + "\n".join(cues)


class Subtitles:
    """Collects the rows of one recording, and writes them at the end as a whole."""

    done = frozenset()

    def __init__(self, path: Path, sources: Sequence):
        """`sources` are the recordings of the inputs. A `ValueError` is raised where they are not one and the same."""
        names = {str(source) for source in sources}
        if len(names) != 1:
            raise ValueError(
                f"{path.suffix} files are for one recording, got {len(names)}: give one recording, or write .csv or .jsonl"
            )
        self.path, self.rows = path, []

    def append(self, rows: list[dict]):
        self.rows += rows

    def content(self) -> str:
        return format_subtitles(self.rows, self.path.suffix)
