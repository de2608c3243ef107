"""How a command is called: `lemer predict` and `python predict.py` run the same code, and each says its own name."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_called_as: ContextVar[str | None] = ContextVar("called_as", default=None)

# `make demo` writes a checkpoint to this folder.
DEMO_CHECKPOINT = "demo/runs/speech_and_words/fold5/seed0/checkpoint"


@contextmanager
def called_as(name: str) -> Iterator[None]:
    """Inside this context a command calls itself `name`, such as "lemer predict"."""
    token = _called_as.set(name)
    try:
        yield
    finally:
        _called_as.reset(token)


def program(name: str) -> str:
    """Return how the user called this command: "lemer predict" and the like, or `name` where its file was run."""
    return _called_as.get() or name


def command_parser(name: str, example: str, description: str | None) -> argparse.ArgumentParser:
    """
    Make the parser of a command, whose help begins with an example that can be run.

    Args:
        name: the command without `lemer`, such as "predict.py" or "python -m lemer.evaluation.report".
        example: arguments of the example.
        description: the text below the example. Where it says `python predict.py`, it will say how the user called it.
    """
    typed = name if name.startswith("python ") else f"python {name}"
    return argparse.ArgumentParser(
        prog=program(name),
        usage=f"{program(typed)} {example} [options]",
        description=description and description.replace(typed, program(typed)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def check_checkpoint(parser: argparse.ArgumentParser, checkpoint: str | None, hint: str = "") -> None:
    """End the process and say how to get a checkpoint, where none is named or its placeholder was copied from a page."""
    if not checkpoint or (checkpoint == "CHECKPOINT" and not Path(checkpoint).exists()):
        parser.error(
            "name a checkpoint. `lemer train` writes one for every fold and seed, `make demo` in a clone trains a small one "
            f"in minutes ({DEMO_CHECKPOINT}), and a published one has a name on the Hub, such as user/name"
            + (f". {hint}" if hint else "")
        )
