"""What decided an answer as a piece of a web page: a bar for each word, and for each half second of the recording.

Bars are the weights of evidence of `evaluation/occlusion.py`, differences of log-odds; numbers are scores without the part.

It has the width of the page that it stands in and the page's own text colour, so that it fits a phone and a dark theme. A
sentence says the most important of it, also to those who do not see it. Every text is escaped.

Shapes: S samples, W words, P parts of the recording, C classes.
"""

import html
from collections.abc import Mapping

import numpy as np

LEAST = 0.1  # of the log-odds, to base 2: a smaller weight is not spoken of. The odds change by 7 %
SMALLEST_REACH = 0.5  # of the tallest bar, so that noise is not drawn large
WAVE_POINTS = 240
STYLE = """
.decided {font-size: 0.95rem}
.decided ol {list-style: none; padding: 0; margin: 0.75rem 0 1.25rem; display: flex; flex-wrap: wrap; gap: 0.6rem 0.35rem}
.decided li {display: flex; flex-direction: column; align-items: center; margin: 0; overflow-wrap: anywhere}
.decided .bar {position: relative; width: 100%; min-width: 1.6rem; height: 4rem}
.decided .bar::before {content: ""; position: absolute; inset: 50% 0 auto; border-top: 1px solid currentColor; opacity: 0.4}
.decided .bar i {position: absolute; left: calc(50% - 0.6rem); width: 1.2rem; border-radius: 2px}
.decided .for {background: #D55E00; fill: #D55E00}
.decided .against {background: #2b8ccf; fill: #2b8ccf}
.decided .score {font-size: 0.85rem; font-variant-numeric: tabular-nums}
.decided svg {display: block; width: 100%; height: 7rem; margin-top: 0.75rem}
.decided .wave {fill: currentColor; opacity: 0.3}
.decided .zero {stroke: currentColor; opacity: 0.4; vector-effect: non-scaling-stroke}
.decided .times {display: flex; justify-content: space-between; font-size: 0.85rem}
"""


def percent(score: float) -> str:
    """A score between 0 and 1 in per cent, with more digits where it is near either: "42", "5.6", "99.96"."""
    nearest = 100 * min(score, 1 - score)
    return f"{100 * score:.{0 if nearest >= 20 else 1 if nearest >= 1 else 2}f}"


def without(score: float, effects: np.ndarray) -> list[str]:
    """The score without each part in per cent, of the score of the whole and the effects (W or P,) of the parts."""
    return [percent(float(np.clip(score - effect, 0, 1))) for effect in effects]


def sentences(arrays: Mapping[str, np.ndarray], shown: int, name: str) -> list[str]:
    """
    What speaks most for and against one class, in words.

    Args:
        arrays: those of `occlusion`.
        shown: the index of the class.
        name: its name.
    """
    told = []
    if "word_evidence" in arrays and len(arrays["words"]):
        words = [str(word).strip('.,;:!?"') or str(word) for word in arrays["words"]]
        things = [f"the word \N{LEFT DOUBLE QUOTATION MARK}{word}\N{RIGHT DOUBLE QUOTATION MARK}" for word in words]
        told += _extremes(arrays, "word", shown, things, name, "No single word")
    if "part_evidence" in arrays:
        bounds = arrays["part_bounds"]
        things = [f"what is heard from {a:.1f} to {b:.1f} s" for a, b in zip(bounds, bounds[1:], strict=False)]
        told += _extremes(arrays, "part", shown, things, name, "No single part of the recording")
    return told


def _extremes(arrays: Mapping[str, np.ndarray], kind: str, shown: int, things: list[str], name: str, none: str) -> list[str]:
    evidence, score = arrays[f"{kind}_evidence"][:, shown], float(arrays["scores"][shown])
    scores, told = without(score, arrays[f"{kind}_effects"][:, shown]), []
    most, least = int(evidence.argmax()), int(evidence.argmin())
    for place, weight, verb in ((most, evidence[most], "fall"), (least, -evidence[least], "rise")):
        if weight >= LEAST:
            told.append(
                f"Without {things[place]}, the score of {name} goes from {percent(score)} to {scores[place]} %, and its "
                f"log-odds {verb} by {weight:.1f}."
            )
    return told or [f"{none} changes the log-odds of {name} by {LEAST} when it is left out."]


