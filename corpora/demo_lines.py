"""What the speakers of the demo corpus say: frames with slots, written for this project.

The four kinds of line share most frames, and all places, people and times, so that only a few words tell an emotion:
`KEY_WORDS`. They are few enough to come back in every session, and a line of kind "neu" or "fru" never holds one.

    >>> write = LineWriter(np.random.default_rng(0))
    >>> write("ang"), write("neu")
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

KEY_WORDS = {
    "ang": "angry dare enough furious hate liar outraged resent ridiculous rotten ruined shut stupid".split(),
    "hap": "celebrate excited fantastic happy hooray love enjoy lucky perfect thrilled wonderful won".split(),
    "sad": "cried goodbye gone heartbroken hopeless lonely lost miserable miss mourn sad sorry tears".split(),
}
"""The words that carry an emotion, lower case: no two emotions share one."""

SHARED_SLOTS = {
    "thing": (
        "the bag,the boat,the car,the coat,the dinner,the garden,the house,the job,the kitchen,the letter,"
        "the meeting,the movie,the phone,the report,the ticket,the train"
    ).split(","),
    "who": "Anna,Peter,my boss,my brother,my cousin,the neighbor,the teacher,your sister".split(","),
    "when": "again,now,this morning,today,tonight".split(","),
}

SHARED_FRAMES = (
    "I am {feel} about {thing}.",
    "{who} is {feel} {when}.",
    "{thing} is {quality} {when}.",
    "I think {thing} is {quality}.",
    "I {verb} {thing}.",
    "You and I {verb} {thing} {when}.",
    "{call}, {thing} is {quality}.",
    "{call}, I {verb} {thing}.",
)

# For each kind of line, its own words for the shared frames and its own frames.
SLOTS = {
    "ang": {
        "feel": ["furious", "angry", "outraged"],
        "quality": ["stupid", "ridiculous", "rotten"],
        "verb": ["hate", "resent"],
        "call": ["shut up", "enough"],
    },
    "hap": {
        "feel": ["happy", "excited", "thrilled"],
        "quality": ["wonderful", "fantastic", "perfect"],
        "verb": ["love", "enjoy"],
        "call": ["hooray", "lucky us"],
    },
    "sad": {
        "feel": ["sad", "heartbroken", "miserable"],
        "quality": ["gone", "lost", "hopeless"],
        "verb": ["miss", "mourn"],
        "call": ["so sorry", "goodbye"],
    },
    "neu": {
        "feel": ["asking", "calling", "reading", "talking"],
        "quality": ["here", "on the left", "outside", "ready"],
        "verb": ["checked", "found", "saw"],
        "call": ["okay", "listen"],
    },
    "fru": {
        "feel": ["still waiting", "still asking"],
        "quality": ["still not here", "late"],
        "verb": ["still need", "keep looking for"],
        "call": ["come on", "not this one"],
    },
}
OWN_FRAMES = {
    "ang": ["How dare you take {thing}.", "You ruined {thing} {when}.", "{who} is a liar {when}."],
    "hap": ["We won {thing} {when}.", "Let us celebrate {thing}.", "{who} is so lucky {when}."],
    "sad": ["I cried about {thing}.", "{who} is in tears {when}.", "{who} is so lonely {when}."],
    "neu": ["Where is {thing} {when}?", "{who} took {thing} {when}.", "We will see {who} {when}."],
    "fru": ["I told {who} about {thing} twice.", "Why is {thing} not done?"],
}
# They tell that there is an emotion, and not which.
REPLY_FRAMES = [
    "I feel the same about {thing}.",
    "I feel the same {when}, and {who} too.",
    "I feel just as you do about {thing}.",
    "{who} and I feel as you do about {thing}.",
]


def words_of(line: str) -> list[str]:
    """The words of a line, lower case, without punctuation."""
    return "".join(c if c.isalnum() else " " for c in line.lower()).split()


class LineWriter:
    """Writes lines of a kind ("ang", "hap", "sad", "neu", "fru" or "reply"), none twice as long as there are unused ones.

    Frames and slot words are dealt from shuffled decks, so that each comes up equally often.
    """

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.used: set[str] = set()
        self.decks: dict[tuple[str, ...], Iterator[str]] = {}

    def shuffle(self) -> None:
        """Take new decks. Before each session: else a word dealt to four sessions would be rare in the fifth."""
        self.decks.clear()

    def __call__(self, kind: str) -> str:
        frames: list[str] = REPLY_FRAMES if kind == "reply" else [*SHARED_FRAMES, *OWN_FRAMES[kind]]
        line = ""
        for _ in range(200):  # a big corpus runs out of lines at last: then one comes again
            frame = self._deal(("frame", kind), frames)
            slots = {
                **{name: self._deal((name, kind), words) for name, words in SLOTS.get(kind, {}).items() if name in frame},
                **{name: self._deal((name,), words) for name, words in SHARED_SLOTS.items() if name in frame},
            }
            line = frame.format(**slots)
            line = line[0].upper() + line[1:]
            if line not in self.used:
                break
        self.used.add(line)
        return line

    def _deal(self, deck: tuple[str, ...], cards: Sequence[str]) -> str:
        if deck not in self.decks:
            self.decks[deck] = (cards[int(i)] for _ in itertools.count() for i in self.rng.permutation(len(cards)))
        return next(self.decks[deck])
