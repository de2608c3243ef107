"""Second-stage self-supervised pre-training of the speech tower, on the training sessions of every fold (paper, row B2).

    python pretrain.py --data_dir IEMOCAP_full_release --output_dir runs/second_stage
    torchrun --nproc_per_node 2 pretrain.py ...     two processes (`accelerate launch --cpu` runs one)

Each fold ends as OUTPUT_DIR/fold<k>/:
    checkpoint/        a `...ForPreTraining` checkpoint, for train.py or `LemerModel.from_towers`
    results.json       losses, accuracy and codes in use in the first and in the last epoch
    log.jsonl          the same for every update
    curve.png          a picture of the log, if matplotlib is installed
OUTPUT_DIR/protocol.json has the settings. Labels are not read. `train.py --recipe B2 --second_stage OUTPUT_DIR` takes these
checkpoints, and trains those that are missing. A run that was stopped goes on with the same command, which leaves alone what
is finished.
"""

import argparse
import sys

from lemer.corpora.options import add_corpus_options, needs_data_dir
from lemer.runtime.command import command_parser, program
from lemer.training.settings import SECOND_STAGE, SECOND_STAGE_HELP, SMALL_SPEECH_TOWERS, second_stage_defaults


def parse_args(argv=None) -> argparse.Namespace:
    """Read and check the options; `settings` holds those of the training. A mistake ends the process with a message."""
    example = "--data_dir IEMOCAP_full_release --output_dir runs/second_stage"
    parser = command_parser("pretrain.py", example, __doc__)
    add_corpus_options(parser.add_argument_group("data"))
    parser.add_argument("--output_dir", required=True, help="folder of the second stage, one for each tower and setting")
    parser.add_argument(
        "--speech_model",
        default="facebook/wav2vec2-conformer-rel-pos-large",
        metavar="TOWER",
        help="folder or Hub name of a wav2vec 2.0 pre-training checkpoint, or a tower of random weights: "
        f"{', '.join(SMALL_SPEECH_TOWERS)} (default: facebook/wav2vec2-conformer-rel-pos-large)",
    )
    parser.add_argument(
        "--mixed_precision", default="no", choices=["no", "bf16", "fp16"], help="precision of the products (default: no)"
    )
    parser.add_argument(
        "--gradient_accumulation_steps", type=int, default=1, metavar="N", help="batches of an update (default: 1)"
    )
    parser.add_argument(
        "--gradient_checkpointing",
        action="store_true",
        help="keep the inputs of the tower's layers alone, and compute the rest again: less memory, more time",
    )
    kinds = " / ".join(SECOND_STAGE)
    training = parser.add_argument_group("training", f"Defaults in brackets are those for {kinds} towers.")
    for name, text in SECOND_STAGE_HELP.items():
        values = [settings[name] for settings in SECOND_STAGE.values()]
        if isinstance(values[0], bool):
            how = {"action": argparse.BooleanOptionalAction}
        else:
            how = {"type": type(values[0]), "metavar": "N"}
        training.add_argument(f"--{name}", help=f"{text} [{' / '.join(map(str, values))}]", **how)
    args = parser.parse_args(argv)
    if needs_data_dir(args):
        parser.error("--data_dir is needed")
    given = {name: getattr(args, name) for name in SECOND_STAGE_HELP if getattr(args, name) is not None}
    args.settings = {**second_stage_defaults(args.speech_model), **given}
    # They stand in the protocol of a folder only where they are used, so that folders of before go on.
    if args.gradient_accumulation_steps != 1:
        args.settings["gradient_accumulation_steps"] = args.gradient_accumulation_steps
    if args.gradient_checkpointing:
        args.settings["gradient_checkpointing"] = True
    _check_settings(parser, args.settings)
    return args


def _check_settings(parser: argparse.ArgumentParser, settings: dict) -> None:
    for name, value in settings.items():
        if isinstance(value, bool):
            continue
        if name in ("warmup_share", "weight_decay", "diversity_loss_weight"):
            if not value >= 0:
                parser.error(f"--{name} must be at least 0, got {value}")
        elif isinstance(value, int):
            if value < 1:
                parser.error(f"--{name} must be at least 1, got {value}")
        elif not value > 0:
            parser.error(f"--{name} must be above 0, got {value}")


def main(argv=None) -> int:
    args = parse_args(argv)
    # Loaded after the options are read: this takes seconds.
    from lemer.runtime.process import set_up_process
    from lemer.runtime.stopping import run_command
    from lemer.training.run import CONTINUE, run_second_stage

    set_up_process()
    return run_command(program("pretrain.py"), lambda: run_second_stage(args), CONTINUE)


if __name__ == "__main__":
    sys.exit(main())
