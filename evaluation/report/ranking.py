"""Which row of a table is best, by how much, and which rows cannot be told apart from it."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..intervals import share_intervals
from ..significance import compare
from .page import Figure, Table
from .rows import Group, Row
from .tables import p_value, percent

LEVEL = 0.05  # of the tests, and 1 - LEVEL of the intervals
NAMED = 6  # rows that a sentence names; of more it says the number
RANKING = (
    "By pooled UA, in per cent; ± is the standard deviation of the seeds' means. The interval says how much the UA would "
    "change with other utterances of the same kind, taken as independent. p is that of the paired permutation test of the "
    "UA against the first row, two-sided, by Holm's correction for the number of rows. The first row is the highest of all "
    "on these utterances, so its own figure is likely too high. Rows that cannot be told apart may differ all the same."
)


@dataclass
class Place:
    """
    A row in a ranking. All but `p` are shares between 0 and 1.

    Attributes:
        ua: with the utterances of all folds as one test set, mean over the seeds.
        low, high: its 95 % interval over utterances.
        by_seed: the same of each seed.
        p: that the difference from the first row is chance, corrected; None for the first row, and where none can be tested.
    """

    row: Row
    ua: float
    low: float
    high: float
    by_seed: list[float]
    p: float | None = None

    @property
    def is_apart(self) -> bool:
        """Whether the row is told apart from the first one."""
        return self.p is not None and self.p < LEVEL


def right_shares(row: Row) -> tuple[np.ndarray, np.ndarray]:
    """With how many of the seeds each utterance is right, as a share (N,), and its label (N,)."""
    right, labels = Counter(), {}
    for (fold, _), part in row.run.parts.items():
        answers = part.predictions
        for name, label, is_right in zip(answers.ids, answers.labels.tolist(), answers.right.tolist(), strict=True):
            right[fold, name] += is_right
            labels[fold, name] = label
    shares = np.array([right[name] / len(row.run.seeds) for name in labels])
    return shares, np.array(list(labels.values()))


def holm(values: list[float]) -> list[float]:
    """p-values, corrected by Holm's method for their number."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    corrected, highest = [0.0] * len(values), 0.0
    for step, index in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - step) * values[index]))
        corrected[index] = highest
    return corrected


def rank(group: Group) -> list[Place]:
    """The rows of a table by their pooled UA, the highest first."""
    places = []
    for row in group.rows:
        shares, labels = right_shares(row)
        low, high = share_intervals(shares, labels, 1 - LEVEL)["ua"]
        seeds = []
        for seed in row.run.seeds:
            parts = [part.predictions for (_, its_seed), part in row.run.parts.items() if its_seed == seed]
            right, classes = (np.concatenate([getattr(part, name) for part in parts]) for name in ("right", "labels"))
            seeds.append(float(np.mean([right[classes == label].mean() for label in np.unique(classes)])))
        places.append(Place(row, row.pooled["ua"], low, high, seeds))
    places.sort(key=lambda place: -place.ua)
    tested, values = [], []
    answers = [{key: part.predictions for key, part in place.row.run.parts.items()} for place in places]
    for place, its_answers in zip(places[1:], answers[1:], strict=True):
        try:
            values.append(compare(answers[0], its_answers).ua_p)
        except ValueError:  # rows of other utterances; the table of significance says why
            continue
        tested.append(place)
    for place, p in zip(tested, holm(values), strict=True):
        place.p = p
    return places


def ranking_table(places: list[Place]) -> Table:
    rows = []
    for number, place in enumerate(places, 1):
        apart = "" if number == 1 else "not tested" if place.p is None else "yes" if place.is_apart else "no"
        rows.append(
            [
                f"{number}. {place.row.name}",
                percent(place.ua, place.row.summary["deviation"]["ua"]),
                f"{percent(place.low)} to {percent(place.high)}",
                percent(places[0].ua - place.ua),
                "-" if place.p is None else p_value(place.p),
                apart,
            ]
        )
    header = ["row", "UA", "95 % interval", "behind the first", "p", "told apart from the first"]
    return Table("Ranking", header, rows, RANKING)


def verdict(group: Group, places: list[Place]) -> str:
    """What won, by how much, and what cannot be told apart from it, in three sentences."""
    first, seeds = places[0], len(group.facts["seeds"])
    deviation = first.row.summary["deviation"]["ua"]
    spread = f" ± {100 * deviation:.2f} over {seeds} seeds" if deviation is not None else ""
    utterances = f"{first.row.pooled['utterances']:,.0f} utterances"
    if len(places) == 1:
        low, high = percent(first.low), percent(first.high)
        return (
            f"The only row, {first.row.name}, has a UA of {percent(first.ua)} %{spread} ({low} to {high}) on {utterances}."
        )
    second, last = places[1], places[-1]
    told = f"{first.row.name} has the highest UA of {len(places)} rows, {percent(first.ua)} %{spread} on {utterances}. "
    told += f"That is {percent(first.ua - second.ua)} points above the next row, {second.row.name}"
    told += f", and {percent(first.ua - last.ua)} above the last, {last.row.name}. " if last is not second else ". "
    alike = [place.row.name for place in places[1:] if not place.is_apart]
    if not alike:
        return f"{told}Every other row can be told apart from it (p below {LEVEL:g}, corrected for the number of rows)."
    which = ", ".join(alike[:NAMED]) + (f" and {len(alike) - NAMED} more" if len(alike) > NAMED else "")
    return f"{told}These cannot be told apart from it: {which}."


def draw_ranking(places: list[Place], plots) -> Figure:
    """
    Every row with its interval.

    Args:
        plots: the module `lemer.evaluation.plots`, which needs matplotlib.
    """
    rows = [(place.row.name, place.ua, place.low, place.high, place.by_seed, place.is_apart) for place in places]
    fig, _ = plots.ranking(rows)
    caption = "UA of every row, with its 95 % interval over utterances; small dots are the seeds"
    numbers = ", ".join(f"{place.row.name} {percent(place.ua)}" for place in places)
    return Figure("ranking", caption, plots.png(fig), numbers)
