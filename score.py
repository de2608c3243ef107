"""Score a checkpoint on a labelled corpus, also on one that it was not trained on.

    lemer evaluate CHECKPOINT --corpus ravdess=DIR                          a corpus that is known by name
    lemer evaluate CHECKPOINT --corpus table.csv --output_dir scores        any table, folder or dataset with labels
    lemer evaluate CHECKPOINT --corpus folder --label_map exc=hap bored=neu
    lemer evaluate CHECKPOINT --corpus ravdess=DIR --silence 1              once more with a second of silence around each

CHECKPOINT is a folder that train.py wrote, or a name on the Hub. Every labelled utterance of the corpus is answered as
train.py answers its test utterances: whole, with its words and its history where the corpus has them. Labels of the corpus
become classes of the model by --label_map, by equal names, or by words for the same emotion (angry, anger and ang); the map
is printed. Utterances of other labels are left out and counted.

Prints WA, UA and macro-F1 with their intervals, the recall of each class, the confusion matrix, and the expected calibration
error. OUTPUT_DIR gets scores.json, scores.md, predictions.csv, and reliability.png and confusion.png where matplotlib is
installed.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lemer.corpora.options import add_source_options
from lemer.runtime.command import check_checkpoint, command_parser

if TYPE_CHECKING:
    import datasets
    import numpy as np

    from lemer.corpora.report import Report


def parse_args(argv=None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Read and check the options; a mistake ends the process with a message."""
    parser = command_parser("score.py", "CHECKPOINT --corpus CORPUS", __doc__)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", nargs="?", help="folder, or name on the Hub")
    group = parser.add_argument_group("corpus")
    add_source_options(group)
    group.add_argument(
        "--label_map",
        nargs="+",
        default=[],
        metavar="LABEL=CLASS",
        help="which class of the model a label of the corpus means (default: equal names, and words for one emotion)",
    )
    parser.add_argument("--output_dir", type=Path, metavar="DIR", help="write scores, predictions and figures there")
    parser.add_argument(
        "--silence",
        type=float,
        metavar="SECONDS",
        help="score every recording once more with so many seconds of digital zeros before and after it",
    )
    parser.add_argument("--batch_size", type=int, default=8, metavar="N", help="utterances of a forward pass (default: 8)")
    args = parser.parse_intermixed_args(argv)
    check_checkpoint(parser, args.checkpoint)
    if args.silence is not None and not 0 < args.silence <= 10:
        parser.error(f"--silence must be above 0 and at most 10 seconds, got {args.silence:g}")
    if args.batch_size < 1:
        parser.error(f"--batch_size must be at least 1, got {args.batch_size}")
    return parser, args


def choose_modality(config, report: "Report") -> str:
    """
    What the model reads of this corpus.

    Raises:
        ValueError: the corpus has not what the model needs.
    """
    if config.modality == "multimodal" and config.answers_from_one_modality and not (report.has_audio and report.has_text):
        return "speech" if report.has_audio else "text"
    report.check_modality(config.modality)
    return config.modality


def match_labels(
    dataset: "datasets.Dataset", classes: Sequence[str], assignments: Sequence[str]
) -> tuple["datasets.Dataset", "np.ndarray", list[str]]:
    """
    The rows whose label is a class of the model.

    Args:
        dataset: labelled rows of the corpus schema.
        classes: of the model.
        assignments: of `--label_map`.

    Returns:
        The rows, their classes (N,), and sentences on the map and on what was left out.

    Raises:
        ValueError: a change does not fit; no row is left.
    """
    import numpy as np

    from lemer.corpora.emotions import match_classes, parse_label_map

    names = dataset.features["label"].names
    written = np.asarray(dataset["label"][:])
    counts = Counter(written.tolist())
    matched = match_classes(names, classes, parse_label_map(assignments))
    places = np.array([-1 if (name := matched[label]) is None else classes.index(name) for label in names])
    labels = places[written]
    kept = np.flatnonzero(labels >= 0)
    used = [f"{label} = {name}" for label, name in matched.items() if name is not None]
    left = [f"{label} ({counts[place]})" for place, label in enumerate(names) if matched[label] is None]
    if not len(kept):
        raise ValueError(
            f"no label of the corpus ({', '.join(names)}) is a class of the model ({', '.join(classes)}): say which is "
            "which with --label_map LABEL=CLASS"
        )
    remarks = [f"Labels of the corpus as classes of the model: {', '.join(used)}."]
    if left:
        remarks.append(f"Left out, since they are no class of the model (--label_map LABEL=CLASS): {', '.join(left)}.")
    return dataset.select(kept), labels[kept], remarks


