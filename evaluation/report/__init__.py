"""Write a report of all finished runs: tables, significance tests and figures.

    python -m lemer.evaluation.report runs          writes into runs/report

The report opens with what won, by how much, and what cannot be told apart from it, and with a figure of all rows. It writes
report.md with its pictures in figures/, small enough to be committed and shown by GitHub; report.html, one page
that needs no other file; and report.csv with a line for each row.

Every finished run folder of train.py below RUNS_DIR becomes a row. All scores are recomputed from the predictions. Rows
stand in one table only where they share the corpus, transcripts, split, rule of selection, folds and seeds; other rows get
a table of their own, and the report says what differs. Unfinished and damaged run folders are named and left out. Second
stages below RUNS_DIR follow with what they learned.
"""

import re
from pathlib import Path

from ...runtime.command import command_parser
from ...runtime.files import replace_files
from ...runtime.locks import hold
from ...runtime.stopping import run_command
from .figures import draw_figures
from .page import Page, Section, figure_paths, render_html, render_markdown
from .ranking import Place, draw_ranking, rank, ranking_table, verdict
from .rows import Group, Row, Sweep, find_runs, find_sweeps, group_rows, make_row
from .stages import stage_sections
from .tables import (
    csv_table,
    differences_table,
    earlier_table,
    facts_table,
    model_table,
    recall_table,
    results_table,
    significance_table,
    silence_table,
)


def write_report(root: Path, output: Path, names: list[str] | None = None) -> list[str]:
    """
    Write report.md with its figures, report.csv and report.html of all runs below `root` into `output`.

    Figures of an earlier report in `output` that the new one does not show are removed.

    Args:
        names: use only these run folders, given by their paths below `root`, in this order.

    Returns:
        lines for the user: a summary, what was left out, and the files that were written.

    Raises:
        ValueError: `root` has no finished run, or `names` has a run that is not finished or not there.
    """
    root, output = Path(root), Path(output)
    rows, left_out = _read_rows(root, names)
    groups = group_rows(rows, as_given=names is not None)
    places = {group.number: rank(group) for group in groups}
    notes = [f"Protocol {group.number}: " * (len(groups) > 1) + verdict(group, places[group.number]) for group in groups]
    notes.append(f"{len(rows)} finished rows under {len(groups)} protocol{'s' * (len(groups) > 1)}.")
    plots = None
    try:
        from .. import plots  # needs matplotlib, which is optional
    except ImportError as error:
        notes.append(f"There are no figures: {error}")
    stages, damaged = stage_sections(root, plots)
    left_out += [f"skipped: {line}" for line in damaged]
    sweeps = find_sweeps(groups)
    page = Page(
        title=f"Report of {root.resolve().name}",
        notes=notes,
        left_out=left_out,
        before=[differences_table(groups)] if len(groups) > 1 else [],
        sections=[
            *(_section(group, places[group.number], sweeps.get(group.number, []), plots) for group in groups),
            *stages,
        ],
        after=[earlier_table(groups)],
    )
    old_figures = _figures_of(output / "report.md")
    files = {path: figure.png for path, figure in figure_paths(page.sections).items()}
    files |= {"report.md": render_markdown(page), "report.csv": csv_table(groups), "report.html": render_html(page)}
    for path in files:
        (output / path).parent.mkdir(parents=True, exist_ok=True)
    replace_files({output / path: content for path, content in files.items()})
    for path in old_figures - set(files):
        (output / path).unlink(missing_ok=True)
    return [*notes, *left_out, *(str(output / f"report.{kind}") for kind in ("md", "csv", "html"))]


def _read_rows(root: Path, names: list[str] | None) -> tuple[list[Row], list[str]]:
    """The finished rows below `root`, or those of `names`, and a line for each run folder that is left out."""
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    runs, unfinished, damaged = find_runs(root)
    left_out = [f"unfinished: {line}" for line in unfinished] + [f"skipped: {line}" for line in damaged]
    if not runs:
        raise ValueError("; ".join([f"there is no finished run of train.py below {root}", *left_out]))
    rows = {row.path: row for row in (make_row(run, root) for run in runs)}
    unknown = [name for name in names or [] if name not in rows]
    if unknown:
        raise ValueError(f"there is no finished run {', '.join(unknown)} below {root}, but {', '.join(rows)}")
    return [rows[name] for name in names or rows], left_out


def _section(group: Group, places: list[Place], sweeps: list[Sweep], plots) -> Section:
    tables = [results_table(group), recall_table(group)]
    overview = None
    if len(group.rows) > 1:
        tables = [ranking_table(places), *tables, significance_table(group)]
        overview = draw_ranking(places, plots) if plots else None
    silence = silence_table(group)
    tables += [*([silence] if silence else []), model_table(group), facts_table(group)]
    commands = [(row.name, str(row.run.protocol.get("command") or "not recorded")) for row in group.rows]
    figures = draw_figures(group, sweeps, plots) if plots else []
    return Section(f"Protocol {group.number}", tables, figures, commands, overview)


def _figures_of(report: Path) -> set[str]:
    """The figures that a report.md shows, so that a new report removes those that it no longer needs."""
    if not report.is_file():
        return set()
    return set(re.findall(r"\]\((figures/[\w-]+\.png)\)", report.read_text(encoding="utf-8", errors="replace")))


def main(argv: list[str] | None = None) -> int:
    parser = command_parser("python -m lemer.evaluation.report", "runs", __doc__)
    parser.epilog = (
        "report.html loads nothing from the network and runs no script, so it can be sent by mail. Figures need\n"
        "matplotlib (pip install 'lemer[plot]'); without it only the tables are written."
    )
    parser.add_argument("runs_dir", metavar="RUNS_DIR", help="a run folder, or a folder with run folders at any depth")
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="folder of the report (default: RUNS_DIR/report, with --rows RUNS_DIR/report_NAMES)",
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="NAME",
        help="use only these run folders, in this order, each tested against the one before it: --rows B5 C1",
    )
    args = parser.parse_args(argv)
    root = Path(args.runs_dir)
    folder = "_".join(["report", *(args.rows or [])]).replace("/", "_")
    output = Path(args.output or root / folder)

    def work() -> None:
        if not root.is_dir():  # before the lock makes a folder
            raise ValueError(f"there is no folder {root}")
        with hold(output):
            print("\n".join(write_report(root, output, args.rows)))

    return run_command(parser.prog, work, f"A report that was in {output} is still there")
