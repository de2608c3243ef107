"""Shards: as many dialogs as are in memory at once while `lemer predict` answers them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from .manifest import Utterance

SHARD_BATCHES, SHARD_SECONDS = 8, 2_100  # of recordings that are in memory at once: batches, and seconds of speech


@dataclass
class Shard:
    """
    Dialogs whose decoded recordings fit into memory together.

    Attributes:
        dialogs: lists of turns. A dialog that is too long for one shard lies in several, which follow one another.
        goes_on: whether the last dialog goes on in the next shard.
    """

    dialogs: list[list[Utterance]] = field(default_factory=list)
    goes_on: bool = False


def shards(dialogs: list[list[Utterance]], batch_size: int) -> Iterator[Shard]:
    """
    All dialogs in shards of whole dialogs, and parts of those that are longer than a shard.

    They depend on all inputs and not on what is done already, so that a command that goes on makes the same batches.
    """
    shard, utterances, seconds = Shard(), 0, 0.0
    for dialog in dialogs:
        parts = parts_of(dialog, batch_size)
        for number, (part, more) in enumerate(parts):
            if shard.dialogs and (utterances + len(part) > SHARD_BATCHES * batch_size or seconds + more > SHARD_SECONDS):
                shard.goes_on = number > 0
                yield shard
                shard, utterances, seconds = Shard(), 0, 0.0
            shard.dialogs.append(part)
            utterances, seconds = utterances + len(part), seconds + more
    yield shard


def parts_of(dialog: list[Utterance], batch_size: int) -> list[tuple[list[Utterance], float]]:
    """A dialog in parts that fit into a shard each, as turns and their seconds of speech; two parts do not fit into one."""
    parts: list[tuple[list[Utterance], float]] = [([], 0.0)]
    for turn in dialog:
        turns, seconds = parts[-1]
        more = turn.seconds()
        if turns and (len(turns) == SHARD_BATCHES * batch_size or seconds + more > SHARD_SECONDS):
            parts.append(([turn], more))
        else:
            parts[-1] = ([*turns, turn], seconds + more)
    return parts
