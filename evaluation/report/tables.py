"""The tables of a report: results, recalls, significance, models, protocol, and all of them as CSV."""

from ...runtime.files import format_csv
from ..significance import DRAWS
from ..summary import FIGURES, tower_name
from .page import Table
from .rows import PROTOCOL, STYLES, Group, Row

# Settings that make a row, so that they differ between rows. Any other difference within a table is pointed out.
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
    "Each row is compared with the row above it, on the utterances of all folds, paired by fold, seed and utterance. WA is "
    "tested by McNemar's exact test. The difference in pooled UA is tested by a paired permutation test, which counts all "
    f"outcomes if they can be enumerated and {DRAWS:,} random ones otherwise. Both tests are two-sided and not corrected "
    "for the number of comparisons. With several seeds an utterance counts once: in McNemar's test for the row that has it "
    "right with more seeds (a sign test), in the permutation test with its mean over the seeds. The tests tell whether "
    "these trained models differ; the deviation ± tells how much another training would change."
)
HOW_TO_READ = (
    "In per cent. WA is the accuracy, UA the mean recall of the classes. Each score is the mean over the folds of a seed, "
    "then over the seeds; ± is the standard deviation of the seeds' means, if there are several seeds. Pooled scores take "
    "the utterances of all folds as one test set."
)
SPEECH_ALONE = "none: speech alone"
WITH_SILENCE = (
    "In per cent, mean over folds and seeds, of rows that were trained with `--silence`: so many seconds of digital zeros "
    "before and after every test recording. They are as train.py left them and not recomputed."
)
RECALLS = "In per cent, with the utterances of all folds as one test set; means over the seeds."


def percent(share: float | None, deviation: float | None = None) -> str:
    """A share between 0 and 1 in per cent, with its deviation."""
    if share is None:
        return "-"
    return f"{100 * share:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")


def p_value(p: float) -> str:
    return f"{p:.4f}" if p >= 1e-4 else f"{p:.1e}"


def span(values: list) -> str:
    """One number, or the smallest and the largest of several: the folds may differ in their number of parameters."""
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


def silence_table(group: Group) -> Table | None:
    """UA as the recordings are and with silence around them, of the rows that were scored so; None where none was."""
    rows = []
    for row in group.rows:
        if (silent := row.silent) is not None:
            before = row.summary["mean"]["ua"], row.summary["deviation"]["ua"]
            difference = f"{round(100 * (silent['ua'] - before[0]), 2) + 0.0:+.2f}"
            cells = [percent(*before), percent(silent["ua"], silent["deviation"]), difference, percent(silent["changed"])]
            rows.append([row.name, f"{silent['seconds']:g}", *cells])
    header = ["row", "seconds", "UA as they are", "UA with silence", "difference", "answers changed"]
    return Table("With silence", header, rows, WITH_SILENCE) if rows else None


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
                f"{round(100 * test.ua_difference, 2) + 0.0:+.2f}",
                p_value(test.ua_p),
                how,
            ]
        )
    header = ["row", "against", "only this right / only the other right", "McNemar p (WA)"]
    header += ["pooled UA, difference", "permutation p (UA)", "counted"]
    return Table("Significance of neighbouring rows", header, rows, TESTS)


def model_table(group: Group) -> Table:
    rows = []
    for row in group.rows:
        protocol = row.run.protocol
        parts = [part.results for part in row.run.parts.values()]
        modality = (protocol.get("config") or {}).get("modality")
        towers = [
            f"{kind}: {tower_name(str(protocol[f'{kind}_model']))}"
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
    return Table(
        "Models", header, rows, "Towers of earlier runs have the names of these; the commands below name their folders."
    )


def runs_of(protocol: dict) -> list[dict]:
    """The protocol itself, or the protocols of the two runs of a score fusion."""
    return [{**protocol, "fused": None, **run} for run in protocol.get("fused") or []] or [protocol]


def second_stage_of(protocol: dict) -> str:
    """The second stage of a run, or of the run of a score fusion that has one."""
    stages = [str(run.get("second_stage") or "-") for run in runs_of(protocol)]
    return next((stage for stage in stages if stage != "-"), "-")


def history_of(protocol: dict) -> str:
    """Which earlier turns the text branch reads before the current utterance."""
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
    """A setting that the rows of a table share, as text."""
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
    return Table("Protocol", ["setting", "all rows of this table"], rows)


def other_settings(group: Group) -> dict[str, str]:
    """Training settings outside of the recipes that differ between the rows of a table, with the rows of each value."""
    protocols = [(row.name, row.run.protocol) for row in group.rows if "fused" not in row.run.protocol]
    names = sorted({name for _, protocol in protocols for name in protocol} - OF_A_ROW - set(PROTOCOL))
    differing = {}
    for name in names:
        values = {}
        for row, protocol in protocols:
            if name in protocol:
                values.setdefault(str(protocol[name]), []).append(row)
        if len(values) > 1:
            differing[name] = "; ".join(f"{value} in {', '.join(rows)}" for value, rows in values.items())
    return differing


def differences_table(groups: list[Group]) -> Table:
    """The settings in which the protocols differ."""
    names = [name for name in groups[0].facts if len({repr(group.facts[name]) for group in groups}) > 1]
    header = ["setting", *(f"protocol {group.number}" for group in groups)]
    rows = []
    for name in names:
        rows.append([name.replace("_", " "), *(fact(group, name) for group in groups)])
    rows.append(["rows", *(", ".join(row.name for row in group.rows) for group in groups)])
    return Table("Why there are several tables", header, rows, "Rows of different protocols are not comparable.")


def earlier_table(groups: list[Group]) -> Table:
    comparable = [str(group.number) for group in groups if group.comparable]
    tables = f"Protocol {', '.join(comparable)} uses" if comparable else "No table of this report uses"
    note = f"As the paper prints them, on IEMOCAP's 5,531 utterances. {tables} these utterances and all five folds."
    rows = [[name, f"{wa:.2f}", f"{ua:.2f}"] for name, wa, ua in EARLIER]
    return Table("Earlier systems (table 2 of the paper)", ["system", "WA", "UA"], rows, note)


def csv_table(groups: list[Group]) -> str:
    """A line for each row: its scores in per cent, its settings, and the command that repeats it."""
    lines = []
    for group in groups:
        tests = {id(second): test for _, second, test in group.neighbours if not isinstance(test, str)}
        for row in group.rows:
            parts = [part.results for part in row.run.parts.values()]
            line = {"protocol": group.number, "recipe": row.recipe, "folder": row.path, "description": row.description}
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
    filled = ({name: "" if value in (None, "-") else value for name, value in line.items()} for line in lines)
    return format_csv(columns, ([line.get(name, "") for name in columns] for line in filled))
