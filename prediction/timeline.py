"""A figure of how the scores go on in long recordings and dialogs. It needs matplotlib (the extra plot)."""

import textwrap
from collections.abc import Sequence
from typing import Any

from ..evaluation.plots import COLOURS, new_figure, plain, png

MOST_PANELS = 20
MOST_WORDS = 12  # turns whose words fit beside the time


def timeline(panels: Sequence[tuple[str, list[dict]]], labels: Sequence[str]) -> Any:
    """
    Draw the scores of every part, stacked to 1, one colour a label in the order of the labels.

    Args:
        panels: a title and the rows of a recording or dialog, for each. Rows with the times of one recording lie on an axis
            of seconds; turns with recordings of their own, or without any, lie side by side.
        labels: the classes, in the order of the logits.

    Raises:
        ValueError: there are more panels than can be read.
    """
    if len(panels) > MOST_PANELS:
        raise ValueError(f"a figure has at most {MOST_PANELS} recordings or dialogs, got {len(panels)}: give fewer inputs")
    fig, axes = new_figure(9.0, 1.0 + 2.3 * len(panels), rows=len(panels), squeeze=False)
    colours = {label: COLOURS[place % len(COLOURS)] for place, label in enumerate(labels)}
    for ax, (title, rows) in zip(axes[:, 0], panels, strict=True):
        by_time = _is_one_recording(rows)
        spans = [(row["start"], row["end"]) for row in rows] if by_time else [(n + 0.5, n + 1.5) for n in range(len(rows))]
        _draw(ax, rows, spans, labels, colours)
        ax.set_title(plain(title), loc="left", fontsize=10)
        ax.set_ylabel("score of each emotion\n(all together 1)", fontsize=8)
        ax.set_xlim(min(start for start, _ in spans), max(end for _, end in spans))
        if by_time:
            ax.set_xlabel("time in the recording, in seconds", fontsize=9)
        else:
            ax.set_xlabel("turn of the dialog", fontsize=9)
            ax.set_xticks(range(1, len(rows) + 1) if len(rows) <= 2 * MOST_WORDS else [1, len(rows)])
            if len(rows) <= MOST_WORDS:
                width = 100 // len(rows)  # characters that fit under a turn
                ax.set_xticklabels(
                    [f"{n}\n{plain(_shorten(row['text'], width))}" for n, row in enumerate(rows, 1)], fontsize=8
                )
    handles, names = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside upper right", ncols=min(len(labels), 8), frameon=False, fontsize=9)
    return fig


def _is_one_recording(rows: list[dict]) -> bool:
    """Whether the rows have times that follow one another, and so are parts of one recording."""
    times = [(row["start"], row["end"]) for row in rows if row["start"] is not None]
    return len(times) == len(rows) and all(one[1] <= other[0] + 0.01 for one, other in zip(times, times[1:], strict=False))


def _shorten(text: str | None, width: int) -> str:
    """Words in at most three lines of that many characters."""
    return "\n".join(textwrap.wrap(text or "", max(width, 4), max_lines=3, placeholder="\u2026"))


def _draw(ax, rows: list[dict], spans: list[tuple[float, float]], labels: Sequence[str], colours: dict[str, str]) -> None:
    """Bars of the scores, and above them the answers, with their names where a bar is wide enough for one."""
    starts, widths = [start for start, _ in spans], [end - start for start, end in spans]
    below = [0.0] * len(rows)
    for label in labels:
        heights = [row["scores"].get(label, 0.0) for row in rows]
        ax.bar(
            starts,
            heights,
            widths,
            below,
            align="edge",
            color=colours[label],
            edgecolor="white",
            linewidth=0.6,
            label=plain(label),
        )
        below = [height + under for height, under in zip(heights, below, strict=True)]
    # A strip of the answers, which are seen even where the scores are nearly equal.
    answers = [colours[row["prediction"]] for row in rows]
    ax.bar(starts, [0.14] * len(rows), widths, 1.06, align="edge", color=answers, edgecolor="white", linewidth=0.6)
    whole = spans[-1][1] - spans[0][0]
    for row, start, width in zip(rows, starts, widths, strict=True):
        if width >= 0.045 * whole:
            ax.text(start + width / 2, 1.13, plain(row["prediction"]), ha="center", va="center", fontsize=8, color="white")
    ax.set_ylim(0, 1.2)
    ax.set_yticks([0, 0.5, 1])
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


__all__ = ["png", "timeline"]
