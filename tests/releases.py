"""Writes small made-up releases in IEMOCAP's layout, for tests: no speech, only tones and word lists.

    root = write_release(tmp_path / "release")                     # five sessions, something to learn in them
    write_dialog(root, "Ses01F_impro01", [Turn("F000", 0.0, 0.5, "neu", "hello")])    # one dialog by hand

The pitch of a clip and the words of a text depend on the class, so a model can learn both.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

SAMPLING_RATE = 16_000  # Hz
EMOTIONS = ("ang", "hap", "neu", "sad", "fru", "exc", "xxx", "neu")  # eight turns have all four classes and fru, xxx
PITCH = {"ang": 400.0, "hap": 800.0, "exc": 800.0, "neu": 200.0, "sad": 100.0}  # Hz; others are noise only
WORDS = {
    "ang": ("hate", "stop", "furious", "enough"),
    "hap": ("great", "love", "wonderful", "laugh"),
    "exc": ("great", "love", "amazing", "laugh"),
    "neu": ("table", "paper", "tuesday", "number"),
    "sad": ("cry", "lost", "alone", "gone"),
}
COMMON_WORDS = ("well", "you", "know", "i", "think", "the", "is", "it")


class Turn(NamedTuple):
    """One turn of a dialog written by hand.

    Attributes:
        turn: the last part of the id, such as F000.
        start, end: seconds.
        emotion: any code; None leaves the turn out of the label file.
        text: None leaves it out of the transcript file.
        audio: mono samples at 16 kHz; "noise" for as much noise as the span is long; None for no recording.
    """

    turn: str
    start: float
    end: float
    emotion: str | None = "neu"
    text: str | None = "some words"
    audio: np.ndarray | str | None = "noise"


def session_folder(root: Path, dialog: str) -> Path:
    return Path(root) / f"Session{dialog[4]}"


def label_file(root: Path, dialog: str) -> Path:
    return session_folder(root, dialog) / "dialog" / "EmoEvaluation" / f"{dialog}.txt"


def transcript_file(root: Path, dialog: str) -> Path:
    return session_folder(root, dialog) / "dialog" / "transcriptions" / f"{dialog}.txt"


def wav_file(root: Path, utterance: str) -> Path:
    dialog = utterance.rpartition("_")[0]
    return session_folder(root, dialog) / "sentences" / "wav" / dialog / f"{utterance}.wav"


def label_line(dialog: str, turn: Turn) -> str:
    return f"[{turn.start:.4f} - {turn.end:.4f}]\t{dialog}_{turn.turn}\t{turn.emotion}\t[2.5000, 2.5000, 2.5000]\n"


def transcript_line(dialog: str, turn: Turn) -> str:
    return f"{dialog}_{turn.turn} [{turn.start:08.4f}-{turn.end:08.4f}]: {turn.text}\n"


def write_dialog(root: Path, dialog: str, turns: list[Turn]) -> Path:
    """Writes labels (all F turns, then all M turns, as in the corpus), transcripts (in time order) and recordings."""
    labels = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"]
    for turn in sorted(turns, key=lambda turn: turn.turn):
        if turn.emotion is not None:
            raters = "C-E2:\tNeutral;\t()\nC-F1:\tNeutral; Anger;\t(curious)\nA-E3:\tval 3; act 2; dom  ;\t()\n\n"
            labels.append(label_line(dialog, turn) + raters)
    texts = [transcript_line(dialog, turn) for turn in sorted(turns, key=lambda t: t.start) if turn.text is not None]
    for path, lines in ((label_file(root, dialog), labels), (transcript_file(root, dialog), texts)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines), encoding="utf-8")
    noise = np.random.default_rng(0)
    for turn in turns:
        if turn.audio is not None:
            path = wav_file(root, f"{dialog}_{turn.turn}")
            path.parent.mkdir(parents=True, exist_ok=True)
            samples = turn.audio
            if isinstance(samples, str):
                samples = noise.normal(0.0, 0.02, round((turn.end - turn.start) * SAMPLING_RATE))
            soundfile.write(path, samples, SAMPLING_RATE, subtype="PCM_16")
    return Path(root)


def write_release(root: str | Path, sessions: int = 5, dialogs_per_session: int = 2, turns: int = 8, seed: int = 0) -> Path:
    """Writes a release in which a model can learn something, the same one for the same arguments.

    Args:
        root: the folder that will hold Session1 ...
        sessions: 1 to 5; each has its own two speakers.
        dialogs_per_session: dialogs alternate between F and M recordings.
        turns: turns of a dialog, at least 8, from both speakers in alternation; clips of 0.3 to 1 s that overlap a
            little. In eight turns: 2 neu, 1 each of ang, hap, exc, sad, fru, xxx (so 6 samples), in random order.
        seed: of everything random.

    Returns:
        `root` as a path.
    """
    if turns < len(EMOTIONS) or not 1 <= sessions <= 5:
        raise ValueError(f"expected at least {len(EMOTIONS)} turns and 1 to 5 sessions, got {turns} and {sessions}")
    random = np.random.default_rng(seed)
    for session in range(1, sessions + 1):
        for number in range(dialogs_per_session):
            dialog = f"Ses0{session}{'FM'[number % 2]}_impro{number // 2 + 1:02d}"
            emotions = [EMOTIONS[i % len(EMOTIONS)] for i in range(turns)]
            random.shuffle(emotions)
            written, time = [], 0.0
            for i, emotion in enumerate(emotions):
                seconds = round(random.uniform(0.3, 1.0), 4)
                turn = f"{'FM'[i % 2]}{i // 2:03d}"
                text = " ".join(random.permutation([*WORDS.get(emotion, ()), *random.choice(COMMON_WORDS, size=4)]))
                clip = _clip(emotion, seconds, random)
                written.append(Turn(turn, round(time, 4), round(time + seconds, 4), emotion, text, clip))
                time += seconds - 0.1
            write_dialog(root, dialog, written)
    return Path(root)


def _clip(emotion: str, seconds: float, random: np.random.Generator) -> np.ndarray:
    time = np.arange(round(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    pitch = PITCH.get(emotion, 0.0) * random.uniform(0.9, 1.1)
    return 0.3 * np.sin(2 * np.pi * pitch * time) + random.normal(0.0, 0.02, len(time))
