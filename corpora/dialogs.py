"""Written dialogs, one a line with all its turns, as a table of turns that `train.py --corpus` reads.

    python -m lemer.corpora.dialogs DIALOGS.jsonl TURNS.jsonl --labels ang hap neu sad --max_per_class 250
    python train.py --corpus TURNS.jsonl --fold_column fold --dialog_column dialog --order_column order --recipe A2 ...

A line of DIALOGS.jsonl is {"turns": [{"speaker": "F", "text": "...", "emotion": "neu"}, ...]}, and `id` if it has one.
A line of TURNS.jsonl is a turn: id, dialog, order, speaker, text, label, fold.

Every dialog is in one fold, and dialogs that share lines are in the same, so that no fold is tested on what another one
was trained on. In daily talk nearly every turn is neutral: `--max_per_class` keeps the labels of so many turns of a class
and makes the others history only, which the classifier then hears as context and never has to answer. Which ones are
kept depends on the texts alone, so the same command writes the same file.
"""

import argparse
import hashlib
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

from ..runtime.command import command_parser
from ..runtime.files import write_atomically
from ..runtime.locks import hold
from ..runtime.stopping import run_command

SHARED_LINES = 2  # dialogs with so many long lines in common are told twice
LONG_LINE = 5  # words; "can I help you?" is everywhere
SHOWN = 5  # damaged lines that are named


