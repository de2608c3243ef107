"""Sweep the weight of LE-MER's attention constraint (eq. 10 and 12), and cut its gradient into the label-guided attention.

    python benchmarks/table.py [FOLDER]             first: the corpus, the second stage, and row C1, the paper's weight
    python benchmarks/constraint.py [FOLDER]

Each setting is row C1 of table.py with another weight of loss_c, three seeds. "A_l detached" lets loss_c move A_r alone:
its gradient does not reach A_l (B, T, F), eq. 9. As printed in the paper, it reaches both. Two trainings run side by side
with one thread each, and the same command goes on where it was stopped. FOLDER (default: table) gets `constraint/`.

The table has, of the test session (mean ± deviation over seeds): UA in per cent, and over the real pairs of a token and a
frame loss_c, the means of A_l and A_r, and their correlation within an utterance. Nothing is chosen by these numbers.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch

from lemer import LemerModel, LemerProcessor, modeling_lemer, train
from lemer.benchmarks.table import FOLD, ROOT, SEEDS, commands, run_all
from lemer.corpora.iemocap import load_iemocap
from lemer.evaluation.run_folder import read_json
from lemer.training.batches import Collator, evaluation_loader

DETACHED = "--detached"  # the first argument of a process that trains with A_l detached
# (weight of loss_c, A_l detached); row C1 of the table is (0.5, False).
SETTINGS = [(0.0, False), (5.0, False), (50.0, False), (5.0, True), (50.0, True)]
PAPER = (0.5, False)


def name_of(setting: tuple[float, bool]) -> str:
    """The folder of a setting."""
    weight, detached = setting
    return f"C1_{weight:g}{'_detached' if detached else ''}"


def train_detached(arguments: list[str]) -> int:
    """train.py, in which loss_c has no gradient into A_l."""
    constraint = modeling_lemer.attention_constraint
    modeling_lemer.attention_constraint = lambda guided, *others: constraint(guided.detach(), *others)
    return train.main(arguments)


@torch.no_grad()
def attention_statistics(checkpoint: Path, rows) -> list[float]:
    """Loss_c, the mean of A_l, the mean of A_r, and their correlation, each a mean over utterances."""
    model, processor = LemerModel.from_pretrained(checkpoint).eval(), LemerProcessor.from_pretrained(checkpoint)
    statistics = []
    for batch in evaluation_loader(rows, Collator(processor, "multimodal"), batch_size=16):
        del batch["rows"], batch["labels"]
        out = model(**batch, output_attentions=True)
        for row in range(len(out.logits)):
            pairs = out.token_mask[row][:, None] & out.frame_mask[row]  # (T, F)
            guided = out.label_guided_attentions[row][pairs].numpy()
            cross = out.cross_attentions[row][pairs].numpy()
            loss = np.square(guided - cross).mean()
            statistics.append([loss, guided.mean(), cross.mean(), np.corrcoef(guided, cross)[0, 1]])
    return np.mean(statistics, axis=0).tolist()


def line(setting: tuple[float, bool], folder: Path, rows) -> str:
    """The line of a setting in the table; `folder` is its run."""
    values = []
    for seed in SEEDS:
        part = folder / f"fold{FOLD}" / f"seed{seed}"
        values.append([100 * read_json(part / "results.json")["ua"], *attention_statistics(part / "checkpoint", rows)])
    means, deviations = np.mean(values, axis=0), np.std(values, axis=0, ddof=1)
    digits = (1, 4, 3, 4, 2)
    cells = [f"{mean:.{n}f} ± {spread:.{n}f}" for mean, spread, n in zip(means, deviations, digits, strict=True)]
    return f"| {setting[0]:g}{', A_l detached' if setting[1] else ''} | {' | '.join(cells)} |"


def main() -> None:
    folder = Path(os.path.relpath(sys.argv[1] if len(sys.argv) > 1 else "table", ROOT))
    os.chdir(ROOT)
    torch.set_num_threads(1)
    row = commands(folder)["C1"]
    todo = {}
    for setting in SETTINGS:
        program = ["benchmarks/constraint.py", DETACHED] if setting[1] else row[:1]
        options = [
            *row[1:-1],
            str(folder / "constraint" / name_of(setting)),
            "--set",
            f"constraint_loss_weight={setting[0]:g}",
        ]
        todo[name_of(setting)] = [*program, *options, "--second_stage", str(folder / "runs" / "second_stage")]
    run_all(todo, folder / "logs")
    dataset, _ = load_iemocap(folder / "corpus", cache_dir=folder / "cache")
    rows = dataset.select(np.flatnonzero(np.asarray(dataset["session"][:]) == int(FOLD)))
    print("| weight of loss_c | UA | loss_c | mean A_l | mean A_r | correlation |\n|---|---|---|---|---|---|")
    for setting in sorted([*SETTINGS, PAPER], key=lambda setting: (setting[1], setting[0])):
        run = folder / ("runs/C1" if setting == PAPER else f"constraint/{name_of(setting)}")
        print(line(setting, run, rows), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == [DETACHED]:
        raise SystemExit(train_detached(sys.argv[2:]))
    main()
