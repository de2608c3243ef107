"""Report of all runs: tables as Markdown and CSV, and one HTML page with figures that needs nothing else.

    python -m lemer.evaluation.report runs          writes runs/report/report.md, report.csv and report.html

Every finished run folder of train.py below RUNS_DIR becomes a row. All figures are recomputed from the predictions. Rows
stand in one table only where they share corpus, transcripts, split, rule of selection, folds and seeds; other rows get a
table of their own, and what differs is said. Unfinished and damaged run folders are named and left out. Second stages below
it follow with what they learned.
"""

import argparse
import csv
import io
import sys
from pathlib import Path

from ...runtime.files import write_atomically
from ..significance import DRAWS
from ..summary import FIGURES
from .page import Figure, Section, Table, render_markdown, render_page
from .rows import PROTOCOL, STYLES, Group, Row, Sweep, find_runs, find_sweeps, group_rows, learning_curve, make_row
from .stages import stage_sections

# What makes a row, so it differs between rows; any other setting that differs within a table is pointed out.
OF_A_ROW = {"recipe", "set", "model", "config", "processor", "command", "second_stage", "fused", "words", "codes"}
OF_A_ROW |= {"semantic_labels", "tonal_labels"}
# The paper's table 2: earlier systems, WA and UA in per cent on the same 5,531 utterances.
EARLIER = (
    ("Chen et al., ICASSP 2022 (key-sparse transformer)", 74.30, 75.30),
    ("Chen et al., TASLP 2021", 74.92, 76.64),
    ("Hou et al., ICASSP 2022", 75.60, 77.60),
    ("Wu et al., ICASSP 2021", 77.57, 78.41),
    ("Santoso et al., Interspeech 2021", 78.40, 78.60),
    ("Li et al., Interspeech 2022", 80.36, 81.70),
)
TESTS = (
    "Each row against the one above it, on the utterances of all folds together, paired by fold, seed and utterance. WA: "
    "McNemar's exact test. UA: paired permutation test of the difference in pooled UA, by exact count where the outcomes "
    f"can be enumerated, else {DRAWS:,} random ones. Two-sided, not corrected for the number of comparisons. With several "
    "seeds an utterance counts once: in McNemar's test as right in the row that has it right with more seeds (a sign test), "
    "in the permutation test with the mean over its seeds. The tests are about these trained models, ± is about training."
)
HOW_TO_READ = (
    "Per cent. WA is accuracy, UA the mean recall of the classes. Means over the folds of each seed, then over the seeds, ± "
    "the standard deviation of the seeds' means where there are several. Pooled: all folds' utterances as one test set."
)
SPEECH_ALONE = "none: speech alone"
RECALLS = "Per cent of all folds' utterances as one test set, means over the seeds."


# ------------------------------------------------------------------------------------------------------------- tables


def percent(share: float | None, spread: float | None = None) -> str:
    if share is None:
        return "-"
    return f"{100 * share:.2f}" + ("" if spread is None else f" ± {100 * spread:.2f}")


def p_value(p: float) -> str:
    return f"{p:.4f}" if p >= 1e-4 else f"{p:.1e}"


def span(values: list) -> str:
    """One number, or the least and the greatest of several, such as parameters of the folds."""
    values = sorted({value for value in values if value is not None})
    if not values:
        return "-"
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def paper_heading(comparable: bool) -> str:
    return "paper, on IEMOCAP (WA / UA)" if comparable else "paper, on IEMOCAP: not comparable (WA / UA)"


def row_title(row: Row) -> str:
    changed = f" [changed: {', '.join(row.changes)}]" if row.changes else ""
    return f"{row.description}{changed}"


def results_table(group: Group) -> Table:
    rows = []
    for row in group.rows:
        mean, deviation = row.summary["mean"], row.summary["deviation"]
        figures = [percent(mean[name], deviation[name]) for name in FIGURES]
        pooled = [percent(row.pooled["wa"]), percent(row.pooled["ua"])]
        paper = "-" if row.paper is None else f"{row.paper[0]:.2f} / {row.paper[1]:.2f}"
        rows.append([row.name, row_title(row), *figures, *pooled, paper])
    header = ["row", "what it is", "WA", "UA", "macro-F1", "pooled WA", "pooled UA", paper_heading(group.comparable)]
    return Table("Results", header, rows, HOW_TO_READ)


