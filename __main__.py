"""The command `lemer`, which is also `python -m lemer`: it runs the command that its first word names.

Only that command is imported, so that help and mistakes are answered at once.
"""

import argparse
import difflib
import importlib
import sys

import lemer
from lemer.corpora.known import KNOWN
from lemer.runtime.command import called_as

# The words of each command: the module whose `main` it runs, and what it does.
COMMANDS = {
    "train": ("lemer.train", "train one row of the papers' tables and score it"),
    "pretrain": ("lemer.pretrain", "pre-train the speech tower further on a corpus"),
    "predict": ("lemer.predict", "emotions of recordings, folders, tables and dialogs"),
    "evaluate": ("lemer.score", "score a checkpoint on a labelled corpus"),
    "publish": ("lemer.publish", "publish a finished run on the Hugging Face Hub"),
    "export": ("lemer.export", "write a checkpoint as an ONNX file"),
    "app": ("lemer.app", "a page in the browser that answers recordings"),
    "report": ("lemer.evaluation.report", "compare all finished runs with the papers"),
    "corpus iemocap": ("lemer.corpora.iemocap", "check an IEMOCAP release"),
    "corpus NAME": ("lemer.corpora.known_corpus", "check a copy of RAVDESS, CREMA-D, MELD ..."),
    "corpus dialogs": ("lemer.corpora.dialogs", "make a table of turns from dialogs in JSON lines"),
    "corpus demo": ("lemer.corpora.demo", "make a small spoken corpus to try things out"),
    "figure attention": ("lemer.evaluation.attention_figure", "draw the attention of an utterance to the labels"),
    "figure labels": ("lemer.evaluation.label_figure", "draw and cut out the sounds that describe the labels"),
}
EXAMPLE = """example (CHECKPOINT is a folder that lemer train wrote, or a name on the Hub):
  lemer predict CHECKPOINT recording.wav
  lemer COMMAND --help          more about one command"""


class _PrintVersion(argparse.Action):
    """Print the version; it is looked up only when it is asked for."""

    def __call__(self, parser, namespace, values, option_string=None):
        print(f"lemer {lemer.__version__}")
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of what stands before a command."""
    lines = [f"  {words:<18}{text}" for words, (_, text) in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="lemer",
        usage="lemer COMMAND ...",
        description="\n".join(["Emotion recognition from speech and words (LE-MER). Commands:", *lines]),
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
    parser.add_argument("--version", action=_PrintVersion, nargs=0, help="print the version")
    return parser


def find_command(parser: argparse.ArgumentParser, argv: list[str]) -> str:
    """Return the command at the head of the command line; an unknown one ends the process and names the nearest."""
    for words in (" ".join(argv[:1]), " ".join(argv[:2])):
        if words in COMMANDS:
            return words
    first, *rest = argv
    if first == "corpus" and rest and rest[0] in KNOWN:
        return "corpus NAME"
    members = [words.split()[1] for words in COMMANDS if words.startswith(f"{first} ")]
    if members and (not rest or rest[0] in ("-h", "--help")):
        for member in members:
            print(f"  lemer {first} {member:<12}{COMMANDS[f'{first} {member}'][1]}")
        parser.exit(0 if rest else 2)
    word, choices, group = (rest[0], members, f" {first}") if members else (first, _first_words(), "")
    if first == "corpus":
        choices = [*(choice for choice in choices if choice != "NAME"), *(name for name in KNOWN if name not in choices)]
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    hint = f" Did you mean `lemer{group} {near[0]}`?" if near else ""
    parser.error(f"`lemer{group}` has no command {word!r}.{hint} Choose one of: {', '.join(choices)}")


def _first_words() -> list[str]:
    return list(dict.fromkeys(words.split()[0] for words in COMMANDS))


def main(argv: list[str] | None = None) -> int:
    """Run the command line, that of the process by default; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser()
    if not argv or argv[0].startswith("-"):
        parser.parse_args(argv)
        parser.print_help()
        return 0
    words = find_command(parser, argv)
    module = importlib.import_module(COMMANDS[words][0])
    typed = argv[: len(words.split())]
    with called_as(f"lemer {' '.join(typed)}"):
        # The name of a corpus is an argument of the command as well.
        return module.main(argv[1 if words == "corpus NAME" else len(typed) :])


if __name__ == "__main__":
    sys.exit(main())