def read_dialogs(path: Path) -> tuple[list[dict], list[str]]:
    """
    The dialogs of a file, and one line on each that is damaged and left out.

    Returns:
        Dicts of `id` and `turns`; a turn has `speaker`, `text` and `emotion` (None where it has none).
    """
    dialogs, damaged = [], []
    with open(path, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                dialog = json.loads(line)
                turns = [
                    {
                        "speaker": "" if turn.get("speaker") is None else str(turn["speaker"]),
                        "text": turn["text"].strip(),
                        "emotion": turn.get("emotion"),
                    }
                    for turn in dialog["turns"]
                ]
                if not turns or not all(turn["text"] for turn in turns):
                    raise ValueError("it has a turn without text" if turns else "it has no turns")
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                damaged.append(f"line {number}: {error!r}")
                continue
            name = dialog.get("id")
            name = f"dialog{number:05d}" if name is None or name == "" else str(name)
            dialogs.append({"id": name, "turns": turns})
    twice = [name for name, count in Counter(dialog["id"] for dialog in dialogs).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: {len(twice)} ids stand for several dialogs, such as {twice[0]}")
    return dialogs, damaged


def group_dialogs(dialogs: list[dict]) -> list[int]:
    """The group of each dialog; two are in one group where they share `SHARED_LINES` long lines, or are linked by others."""
    where = defaultdict(set)
    for index, dialog in enumerate(dialogs):
        texts = [turn["text"].lower() for turn in dialog["turns"]]
        where[tuple(texts)].add(index)  # short ones told twice
        for text in texts:
            if len(text.split()) >= LONG_LINE:
                where[text].add(index)
    shared = Counter()
    for text, indices in where.items():
        indices = sorted(indices)
        for place, first in enumerate(indices):
            for second in indices[place + 1 :]:
                shared[first, second] += SHARED_LINES if isinstance(text, tuple) else 1
    group = list(range(len(dialogs)))

    def root(index: int) -> int:
        while group[index] != index:
            index = group[index]
        return index

    for (first, second), count in shared.items():
        if count >= SHARED_LINES:
            low, high = sorted((root(first), root(second)))
            group[high] = low
    return [root(index) for index in range(len(dialogs))]


def _order_of(text: str) -> bytes:
    """A chance order that depends on the text alone."""
    return hashlib.sha256(text.encode()).digest()


def make_turns(
    dialogs: list[dict], labels: list[str] | None = None, folds: int = 5, max_per_class: int | None = None
) -> list[dict]:
    """
    The table of turns.

    Args:
        dialogs: of `read_dialogs`.
        labels: Emotions that are labels; turns of others are history only. None: all.
        folds: Groups of dialogs are dealt to so many folds, numbered from 1, in a chance order, the next one to the fold
            with the fewest labelled turns.
        max_per_class: Labels kept a class. None: all.

    Raises:
        ValueError: a label that no turn has; fewer groups of dialogs than folds.
    """
    present = {turn["emotion"] for dialog in dialogs for turn in dialog["turns"]} - {None}
    if unknown := set(labels or ()) - present:
        raise ValueError(f"no turn is labelled {', '.join(sorted(unknown))}: the labels are {', '.join(sorted(present))}")
    groups = group_dialogs(dialogs)
    rows = []
    for dialog, group in zip(dialogs, groups, strict=True):
        for order, turn in enumerate(dialog["turns"]):
            label = turn["emotion"] if labels is None or turn["emotion"] in labels else None
            row = {"id": f"{dialog['id']}_{order:03d}", "dialog": dialog["id"], "order": order, "label": label}
            rows.append({**row, "speaker": turn["speaker"], "text": turn["text"], "group": group})
    if max_per_class is not None:
        kept = Counter()
        for row in sorted(rows, key=lambda row: _order_of(row["id"] + row["text"])):
            kept[row["label"]] += 1
            if kept[row["label"]] > max_per_class:
                row["label"] = None
    sizes = Counter({group: 0 for group in groups})
    sizes.update(row["group"] for row in rows if row["label"] is not None)
    if len(sizes) < folds:
        raise ValueError(f"{len(sizes)} dialogs without lines in common cannot be dealt to {folds} folds")
    fold_of, filled = {}, Counter({fold: 0 for fold in range(1, folds + 1)})
    for group in sorted(sizes, key=lambda group: _order_of(dialogs[group]["turns"][0]["text"] + dialogs[group]["id"])):
        fold_of[group] = min(filled, key=lambda fold: (filled[fold], fold))
        filled[fold_of[group]] += sizes[group]
    for row in rows:
        row["fold"] = fold_of[row.pop("group")]
    return rows


def main(argv=None) -> int:
    example = "DIALOGS.jsonl TURNS.jsonl --labels ang hap neu sad"
    parser = command_parser("python -m lemer.corpora.dialogs", example, __doc__)
    parser.add_argument("dialogs", type=Path, help="file of dialogs, one a line")
    parser.add_argument("turns", type=Path, help="file to write, one turn a line")
    parser.add_argument("--labels", nargs="+", help="emotions to tell apart; other turns are history only (default: all)")
    parser.add_argument("--folds", type=int, default=5, help="folds of whole dialogs (default: 5)")
    parser.add_argument("--max_per_class", type=int, help="labels kept a class, the other turns are history only")
    args = parser.parse_args(argv)
    if args.folds < 2 or (args.max_per_class is not None and args.max_per_class < 1):
        parser.error("--folds must be 2 or more, --max_per_class 1 or more")
    return run_command(parser.prog, lambda: write_turns(args), f"{args.turns} is what it was before")


def write_turns(args: argparse.Namespace) -> None:
    """Read the dialogs, write the table of turns, and print what is in it."""
    with hold(args.turns):
        dialogs, damaged = read_dialogs(args.dialogs)
        rows = make_turns(dialogs, args.labels, args.folds, args.max_per_class)
        write_atomically(args.turns, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    counts = Counter((row["fold"], row["label"]) for row in rows)
    names = sorted({row["label"] for row in rows} - {None})
    print(f"{len(dialogs)} dialogs, {len(rows)} turns\n{'fold':<6}{''.join(f'{name:>8}' for name in names)}{'history':>9}")
    for fold in range(1, args.folds + 1):
        print(f"{fold:<6}{''.join(f'{counts[fold, name]:>8}' for name in names)}{counts[fold, None]:>9}")
    for line in damaged[:SHOWN]:
        print(f"left out: {line}", file=sys.stderr)
    if damaged:
        print(f"left out: {len(damaged)} damaged lines in all", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