def recall_table(group: Group) -> Table:
    styles = [style for style in STYLES if any(style in row.styles for row in group.rows)]
    header = ["row", *(f"recall {name}" for name in group.facts["classes"])]
    header += [f"{style} {figure}" for style in styles for figure in ("WA", "UA", "utterances")]
    rows = []
    for row in group.rows:
        cells = [percent(value) for value in row.pooled["recall"].values()]
        for style in styles:
            scores = row.styles.get(style)
            cells += [percent(scores["wa"]), percent(scores["ua"]), f"{scores['utterances']:,.0f}"] if scores else ["-"] * 3
        rows.append([row.name, *cells])
    title = "Recall of each class" + (f"; {' and '.join(styles)} turns" if styles else "")
    return Table(title, header, rows, RECALLS)


def significance_table(group: Group) -> Table:
    rows = []
    for first, second, test in group.neighbours:
        if isinstance(test, str):
            rows.append([second.name, first.name, test, "", "", "", ""])
            continue
        how = "exact" if test.exact else f"{DRAWS:,} draws"
        rows.append(
            [
                second.name,
                first.name,
                f"{test.only_second} / {test.only_first} of {test.utterances:,}",
                p_value(test.wa_p),
                f"{100 * test.ua_difference:+.2f}",
                p_value(test.ua_p),
                how,
            ]
        )
    header = ["row", "against", "right in this / the other alone", "McNemar p (WA)"]
    header += ["pooled UA, difference", "permutation p (UA)", "counted"]
    return Table("Significance of neighbouring rows", header, rows, TESTS)


def model_table(group: Group) -> Table:
    rows = []
    for row in group.rows:
        protocol = row.run.protocol
        parts = [part.results for part in row.run.parts.values()]
        modality = (protocol.get("config") or {}).get("modality")
        towers = [
            f"{kind}: {protocol[f'{kind}_model']}"
            for kind, other in (("speech", "text"), ("text", "speech"))
            if protocol.get(f"{kind}_model") and modality != other
        ]
        rows.append(
            [
                row.name,
                span([part.get("parameters") for part in parts]),
                span([part.get("trained_parameters") for part in parts]),
                ", ".join(towers) or "-",
                second_stage_of(protocol),
                history_of(protocol),
            ]
        )
    header = ["row", "parameters", "trained", "towers", "second stage", "history"]
    return Table("Models", header, rows)


def runs_of(protocol: dict) -> list[dict]:
    """The protocol itself, or of a fused row those of its two runs."""
    return [{**protocol, "fused": None, **run} for run in protocol.get("fused") or []] or [protocol]


def second_stage_of(protocol: dict) -> str:
    stages = [str(run.get("second_stage") or "-") for run in runs_of(protocol)]
    return next((stage for stage in stages if stage != "-"), "-")


def history_of(protocol: dict) -> str:
    """What the words' branch reads before the current utterance."""
    if protocol.get("fused"):
        histories = [history_of(run) for run in runs_of(protocol)]
        return next((history for history in histories if history != SPEECH_ALONE), SPEECH_ALONE)
    if (protocol.get("config") or {}).get("modality") == "speech":
        return SPEECH_ALONE
    turns = (protocol.get("processor") or {}).get("max_history")
    if turns == 0:
        return "none"
    text = str(protocol.get("history") or "-")
    return text if turns is None else f"{text}; the newest {turns}"


def fact(group: Group, name: str) -> str:
    """What the rows of a table share, as text."""
    value = group.facts[name]
    if value is None:
        return "the corpus's own" if name == "transcripts" else "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def facts_table(group: Group) -> Table:
    rows = [[name.replace("_", " "), fact(group, name)] for name in group.facts]
    rows.append(["utterances scored", f"{group.rows[0].pooled['utterances']:,.0f}"])
    rows.append(["the paper's 5,531 utterances, five folds", "yes" if group.comparable else "no"])
    differing = other_settings(group)
    rows += [[f"{name}: differs between rows", values] for name, values in differing.items()]
    return Table("Protocol", ["", "all rows of this table"], rows)


