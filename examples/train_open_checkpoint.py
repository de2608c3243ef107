"""Train a checkpoint on corpora that may be passed on, and make it ready for the Hub. Give those that you have:

    python examples/train_open_checkpoint.py ravdess=RAVDESS crema-d=CREMA-D --output_dir open --repository me/lemer

Any corpus of docs/corpora.md is read by its name. Two runs of LE-MER are made, and the same command goes on where it was
stopped:

    OUTPUT_DIR/corpora_left_out     every corpus is left out once, and answered by a model that never heard it
    OUTPUT_DIR/speakers_left_out    the checkpoint: trained on all corpora, without a fifth of the speakers of all of them
    OUTPUT_DIR/publication          what `lemer publish` would send, with a card that has the numbers of both runs

Further options go to `lemer train`, such as --mixed_precision bf16, or --seeds 0 1 2. The last line printed is the command
that publishes. Read the licences that are printed first: they are those of the corpora, which decide about the weights.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from lemer.corpora.known import KNOWN

FREE_TO_PASS_ON = ("CC BY 4.0", "CC BY-NC-SA 4.0", "ODbL 1.0")
# Acted corpora say every sentence with every emotion, so no word is a key word, and names describe the labels. The branch
# loss makes a model that answers from one modality as well.
SETTINGS = ["--recipe", "C1", "--semantic_labels", "names", "--set", "branch_loss_weight=0.5"]


def parse_args() -> tuple[argparse.Namespace, list[str]]:
    """The options of this script, and those for `lemer train`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "corpora", nargs="+", metavar="NAME=DIR", help="two corpora or more, by the names of docs/corpora.md"
    )
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--repository", required=True, metavar="user/name", help="on the Hub; nothing is sent")
    parser.add_argument("--licence", default="cc-by-nc-sa-4.0", metavar="ID", help="of the weights, for the card")
    args, others = parser.parse_known_args()
    unknown = [corpus for corpus in args.corpora if corpus.partition("=")[0] not in KNOWN or "=" not in corpus]
    if unknown or len(args.corpora) < 2:
        parser.error(f"give two corpora or more as NAME=DIR, with names of {', '.join(KNOWN)}; got {' '.join(args.corpora)}")
    return args, others


def lemer(*arguments: str | Path) -> None:
    """Run a command of lemer; where it fails, this script ends with its status."""
    command = [str(argument) for argument in arguments]
    print(f"\nlemer {shlex.join(command)}\n", flush=True)
    status = subprocess.run([sys.executable, "-m", "lemer", *command]).returncode
    if status:
        raise SystemExit(status)


def main() -> None:
    args, others = parse_args()
    for name in (corpus.partition("=")[0] for corpus in args.corpora):
        row = KNOWN[name]
        ask = "" if row.licence in FREE_TO_PASS_ON else ". Ask before you publish what was trained on it"
        print(f"{row.title}: {row.licence}, {row.page}{ask}")
    settings = SETTINGS if "--recipe" not in others else []
    train = ["train", "--corpus", *args.corpora, *settings, *others]
    left_out, run = args.output_dir / "corpora_left_out" / "run", args.output_dir / "speakers_left_out" / "run"
    lemer(*train, "--protocol", "corpus", "--output_dir", left_out)
    lemer(*train, "--protocol", "speaker", "--num_folds", "5", "--folds", "1", "--output_dir", run)
    publish = ["publish", run, args.repository, "--left_out", left_out, "--licence", args.licence]
    publication = args.output_dir / "publication"
    shutil.rmtree(publication, ignore_errors=True)  # of an earlier call
    lemer(*publish, "--dry-run", "--output_dir", publication)
    print(f"\nlemer {shlex.join(map(str, publish))}")


if __name__ == "__main__":
    main()
