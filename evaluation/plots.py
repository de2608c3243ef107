"""Draw the figures of a report: confusion matrices, learning curves and the sweep over K.

Every function takes arrays and returns a figure and its axes. Figures are drawn by Agg without pyplot, so they need no
screen and hold no memory once they are dropped. The colours are those of Okabe and Ito, which colour-blind readers can tell
apart.

Shapes: C classes, E epochs, V epochs with a validation score.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke
    from PIL import Image  # matplotlib needs it too
except ImportError as error:
    raise ImportError("figures are drawn with matplotlib: pip install 'lemer[plot]'") from error

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MAPS = "cividis"
OUTLINED = [withStroke(linewidth=2, foreground="white")]  # text that stands over something drawn


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **settings) -> tuple[Figure, Any]:
    """A new figure, its width and height in inches, and its axes: one, or an array, as `pyplot.subplots` gives them."""
    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)
    return fig, fig.subplots(rows, columns, **settings)


def png(fig: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file with few colours; the same figure gives the same bytes."""
    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return with_palette(file.getvalue())


def with_palette(content: bytes) -> bytes:
    """A PNG reduced to 128 colours: the figures look the same and take a third of the space."""
    file = io.BytesIO()
    image = Image.open(io.BytesIO(content)).convert("RGB")
    image.quantize(128, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as the content of a .npz file."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]  no array is called `allow_pickle`
    return file.getvalue()


def plain(text: str) -> str:
    """Text that matplotlib shows unchanged; an unescaped dollar sign would begin a formula."""
    return str(text).replace("$", r"\$")


def confusion_matrix(confusion: ArrayLike, names: Sequence[str], title: str = ""):
    """
    Draw a confusion matrix, coloured by the share of each label's utterances.

    Args:
        confusion: (C, C) counts; rows are labels, columns are predictions. Means over seeds may have fractions.
        names: names of the C classes.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    side = 1.6 + 0.62 * len(names)
    fig, ax = new_figure(side + 0.5, side)
    image = ax.imshow(shares, cmap=MAPS, vmin=0, vmax=1)
    for row, column in np.ndindex(shares.shape):
        text = f"{100 * shares[row, column]:.0f}\n({counts[row, column]:.4g})"
        colour = "white" if shares[row, column] < 0.55 else "black"
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    labels = [plain(name) for name in names]
    ax.set_xticks(range(len(names)), labels)
    ax.set_yticks(range(len(names)), labels)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("labelled class")
    ax.set_title(plain(title), fontsize=10)
    fig.colorbar(image, ax=ax, label="share of the label's utterances", shrink=0.85)
    return fig, ax


def reliability_diagram(bins: Sequence[tuple[int, float, float]], title: str = ""):
    """
    Draw how often answers of a score are right. Bars on the diagonal are scores that mean what they say.

    Args:
        bins: (count, confidence, accuracy) of every bin, as `reliability` of `calibration.py` gives them.
    """
    fig, (accuracy, counts) = new_figure(4.2, 4.6, 2, 1, sharex=True, height_ratios=(3, 1))
    places = [confidence for _, confidence, _ in bins]
    accuracy.plot([0, 100], [0, 100], color=GREY, linewidth=1, label="calibrated")
    accuracy.plot([100 * place for place in places], [100 * right for _, _, right in bins], marker="o", color=BLUE)
    accuracy.set_ylabel("right answers (%)")
    accuracy.legend(frameon=False)
    accuracy.set_title(plain(title), fontsize=10)
    counts.bar([100 * place for place in places], [count for count, _, _ in bins], width=4, color=BLUE)
    counts.set_ylabel("utterances")
    counts.set_xlabel("highest score (%)")
    counts.set_xlim(0, 100)
    return fig, (accuracy, counts)


def learning_curves(curves: Mapping[str, Mapping[str, np.ndarray]], title: str = ""):
    """
    Draw the training loss and the validation UA over the epochs, with a line for each fold and seed.

    Args:
        curves: name -> `epoch` and `loss` (E,), and `validation_epoch` and `validation_ua` (V,), which may be empty.
            Epochs are counted from 1. The UA is a share between 0 and 1.

    Returns:
        the figure and its axes; two axes if there is a validation score.
    """
    validated = any(len(curve["validation_ua"]) for curve in curves.values())
    fig, axes = new_figure(7.6 if validated else 4.2, 3.2, 1, 2 if validated else 1, squeeze=False)
    loss, *others = axes[0]
    for number, (name, curve) in enumerate(curves.items()):
        style = {"color": COLOURS[number % len(COLOURS)], "label": plain(name), "linewidth": 1.5}
        if number >= len(COLOURS):
            style["linestyle"] = "--"
        loss.plot(curve["epoch"], curve["loss"], marker="." if len(curve["epoch"]) < 2 else None, **style)
        for ax in others:
            ax.plot(curve["validation_epoch"], 100 * np.asarray(curve["validation_ua"]), marker=".", **style)
    loss.set_ylabel("mean training loss")
    for ax in others:
        ax.set_ylabel("validation UA (%)")
    for ax in axes[0]:
        ax.set_xlabel("epoch")
        ax.grid(alpha=0.3)
    loss.set_title(plain(title), fontsize=10)
    if 1 < len(curves) <= 12:
        loss.legend(fontsize=7, frameon=False)
    return fig, axes[0] if validated else loss


def ranking(rows: Sequence[tuple[str, float, float, float, Sequence[float], bool]]):
    """
    Draw a score of every row with its interval, the first row on top.

    Args:
        rows: name, score, lower and upper end, the scores of the seeds, and whether the row is told apart from the first
            one. Scores are shares between 0 and 1.
    """
    fig, ax = new_figure(7.2, 0.9 + 0.27 * len(rows))
    for place, (_, score, low, high, seeds, is_apart) in enumerate(rows):
        colour = GREY if is_apart else BLUE
        ax.plot([100 * low, 100 * high], [place, place], color=colour, linewidth=2.5, solid_capstyle="butt", zorder=2)
        ax.plot(100 * score, place, marker="o", color=colour, markersize=6, zorder=4)
        if len(seeds) > 1:
            ax.scatter(100 * np.asarray(seeds), np.full(len(seeds), place), s=8, color="black", zorder=5)
        ax.annotate(f"{100 * score:.1f}", (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    ax.axvline(100 * rows[0][1], color=BLUE, linewidth=0.8, linestyle="--", zorder=1)
    ax.set_yticks(range(len(rows)), [plain(name) for name, *_ in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel("UA (%)")
    ax.set_title("blue: not told apart from the first row; grey: told apart", fontsize=9, loc="left")
    ax.grid(axis="x", alpha=0.3)
    return fig, ax


def k_sweep(points: Sequence[tuple[int, float, float]], name: str):
    """
    Draw WA and UA against K, as in figure 3 of the paper.

    Args:
        points: (K, WA, UA) in per cent.
        name: what K counts, such as "key frames a class".
    """
    k, wa, ua = np.array(sorted(points), dtype=np.float64).T
    fig, ax = new_figure(4.4, 3.4)
    ax.plot(k, wa, marker="o", color=BLUE, label="WA")
    ax.plot(k, ua, marker="s", linestyle="--", color=ORANGE, label="UA")
    if k.max() >= 8 * k.min():
        ax.set_xscale("log")
    ax.set_xticks(sorted(set(k)), [f"{value:g}" for value in sorted(set(k))])
    ax.minorticks_off()
    ax.set_xlabel(f"K, {name}")
    ax.set_ylabel("WA and UA, mean over folds (%)")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    return fig, ax