def other_settings(group: Group) -> dict[str, str]:
    """Settings of training that are no part of a row's recipe and yet differ between the rows of a table."""
    protocols = [(row.name, row.run.protocol) for row in group.rows if "fused" not in row.run.protocol]
    names = sorted({name for _, protocol in protocols for name in protocol} - OF_A_ROW - set(PROTOCOL))
    found = {}
    for name in names:
        values = {}
        for row, protocol in protocols:
            if name in protocol:
                values.setdefault(str(protocol[name]), []).append(row)
        if len(values) > 1:
            found[name] = "; ".join(f"{value} in {', '.join(rows)}" for value, rows in values.items())
    return found


def differences_table(groups: list[Group]) -> Table:
    """What tells the protocols apart."""
    names = [name for name in groups[0].facts if len({repr(group.facts[name]) for group in groups}) > 1]
    header = ["", *(f"protocol {group.number}" for group in groups)]
    rows = []
    for name in names:
        rows.append([name.replace("_", " "), *(fact(group, name) for group in groups)])
    rows.append(["rows", *(", ".join(row.name for row in group.rows) for group in groups)])
    return Table("Why there are several tables", header, rows, "Rows of different protocols are not comparable.")


def earlier_table(groups: list[Group]) -> Table:
    fits = [str(group.number) for group in groups if group.comparable]
    where = f"Protocol {', '.join(fits)} is" if fits else "No table of this report is"
    note = f"As the paper prints them, on IEMOCAP's 5,531 utterances. {where} on those, with all five folds."
    rows = [[name, f"{wa:.2f}", f"{ua:.2f}"] for name, wa, ua in EARLIER]
    return Table("Earlier systems (table 2 of the paper)", ["system", "WA", "UA"], rows, note)


# ------------------------------------------------------------------------------------------------------------ figures


def draw_figures(group: Group, sweeps: list[Sweep], plots) -> list[Figure]:
    figures = []
    for sweep in sweeps:
        fig, _ = plots.k_sweep(sweep.points, sweep.name)
        changed = f", {sweep.changes}" if sweep.changes else ""
        caption = (
            f"WA and UA against K, {sweep.name} (the paper's figure 3){changed}; seeds {', '.join(map(str, sweep.seeds))}"
        )
        said = ", ".join(f"K={k} WA {wa:.2f} UA {ua:.2f}" for k, wa, ua in sweep.points)
        figures.append(Figure(caption, plots.png(fig), said))
    for row in group.rows:
        fig, _ = plots.confusion_matrix(row.pooled["confusion"], row.run.names)
        said = ", ".join(f"{name} {percent(value)}" for name, value in row.pooled["recall"].items())
        figures.append(Figure(f"{row.name}: confusion, all folds pooled", plots.png(fig), f"recall: {said}"))
    for row in group.rows:
        curves = {f"fold {f}, seed {s}": learning_curve(part) for (f, s), part in row.run.parts.items()}
        curves = {name: curve for name, curve in curves.items() if curve is not None}
        if curves:
            fig, _ = plots.learning_curves(curves)
            last = ", ".join(f"{name} {curve['loss'][-1]:.3f}" for name, curve in curves.items())
            figures.append(
                Figure(f"{row.name}: learning curves", plots.png(fig), f"training loss of the last epoch: {last}")
            )
    return figures


# ------------------------------------------------------------------------------------------------------------- output


def csv_table(groups: list[Group]) -> str:
    """One line a row, figures in per cent, and everything that is needed to know what it is and to repeat it."""
    lines = []
    for group in groups:
        tests = {id(second): test for _, second, test in group.neighbours if not isinstance(test, str)}
        for row in group.rows:
            parts = [part.results for part in row.run.parts.values()]
            line = {"protocol": group.number, "recipe": row.recipe, "folder": row.place, "description": row.description}
            line["changes"] = " ".join(row.changes)
            for name in FIGURES:
                line[name] = percent(row.summary["mean"][name])
                line[f"{name}_deviation"] = percent(row.summary["deviation"][name])
            line.update(pooled_wa=percent(row.pooled["wa"]), pooled_ua=percent(row.pooled["ua"]))
            line["utterances"] = f"{row.pooled['utterances']:.0f}"
            line.update({f"recall_{name}": percent(value) for name, value in row.pooled["recall"].items()})
            for style, scores in row.styles.items():
                line.update({f"{style}_wa": percent(scores["wa"]), f"{style}_ua": percent(scores["ua"])})
            if id(row) in tests:
                test = tests[id(row)]
                line.update(wa_p_against_previous=f"{test.wa_p:.6g}", ua_p_against_previous=f"{test.ua_p:.6g}")
            if row.paper is not None:
                line.update(paper_wa=f"{row.paper[0]:.2f}", paper_ua=f"{row.paper[1]:.2f}")
            line["comparable_with_paper"] = "yes" if group.comparable else "no"
            line["parameters"] = span([part.get("parameters") for part in parts]).replace(",", "")
            line["trained_parameters"] = span([part.get("trained_parameters") for part in parts]).replace(",", "")
            for name, value in group.facts.items():
                line[name] = " ".join(map(str, value)) if isinstance(value, list) else value
            line["history"] = history_of(row.run.protocol)
            line["second_stage"] = second_stage_of(row.run.protocol)
            line["command"] = row.run.protocol.get("command")
            lines.append(line)
    columns = list(dict.fromkeys(name for line in lines for name in line))
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value in (None, "-") else value for name, value in line.items()} for line in lines)
    return file.getvalue()