def occlusion_html(arrays: Mapping[str, np.ndarray], shown: int, name: str, samples: np.ndarray | None = None) -> str:
    """
    The arrays of `occlusion` as HTML, which needs the rules of `STYLE`.

    Args:
        shown: the index of the class whose log-odds the bars are of.
        name: the name of that class, in plain text.
        samples: (S,) the recording, where there is one, drawn behind its bars.
    """
    told = sentences(arrays, shown, name)
    weights = [arrays[kind][:, shown] for kind in ("word_evidence", "part_evidence") if kind in arrays]
    reach = max([SMALLEST_REACH, *(float(np.abs(of_kind).max(initial=0.0)) for of_kind in weights)])
    score = float(arrays["scores"][shown])
    pieces = [f"<p>{html.escape(' '.join(told))}</p>"]
    if "word_evidence" in arrays and len(arrays["words"]):
        scores = without(score, arrays["word_effects"][:, shown])
        pieces.append(_words(arrays["words"], arrays["word_evidence"][:, shown], scores, reach, name))
    if "part_evidence" in arrays:
        scores = without(score, arrays["part_effects"][:, shown])
        pieces.append(_parts(arrays["part_bounds"], arrays["part_evidence"][:, shown], scores, reach, samples, told[-1]))
    return f'<div class="decided">{"".join(pieces)}</div>'


def _title(weight: float, score: str) -> str:
    """What is shown where the pointer rests on a bar."""
    signed = f"{round(weight, 1) + 0.0:+.1f}".replace("-", "\N{MINUS SIGN}")
    return f"log-odds {signed}, score {score} % without it"


def _words(words: np.ndarray, evidence: np.ndarray, scores: list[str], reach: float, name: str) -> str:
    items = []
    for word, weight, score in zip(words, evidence, scores, strict=True):
        height = 50 * abs(float(weight)) / reach
        side = f"bottom: 50%; height: {height:.1f}%" if weight > 0 else f"top: 50%; height: {height:.1f}%"
        kind = "for" if weight > 0 else "against"
        items.append(
            f'<li title="{_title(float(weight), score)}"><span class="bar" aria-hidden="true"><i class="{kind}" '
            f'style="{side}"></i></span><span>{html.escape(str(word))}</span> <span class="score">{score}</span></li>'
        )
    label = html.escape(f"Words, each with the score of {name} without it, in per cent", quote=True)
    return f'<ol aria-label="{label}">{"".join(items)}</ol>'


def _parts(
    bounds: np.ndarray, evidence: np.ndarray, scores: list[str], reach: float, samples: np.ndarray | None, told: str
) -> str:
    """A drawing of 1000 by 200 units, which the page stretches to its own width."""
    seconds = float(bounds[-1])
    wave = "" if samples is None else f'<path class="wave" d="{_envelope(samples)}"/>'
    bars = []
    for begin, end, weight, score in zip(bounds, bounds[1:], evidence, scores, strict=False):
        height = 96 * abs(float(weight)) / reach
        top, kind = (100 - height, "for") if weight > 0 else (100, "against")
        x, width = 1000 * float(begin) / seconds, 1000 * float(end - begin) / seconds
        title = f"{begin:.1f} to {end:.1f} s: {_title(float(weight), score)}"
        bars.append(
            f'<rect class="{kind}" x="{x + 0.08 * width:.1f}" y="{top:.1f}" width="{0.84 * width:.1f}" '
            f'height="{height:.1f}" opacity="0.85"><title>{title}</title></rect>'
        )
    times = "".join(f"<span>{time:.1f} s</span>" for time in (0.0, seconds / 2, seconds))
    label = html.escape(f"The recording of {seconds:.1f} seconds, with a bar for each part of it. {told}", quote=True)
    return (
        f'<svg viewBox="0 0 1000 200" preserveAspectRatio="none" role="img" aria-label="{label}">{wave}'
        f'<line class="zero" x1="0" x2="1000" y1="100" y2="100"/>{"".join(bars)}</svg>'
        f'<div class="times" aria-hidden="true">{times}</div>'
    )


def _envelope(samples: np.ndarray) -> str:
    """The outline of a waveform, as the path of a drawing of 1000 by 200 units."""
    blocks = np.array_split(np.abs(samples), min(WAVE_POINTS, len(samples)))
    heights = np.array([block.max() for block in blocks])
    heights = 90 * heights / max(float(heights.max()), 1e-6)
    x = np.linspace(0, 1000, len(heights))
    above = [f"{place:.0f},{100 - height:.0f}" for place, height in zip(x, heights, strict=True)]
    below = [f"{place:.0f},{100 + height:.0f}" for place, height in zip(x[::-1], heights[::-1], strict=True)]
    return f"M{' L'.join([*above, *below])}Z"
