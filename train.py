"""Train one recipe of the papers' tables and score it on the sessions held out.

    python train.py --recipe C1 --data_dir IEMOCAP_full_release --output_dir runs/C1
    torchrun --nproc_per_node 2 train.py ...        two processes (`accelerate launch --cpu` runs one)

Each fold and seed ends as OUTPUT_DIR/fold<k>/seed<s>/:
    checkpoint/        opens with `AutoModel.from_pretrained(..., trust_remote_code=True)`
    predictions.csv    id, label, prediction and one logit per class, for every test utterance
    results.json       the scores, the split, and how the epoch was selected
    log.jsonl          losses and learning rates of every update; --report_to shows them in TensorBoard and others too
OUTPUT_DIR itself gets protocol.json (the settings), results.json and results.md (means, deviation, pooled scores).
A run that was stopped goes on with the same command, which leaves alone what is finished.
"""

import shlex
import sys

from lemer.recipes import format_recipes
from lemer.runtime.command import program
from lemer.training.options import parse_args


def main(argv=None) -> int:
    args = parse_args(argv, __doc__)
    if args.list:
        print(format_recipes())
        return 0
    # Loaded after the options are read: this takes seconds.
    from lemer.runtime.process import set_up_process
    from lemer.runtime.stopping import run_command
    from lemer.training.run import CONTINUE, run_recipe

    set_up_process()
    command = shlex.join([*program("python train.py").split(), *(sys.argv[1:] if argv is None else argv)])
    return run_command(program("train.py"), lambda: run_recipe(args, command), CONTINUE)


if __name__ == "__main__":
    sys.exit(main())