def write_report(root: Path, output: Path, names: list[str] | None = None) -> list[str]:
    """
    Write report.md, report.csv and report.html of all runs below `root` into `output`.

    Args:
        names: only these run folders, as they are called below `root`, in this order.

    Returns:
        what a person should be told: the files, and what was left out.

    Raises:
        ValueError: there is no finished run, or none of a name.
    """
    root, output = Path(root), Path(output)
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    runs, unfinished, damaged = find_runs(root)
    left_out = [f"unfinished: {line}" for line in unfinished] + [f"skipped: {line}" for line in damaged]
    if not runs:
        raise ValueError("; ".join([f"there is no finished run of train.py below {root}", *left_out]))
    rows = {row.place: row for row in (make_row(run, root) for run in runs)}
    unknown = [name for name in names or [] if name not in rows]
    if unknown:
        raise ValueError(f"there is no finished run {', '.join(unknown)} below {root}, but {', '.join(rows)}")
    groups = group_rows([rows[name] for name in names or rows], as_given=names is not None)
    notes = [f"{len(names or rows)} finished rows under {len(groups)} protocol{'s' * (len(groups) > 1)}."]
    plots = None
    try:
        from .. import plots
    except ImportError as error:
        notes.append(f"There are no figures: {error}")
    stages, damaged = stage_sections(root, plots)
    left_out += [f"skipped: {line}" for line in damaged]
    sweeps, sections = find_sweeps(groups), []
    for group in groups:
        tables = [results_table(group), recall_table(group)]
        if len(group.rows) > 1:
            tables.append(significance_table(group))
        tables += [model_table(group), facts_table(group)]
        commands = [(row.name, str(row.run.protocol.get("command") or "not recorded")) for row in group.rows]
        figures = draw_figures(group, sweeps.get(group.number, []), plots) if plots else []
        sections.append(Section(f"Protocol {group.number}", tables, figures, commands))
    before = [differences_table(groups)] if len(groups) > 1 else []
    page = dict(
        title=f"Report of {root.resolve().name}",
        notes=notes,
        left_out=left_out,
        before=before,
        sections=[*sections, *stages],
        after=[earlier_table(groups)],
    )
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "report.md", render_markdown(**page))
    write_atomically(output / "report.csv", csv_table(groups))
    write_atomically(output / "report.html", render_page(**page))
    return [*notes, *left_out, *(str(output / f"report.{kind}") for kind in ("md", "csv", "html"))]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lemer.evaluation.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="The page asks for nothing from the network and runs no script: it can be mailed. Figures need matplotlib "
        "(pip install 'lemer[plot]'); without it the tables are written alone.",
    )
    parser.add_argument("runs_dir", metavar="RUNS_DIR", help="a run folder, or a folder with run folders at any depth")
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="where the three files go (default: RUNS_DIR/report, of --rows RUNS_DIR/report_NAMES)",
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="NAME",
        help="only these run folders, in this order, each tested against the one before it: --rows B5 C1",
    )
    args = parser.parse_args(argv)
    root = Path(args.runs_dir)
    try:
        own = "_".join(["report", *(args.rows or [])]).replace("/", "_")
        lines = write_report(root, Path(args.output or root / own), args.rows)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
