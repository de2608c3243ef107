"""Second-stage self-supervised pre-training of the speech tower, on the training sessions of every fold (paper, row B2).

    python pretrain.py --data_dir IEMOCAP_full_release --output_dir runs/second_stage
    torchrun --nproc_per_node 2 pretrain.py ...     two processes (`accelerate launch --cpu` silently runs one)

Each fold ends as OUTPUT_DIR/fold<k>/:
    checkpoint/        a `...ForPreTraining` checkpoint, to be given to train.py or `LemerModel.from_towers`
    results.json       losses, accuracy and codes in use, at the beginning and at the end
    log.jsonl          the same of every update
    curve.png          and as a picture, where matplotlib is installed
OUTPUT_DIR/protocol.json has the settings. Labels are not read. `train.py --recipe B2 --second_stage OUTPUT_DIR` uses what is
there, and makes what is missing. The same command goes on where it was killed, and leaves alone what is finished.
"""

import argparse
import sys

import torch
from accelerate import PartialState
from datasets.exceptions import DatasetsError
from transformers.utils import logging

from lemer.corpora import options as corpus_options
from lemer.runtime.process import leave_process_group, set_up_process
from lemer.training.second_stage import HELP, SETTINGS, default_settings, second_stage
from lemer.training.small_towers import SMALL_SPEECH_TOWERS


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="pretrain.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    corpus_options.add_corpus_options(parser.add_argument_group("data"))
    parser.add_argument("--output_dir", required=True, help="folder of the second stage, one for each tower and setting")
    parser.add_argument(
        "--speech_model",
        default="facebook/wav2vec2-conformer-rel-pos-large",
        help="folder or Hub name of a wav2vec 2.0 pre-training checkpoint, or a tower of random weights: "
        + ", ".join(SMALL_SPEECH_TOWERS),
    )
    parser.add_argument("--mixed_precision", default="no", choices=["no", "bf16", "fp16"])
    training = parser.add_argument_group("training", f"defaults in brackets: for {' / '.join(SETTINGS)} towers")
    for name, text in HELP.items():
        values = [settings[name] for settings in SETTINGS.values()]
        kind = {"action": argparse.BooleanOptionalAction} if isinstance(values[0], bool) else {"type": type(values[0])}
        training.add_argument(f"--{name}", help=f"{text} [{' / '.join(map(str, values))}]", **kind)
    args = parser.parse_args(argv)
    if args.corpus == "iemocap" and args.data_dir is None:
        parser.error("--data_dir is needed")
    settings = {**default_settings(args.speech_model), **{n: v for n in HELP if (v := getattr(args, n)) is not None}}
    for name, value in settings.items():
        least = 0 if name in ("warmup_share", "weight_decay", "diversity_loss_weight") else 1 if type(value) is int else 1e-9
        if not isinstance(value, bool) and not value >= least:
            parser.error(f"--{name} must be {'above 0' if least == 1e-9 else f'at least {least}'}, got {value}")
    args.settings = settings
    return args


def run(args: argparse.Namespace) -> None:
    logging.disable_progress_bar()  # of loading and saving weights: they take moments
    processes = PartialState(cpu=not torch.accelerator.is_available())
    with processes.main_process_first():
        corpus = corpus_options.load_corpus(args)
    if processes.is_main_process:
        print(corpus.report.format(), flush=True)
    for fold in corpus.folds:
        checkpoint = second_stage(
            args.output_dir,
            corpus.samples,
            fold,
            args.speech_model,
            corpus.report.fingerprints["all"],
            args.settings,
            args.mixed_precision,
        )
        if processes.is_main_process:
            print(checkpoint, flush=True)
    leave_process_group()


def main(argv=None) -> int:
    args = parse_args(argv)
    set_up_process()
    try:
        run(args)
    except (ValueError, OSError, FloatingPointError, DatasetsError) as error:
        print(f"pretrain.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
