"""What a model of several corpora is worth on a corpus that it never heard: a section of the model card.

Two runs say it. In the one that is published, speakers of every corpus are held out. In the other one, of
`--protocol corpus`, each fold holds out a whole corpus. Both have the same corpora and recipe.
"""

from pathlib import Path

import numpy as np

from ..corpora.known import KNOWN
from .run_folder import read_run


def left_out_section(folder: Path, protocol: dict, results: dict) -> str:
    """
    The section in Markdown, with scores in per cent.

    Args:
        folder: of a finished run with `--protocol corpus`.
        protocol: of the run that is published.
        results: of the checkpoint that is published.

    Raises:
        ValueError: the run is not finished, holds out something else than whole corpora, or has other corpora or another
            recipe than the published one.
    """
    run = read_run(folder)
    by_name: dict[str, list[dict]] = {}
    for part in run.parts.values():
        by_name.setdefault(part.results.get("fold_name", ""), []).append(part.results)
    if run.protocol.get("protocol") != "corpus" or not set(by_name) <= set(KNOWN):
        raise ValueError(f"{folder} does not hold whole corpora out: give a run of lemer train with --protocol corpus")
    for key in ("recipe", "config", "speech_model", "text_model"):
        if run.protocol.get(key) != protocol.get(key):
            raise ValueError(
                f"{folder} has {key} {run.protocol.get(key)!r}, and the run that is published {protocol.get(key)!r}: its "
                "scores would be those of another model"
            )
    held = results.get("by_corpus", {})
    if not set(held) <= set(by_name):
        raise ValueError(
            f"{folder} has held out {', '.join(by_name)}, and the run that is published is of {', '.join(held)}: give the "
            "lemer train command of the first one without --folds"
        )
    rows = [
        f"| {KNOWN[name].title} | {_mean_ua(parts)} | {_ua(held.get(name))} | {KNOWN[name].licence} |"
        for name, parts in by_name.items()
    ]
    seeds = len(run.seeds)
    deviation = f"mean and deviation of {seeds} seeds" if seeds > 1 else "one seed, so without a deviation"
    return "\n".join(
        [
            "## On a corpus that it never heard",
            "",
            f"UA in per cent. *Left out*: a model of the same settings, trained on the other corpora alone, {deviation}.",
            "*New speakers*: this checkpoint, on speakers of the corpus that it was not trained on.",
            "",
            "| corpus | left out | new speakers | licence of the corpus |",
            "|---|---|---|---|",
            *rows,
            "",
            "The first column is what to expect of other recordings.",
            "",
        ]
    )


def _mean_ua(results: list[dict]) -> str:
    values = 100 * np.array([result["ua"] for result in results])
    spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread} ({results[0]['utterances']:,} utterances)"


def _ua(scores: dict | None) -> str:
    return "none held out" if scores is None else f"{100 * scores['ua']:.1f} ({scores['utterances']:,} utterances)"
