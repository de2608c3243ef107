"""The figures of a report as PNG: WA and UA against K, confusion matrices and learning curves."""

from .page import Figure
from .rows import Group, Row, Sweep, learning_curve
from .tables import percent


def draw_figures(group: Group, sweeps: list[Sweep], plots) -> list[Figure]:
    """
    All figures of one protocol.

    Args:
        plots: the module `lemer.evaluation.plots`, which needs matplotlib.
    """
    figures = []
    for row in group.rows:
        figures.append(_draw_confusion(row, plots))
        curves = {f"fold {fold}, seed {seed}": learning_curve(part) for (fold, seed), part in row.run.parts.items()}
        curves = {name: curve for name, curve in curves.items() if curve is not None}
        if curves:
            figures.append(_draw_curves(row, curves, plots))
    return figures + [_draw_sweep(sweep, plots) for sweep in sweeps]


def _draw_sweep(sweep: Sweep, plots) -> Figure:
    fig, _ = plots.k_sweep(sweep.points, sweep.name)
    changed = f", {sweep.changes}" if sweep.changes else ""
    seeds = ", ".join(map(str, sweep.seeds))
    caption = f"WA and UA against K, {sweep.name} (the paper's figure 3){changed}; seeds {seeds}"
    description = ", ".join(f"K={k} WA {wa:.2f} UA {ua:.2f}" for k, wa, ua in sweep.points)
    return Figure(f"sweep of {sweep.name}", caption, plots.png(fig), description)


def _draw_confusion(row: Row, plots) -> Figure:
    fig, _ = plots.confusion_matrix(row.pooled["confusion"], row.run.names)
    recalls = ", ".join(f"{name} {percent(value)}" for name, value in row.pooled["recall"].items())
    caption = f"{row.name}: confusion matrix, all folds pooled"
    return Figure(f"{row.name} confusion", caption, plots.png(fig), f"recall: {recalls}")


def _draw_curves(row: Row, curves: dict[str, dict], plots) -> Figure:
    fig, _ = plots.learning_curves(curves)
    last = ", ".join(f"{name}: {curve['loss'][-1]:.3f}" for name, curve in curves.items())
    description = f"training loss of the last epoch: {last}"
    return Figure(f"{row.name} curves", f"{row.name}: learning curves", plots.png(fig), description)