def describe_overlap(checkpoint: str, speakers: Sequence[str], corpus: str) -> list[str]:
    """A sentence on speakers of the corpus whom the training knew, where the checkpoint's run folder names them."""
    results = Path(checkpoint).parent / "results.json"
    trained = json.loads(results.read_text()).get("training_speakers") if results.is_file() else None
    here = {speaker for speaker in speakers if speaker}
    if trained is None:
        return ["Whom the checkpoint was trained on is not known: speakers of this corpus may be among them."]
    if not here:
        return ["The corpus names no speakers, so whether some of them were trained on is not known."]
    shared = sorted(here & set(trained))
    if not shared:
        return [f"None of the {len(here)} speakers has the name of a speaker of the training."]
    examples = ", ".join(shared[:5]) + ", ..." * (len(shared) > 5)
    return [
        f"{len(shared)} of the {len(here)} speakers of {corpus} have names that the training had too ({examples}). Where "
        "they are the same people, these scores are not those of new voices."
    ]


def write_scores(folder: Path, page: str, scores: dict, ids: list[str], labels, logits, names: Sequence[str]) -> None:
    """Write what the command leaves in its folder."""
    from lemer.evaluation.calibration import reliability
    from lemer.evaluation.run_folder import format_predictions
    from lemer.evaluation.scorecard import softmax
    from lemer.runtime.files import write_atomically

    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "predictions.csv", format_predictions(ids, labels, logits, names))
    write_atomically(folder / "scores.md", page)
    write_atomically(folder / "scores.json", json.dumps(scores, indent=1))
    try:
        from lemer.evaluation import plots
    except ImportError as error:
        print(f"no figures: {error}", file=sys.stderr)
        return
    write_atomically(folder / "confusion.png", plots.png(plots.confusion_matrix(scores["confusion"], names)[0]))
    table = reliability(softmax(logits), labels)
    write_atomically(folder / "reliability.png", plots.png(plots.reliability_diagram(table)[0]))


def run(args: argparse.Namespace) -> int:
    """
    Score the checkpoint on the corpus.

    Raises:
        USER_ERRORS of `runtime/stopping.py`.
    """
    import torch
    from accelerate import Accelerator
    from transformers import AutoModel
    from transformers.utils import logging

    from lemer import LemerProcessor  # which also tells AutoModel of our models
    from lemer.corpora.load import load_unsplit
    from lemer.evaluation.scorecard import format_scores, score_logits
    from lemer.integrity_lemer import check_ready, opening
    from lemer.training.answers import Answers

    logging.disable_progress_bar()
    with opening(args.checkpoint):
        model = AutoModel.from_pretrained(args.checkpoint, dtype=torch.float32).eval()
        processor = LemerProcessor.from_pretrained(args.checkpoint)
    check_ready(model, processor)
    dataset, report = load_unsplit(args)
    modality = choose_modality(model.config, report)
    names = list(model.config.id2label.values())
    rows, labels, remarks = match_labels(dataset, names, args.label_map)
    if modality != model.config.modality:
        remarks.append(f"The corpus has no other modality, so the {modality} branch of the model answers alone.")
    remarks += describe_overlap(args.checkpoint, rows["speaker"], report.name)
    copies = report.notes.get("copied_recording", [])
    if copies:
        remarks.append(f"{len(copies)} rows have the recording of another row, such as {copies[0]}, and count as well.")
    if args.silence is not None and modality == "text":
        raise ValueError("--silence is of recordings, and this model reads words only: leave it out")
    accelerator = Accelerator(cpu=not torch.accelerator.is_available())
    answers = Answers(accelerator.prepare(model), model.config, processor, accelerator, args.batch_size)
    logits = answers.predict(rows, modality)[1]
    scores = score_logits(logits, labels, names)
    if args.silence is not None:
        silent = answers.predict(rows, modality, args.silence)[1]
        changed = float((silent.argmax(1) != logits.argmax(1)).mean())
        scores["with_silence"] = {"seconds": args.silence, "changed": changed, **score_logits(silent, labels, names)}
    page = format_scores(f"{Path(args.checkpoint).name} on {report.name}", scores, names, remarks)
    print(page)
    if args.output_dir is not None:
        made = {"checkpoint": args.checkpoint, "corpus": report.name, "fingerprint": report.fingerprints["all"]}
        scores = {**made, "modality": modality, "remarks": remarks, **scores}
        write_scores(args.output_dir, page, scores, rows["id"], labels, logits, names)
        print(args.output_dir)
    return 0


def main(argv=None) -> int:
    parser, args = parse_args(argv)
    # Loaded after the options are read: this takes seconds.
    from lemer.runtime.process import set_up_process
    from lemer.runtime.stopping import run_command

    set_up_process()
    return run_command(parser.prog, lambda: run(args), "Nothing was written")


if __name__ == "__main__":
    sys.exit(main())
