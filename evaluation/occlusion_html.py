"""What decided an answer as a piece of a web page: a bar for each word, half second of the recording and earlier turn.

Bars are the weights of evidence of `evaluation/occlusion.py`, differences of log-odds; numbers are scores without the part,
and with it alone.

It has the width of the page that it stands in and the page's own text colour, so that it fits a phone and a dark theme. A
sentence says the most important of it, also to those who do not see it. Every text is escaped.

Shapes: S samples, W words, P parts of the recording, G stretches that are left out of it, K spans of it that are heard,
H earlier turns, C classes.
"""

import html
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

LONGEST = 60  # characters of a turn or of neighbouring words that are shown
MOST_SAID = 3  # words or turns that are said to be needed
AROUND = ".,;:!?\"'()[]\u2018\u2019\u201c\u201d\u00ab\u00bb\u2026\u3001\u3002\uff0c\uff01\uff1f"  # signs around a word
LEAST = 0.1  # of the log-odds, to base 2: a smaller weight is not spoken of. The odds change by 7 %
SMALLEST_REACH = 0.5  # of the tallest bar, so that noise is not drawn large
WAVE_POINTS = 240
STYLE = """
.decided {font-size: 0.95rem}
.decided ol {list-style: none; padding: 0; margin: 0.75rem 0 1.25rem; display: flex; flex-wrap: wrap; gap: 0.6rem 0.35rem}
.decided li {display: flex; flex-direction: column; align-items: center; margin: 0; max-width: 14rem}
.decided li span {overflow-wrap: anywhere}
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


def percent(score: float, more: int = 0) -> str:
    """A score between 0 and 1 in per cent, with more digits where it is near either: "42", "5.6", "99.96"."""
    nearest = 100 * min(score, 1 - score)
    return f"{100 * score:.{(0 if nearest >= 20 else 1 if nearest >= 1 else 2) + more}f}"


def percents(score: float, other: float) -> tuple[str, str]:
    """Two scores in per cent, with as many digits as tell them apart, up to six."""
    pairs = [(percent(score, more), percent(other, more)) for more in range(5)]
    return next((pair for pair in pairs if pair[0] != pair[1]), pairs[0])


def shortened(text: str) -> str:
    """The beginning of a long text, without line breaks."""
    text = " ".join(str(text).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2].rstrip()} \N{HORIZONTAL ELLIPSIS}"


def without(score: float, effects: np.ndarray) -> list[str]:
    """The score without each part in per cent, of the score of the whole and the effects (W, P or H,) of the parts."""
    return [percent(float(np.clip(score - effect, 0, 1))) for effect in effects]


def sentences(arrays: Mapping[str, np.ndarray], shown: int, name: str) -> list[str]:
    """
    What speaks most for and against one class, in words.

    Args:
        arrays: those of `occlusion`.
        shown: the index of the class.
        name: its name.
    """
    return [*_unread(arrays), *(told for kind in _kinds(arrays) for told in _sentences_of(arrays, kind, shown, name))]


def _unread(arrays: Mapping[str, np.ndarray]) -> list[str]:
    count = int(arrays.get("unread", 0))
    last = "word is" if count == 1 else f"{count} words are"
    return [f"The last {last} not read: the text is too long for the model."] if count else []


def _kinds(arrays: Mapping[str, np.ndarray]) -> list[str]:
    return [kind for kind in ("word", "part", "turn") if len(arrays.get(f"{kind}_evidence", ()))]


def _things(arrays: Mapping[str, np.ndarray], kind: str) -> list[str]:
    """What a sentence calls each word, stretch of the recording or turn."""
    if kind == "word":
        words = [str(word).strip(AROUND) or str(word) for word in arrays["words"]]
        return [f"the word{'s' * (len(word.split()) > 1)} {_quoted(word)}" for word in words]
    if kind == "turn":
        return [f"the turn {_quoted(turn)}" for turn in arrays["turns"]]
    digits = 1 if float(arrays["seconds"]) >= 1 else 2
    return [f"what is heard from {a:.{digits}f} to {b:.{digits}f} s" for a, b in arrays["stretch_bounds"]]


def _quoted(text: str) -> str:
    return f"\N{LEFT DOUBLE QUOTATION MARK}{shortened(text)}\N{RIGHT DOUBLE QUOTATION MARK}"


def _sentences_of(arrays: Mapping[str, np.ndarray], kind: str, shown: int, name: str) -> list[str]:
    things, pieces = _things(arrays, kind), "stretch" if kind == "part" else kind
    score, nothing = float(arrays["scores"][shown]), float(arrays[f"no_{kind}"][shown])
    evidence: list[float] = arrays[f"{pieces}_evidence"][:, shown].tolist()
    scores: list[float] = np.clip(score - arrays[f"{pieces}_effects"][:, shown], 0, 1).tolist()
    order, told = sorted(range(len(things)), key=lambda place: -evidence[place]), []
    if evidence[order[0]] >= LEAST:
        others = order[1:MOST_SAID] if kind != "part" else []  # of neighbouring stretches one holds half of the other
        needed = [place for place in others if evidence[place] > max(1, evidence[order[0]] / 2)]
        for place in (order[0], *needed):
            told.append(_told_without(things[place], name, score, scores[place], "fall", evidence[place]))
    if -evidence[order[-1]] >= LEAST:
        told.append(_told_without(things[order[-1]], name, score, scores[order[-1]], "rise", -evidence[order[-1]]))
    if len(things) == 1:
        return told or [f"Leaving out {things[0]} changes the log-odds of {name} by less than {LEAST}."]
    one = {"word": "word", "part": "part of the recording", "turn": "earlier turn"}[kind]
    none = {"word": "no word", "part": "silence", "turn": "no earlier turn"}[kind]
    together = _log_odds(score) - _log_odds(nothing)
    if not told:
        told = [f"No single {one} changes the log-odds of {name} by {LEAST} when it is left out."]
        if abs(together) < LEAST:
            return [*told, f"Nor do all of them together: with {none} its score is {percent(nothing)} %."]
    if max(evidence[order[0]], -evidence[order[-1]]) < abs(together) / 2:  # what none is needed for is in several of them
        alone = arrays[f"{pieces}_alone"][:, shown]
        place = int((alone * np.sign(together)).argmax())
        with_it, with_none = percents(float(alone[place]), nothing)
        told.append(f"With {things[place]} alone its score is {with_it} %, with {none} {with_none} %.")
    return told


def _told_without(thing: str, name: str, score: float, other: float, verb: str, weight: float) -> str:
    before, after = percents(score, other)
    return f"Without {thing}, the score of {name} goes from {before} to {after} %, and its log-odds {verb} by {weight:.1f}."


def _log_odds(score: float) -> float:
    return float(np.log2(max(score, 1e-15)) - np.log2(max(1 - score, 1e-15)))


def stretches_drawn(arrays: Mapping[str, np.ndarray]) -> list[tuple[int, float, float]]:
    """The part, and its first and last second, of each bar over a recording. No bar is over a silence that was left out."""
    bounds, spans = arrays["part_bounds"], arrays["heard"]
    parts = enumerate(zip(bounds, bounds[1:], strict=False))
    cut = [(part, max(a, begin), min(b, end)) for part, (a, b) in parts for begin, end in spans]
    return [(part, float(begin), float(end)) for part, begin, end in cut if begin < end]


def occlusion_html(arrays: Mapping[str, np.ndarray], shown: int, name: str, samples: np.ndarray | None = None) -> str:
    """
    The arrays of `occlusion` as HTML, which needs the rules of `STYLE`.

    Args:
        shown: the index of the class whose log-odds the bars are of.
        name: the name of that class, in plain text.
        samples: (S,) the recording, where there is one, drawn behind its bars.
    """
    kinds, score = _kinds(arrays), float(arrays["scores"][shown])
    told = {kind: " ".join(_sentences_of(arrays, kind, shown, name)) for kind in kinds}
    pieces = [f"<p>{html.escape(' '.join([*_unread(arrays), *told.values()]))}</p>"]
    reach = max([SMALLEST_REACH, *(float(np.abs(arrays[f"{kind}_evidence"][:, shown]).max()) for kind in kinds)])
    for kind in kinds:
        alone = [percent(float(of_part)) for of_part in arrays[f"{kind}_alone"][:, shown]]
        scores = without(score, arrays[f"{kind}_effects"][:, shown])
        bars = Bars(arrays[f"{kind}_evidence"][:, shown], reach, scores, alone)
        if kind == "part":
            pieces.append(_parts(arrays, bars, samples, told[kind]))
        else:
            label = f"{kind.capitalize()}s, each with the score of {name} without it and with it alone, in per cent"
            pieces.append(_words(arrays[f"{kind}s"], bars, label))
    return f'<div class="decided">{"".join(pieces)}</div>'


class Bars(NamedTuple):
    """The bars of one kind."""

    evidence: np.ndarray  # (W, P or H,) of one class
    reach: float  # the evidence that fills the drawing
    scores: list[str]  # without each, in per cent
    alone: list[str]  # with each alone, in per cent

    def title(self, place: int) -> str:
        """What is shown where the pointer rests on a bar."""
        signed = f"{round(float(self.evidence[place]), 1) + 0.0:+.1f}".replace("-", "\N{MINUS SIGN}")
        return f"log-odds {signed}, score {self.scores[place]} % without it, {self.alone[place]} % with it alone"


def _words(words: np.ndarray, bars: Bars, label: str) -> str:
    """A list of words or turns, each with its bar."""
    items = []
    for place, word in enumerate(words):
        weight = float(bars.evidence[place])
        height = 50 * abs(weight) / bars.reach
        side = f"bottom: 50%; height: {height:.1f}%" if weight > 0 else f"top: 50%; height: {height:.1f}%"
        kind = "for" if weight > 0 else "against"
        items.append(
            f'<li title="{bars.title(place)}"><span class="bar" aria-hidden="true"><i class="{kind}" style="{side}"></i>'
            f'</span><span>{html.escape(shortened(word))}</span> <span class="score">{bars.scores[place]}</span> '
            f'<span class="score">alone {bars.alone[place]}</span></li>'
        )
    return f'<ol aria-label="{html.escape(label, quote=True)}">{"".join(items)}</ol>'


def _parts(arrays: Mapping[str, np.ndarray], bars: Bars, samples: np.ndarray | None, told: str) -> str:
    """A drawing of 1000 by 200 units, which the page stretches to its own width."""
    seconds = float(arrays["seconds"])
    digits = 1 if seconds >= 1 else 2
    wave = "" if samples is None else f'<path class="wave" d="{_envelope(samples)}"/>'
    drawn = []
    for place, begin, end in stretches_drawn(arrays):
        weight = float(bars.evidence[place])
        height = 96 * abs(weight) / bars.reach
        top, kind = (100 - height, "for") if weight > 0 else (100, "against")
        x, width = 1000 * begin / seconds, 1000 * (end - begin) / seconds
        title = f"{begin:.{digits}f} to {end:.{digits}f} s: {bars.title(place)}"
        drawn.append(
            f'<rect class="{kind}" x="{x + 0.08 * width:.1f}" y="{top:.1f}" width="{0.84 * width:.1f}" '
            f'height="{height:.1f}" opacity="0.85"><title>{title}</title></rect>'
        )
    times = "".join(f"<span>{time:.{digits}f} s</span>" for time in (0.0, seconds / 2, seconds))
    label = html.escape(f"The recording of {seconds:.{digits}f} seconds, with a bar for each part of it. {told}", quote=True)
    return (
        f'<svg viewBox="0 0 1000 200" preserveAspectRatio="none" role="img" aria-label="{label}">{wave}'
        f'<line class="zero" x1="0" x2="1000" y1="100" y2="100"/>{"".join(drawn)}</svg>'
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
