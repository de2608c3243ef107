"""What decided an answer as a piece of a web page: a number for each word, and a bar for each half second of the recording.

It has the width of the page that it stands in and the page's own text colour, so that it fits a phone and a dark theme. A
sentence says the most important of it, also to those who do not see it. Every text is escaped.

Shapes: S samples, W words, P parts of the recording, C classes.
"""

import html
from collections.abc import Mapping

import numpy as np

LEAST = 0.5  # points of 100: a smaller effect is not spoken of
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
.decided .points {font-size: 0.85rem; font-variant-numeric: tabular-nums}
.decided svg {display: block; width: 100%; height: 7rem; margin-top: 0.75rem}
.decided .wave {fill: currentColor; opacity: 0.3}
.decided .zero {stroke: currentColor; opacity: 0.4; vector-effect: non-scaling-stroke}
.decided .times {display: flex; justify-content: space-between; font-size: 0.85rem}
"""


def points(effect: float) -> str:
    """An effect on a score, between -1 and 1, in points of 100 and with its sign: "+12", "−0.4" or "0"."""
    number = round(100 * effect, 0 if abs(effect) >= 0.0995 else 1)
    return f"{number:+.3g}".replace("-", "\N{MINUS SIGN}") if number else "0"


def sentences(arrays: Mapping[str, np.ndarray], shown: int, name: str) -> list[str]:
    """
    What speaks most for and against one class, in words.

    Args:
        arrays: those of `occlusion`.
        shown: the index of the class.
        name: its name.
    """
    told = []
    if "word_effects" in arrays and len(arrays["words"]):
        words = [str(word).strip('.,;:!?"') or str(word) for word in arrays["words"]]
        things = [f"the word \N{LEFT DOUBLE QUOTATION MARK}{word}\N{RIGHT DOUBLE QUOTATION MARK}" for word in words]
        told += _extremes(arrays["word_effects"][:, shown], things, name, "No single word")
    if "part_effects" in arrays:
        bounds = arrays["part_bounds"]
        things = [f"what is heard from {a:.1f} to {b:.1f} s" for a, b in zip(bounds, bounds[1:], strict=False)]
        told += _extremes(arrays["part_effects"][:, shown], things, name, "No single part of the recording")
    return told


def _extremes(effects: np.ndarray, things: list[str], name: str, none: str) -> list[str]:
    told = []
    most, least = int(effects.argmax()), int(effects.argmin())
    if 100 * effects[most] >= LEAST:
        told.append(f"Without {things[most]}, the score of {name} loses {points(effects[most])[1:]} points of 100.")
    if 100 * effects[least] <= -LEAST:
        told.append(f"Without {things[least]}, it gains {points(effects[least])[1:]} points.")
    return told or [f"{none} changes the score of {name} by half a point of 100 when it is left out."]


def occlusion_html(arrays: Mapping[str, np.ndarray], shown: int, name: str, samples: np.ndarray | None = None) -> str:
    """
    The arrays of `occlusion` as HTML, which needs the rules of `STYLE`.

    Args:
        shown: the index of the class whose score the bars are of.
        name: the name of that class, in plain text.
        samples: (S,) the recording, where there is one, drawn behind its bars.
    """
    told = sentences(arrays, shown, name)
    effects = [arrays[kind][:, shown] for kind in ("word_effects", "part_effects") if kind in arrays]
    reach = max([0.01, *(float(np.abs(of_kind).max(initial=0.0)) for of_kind in effects)])  # at least one point
    pieces = [f"<p>{html.escape(' '.join(told))}</p>"]
    if "word_effects" in arrays and len(arrays["words"]):
        pieces.append(_words(arrays["words"], arrays["word_effects"][:, shown], reach))
    if "part_effects" in arrays:
        pieces.append(_parts(arrays["part_bounds"], arrays["part_effects"][:, shown], reach, samples, told[-1]))
    return f'<div class="decided">{"".join(pieces)}</div>'


def _words(words: np.ndarray, effects: np.ndarray, reach: float) -> str:
    items = []
    for word, effect in zip(words, effects, strict=True):
        height = 50 * abs(float(effect)) / reach
        side = f"bottom: 50%; height: {height:.1f}%" if effect > 0 else f"top: 50%; height: {height:.1f}%"
        kind = "for" if effect > 0 else "against"
        items.append(
            f'<li><span class="bar" aria-hidden="true"><i class="{kind}" style="{side}"></i></span>'
            f'<span>{html.escape(str(word))}</span> <span class="points">{points(float(effect))}</span></li>'
        )
    return f'<ol aria-label="Points of 100 that each word is worth">{"".join(items)}</ol>'


def _parts(bounds: np.ndarray, effects: np.ndarray, reach: float, samples: np.ndarray | None, told: str) -> str:
    """A drawing of 1000 by 200 units, which the page stretches to its own width."""
    seconds = float(bounds[-1])
    wave = "" if samples is None else f'<path class="wave" d="{_envelope(samples)}"/>'
    bars = []
    for begin, end, effect in zip(bounds, bounds[1:], effects, strict=False):
        height = 96 * abs(float(effect)) / reach
        top, kind = (100 - height, "for") if effect > 0 else (100, "against")
        x, width = 1000 * float(begin) / seconds, 1000 * float(end - begin) / seconds
        title = f"{begin:.1f} to {end:.1f} s: {points(float(effect))}"
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
