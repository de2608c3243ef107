"""Makes a small spoken corpus in IEMOCAP's layout, so that everything can be tried without the real one.

    python -m lemer.corpora.demo OUT_DIR [--seed N] [--dialogs N] [--last_dialogs N]

Needs the extra `pip install lemer[demo]`: espeak-ng (GPL-3, a speech synthesiser, no network) speaks the lines of
`demo_lines.py`; nothing else in lemer uses it. The default corpus takes a few seconds: five sessions of two voices and
six dialogs, 480 turns of 96 per session in four balanced classes (ang, hap or exc, neu, sad), and 180 more turns
(fru, xxx) that are history only. The same command on the same kind of machine writes the same bytes.

Neither voice nor words are enough, and the words of a turn not without those before it. Of the angry, happy and sad turns
3 in 8 are told by the *voice* only (neutral words), 1 in 8 by the *words* only (flat voice), 2 in 8 are a flat *reply*
that could follow anything ("I feel the same") to a turn that tells, and the rest are told by voice and words both; neutral
turns have neutral words and a flat voice. So a perfect listener reaches a recall of 5/8 on three classes, UA 72 %, and so
does a perfect reader who has the history; one who has not can only guess the replies, UA 59 %. Only both together reach
100 %. Moods last for some turns.

    OUT_DIR/demo.json                                        the settings
    OUT_DIR/demo_turns.csv                                   id, label, cue (voice, words, reply, both, none), text
    OUT_DIR/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt labels and times, F's turns first, then M's
    OUT_DIR/Session1/dialog/transcriptions/Ses01F_impro01.txt
    OUT_DIR/Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav    mono, 16 kHz, 16 bit
"""

import argparse
import ctypes
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..runtime.command import command_parser
from ..runtime.files import format_csv
from ..runtime.locks import hold
from ..runtime.stopping import run_command
from .demo_lines import LineWriter

RECIPE = 2  # raise it whenever the same settings give another corpus
SESSIONS = 5
MAX_DIALOGS = 32  # per session: impro01 to impro16, once with F and once with M leading
LABELLED_TURNS = 16  # per dialog; a multiple of the four classes
HISTORY_ONLY_TURNS = 3  # per dialog, beside those that are replied to
SAMPLING_RATE = 16_000  # Hz
EMOTIONS = ("ang", "hap", "neu", "sad")
MOOD_PERSISTENCE = 0.6  # probability that the next labelled turn keeps the mood

# Variants of espeak-ng's voice, which differ in formants too. The male ones lie so low (90 Hz where the female ones
# speak at 170) that pitch would tell the speaker better than the mood: they are raised, on espeak-ng's scale.
VOICES = {
    "F": ("en-us+f1", "en-us+f2", "en-us+f3", "en-us+f4", "en-us+f5"),
    "M": ("en-us+m2", "en-us+m3", "en-us+m4", "en-us+m5", "en-us+m6"),
}
RAISED = {"F": 0, "M": 12}


@dataclasses.dataclass(frozen=True)
class Prosody:
    """How an emotion sounds.

    Args:
        pitch: espeak-ng's base pitch, 0 to 99.
        range: espeak-ng's pitch range, 0 to 100: 0 is a monotone.
        rate: words per minute.
        tilt: -1 to 1, vocal effort: below 0 dulls the sound, above 0 brightens it (a two-tap filter).
        level: RMS of the clip in dB below full scale. Models that normalise each clip do not hear it.
    """

    pitch: float
    range: float
    rate: float
    tilt: float
    level: float


PROSODY = {
    "ang": Prosody(pitch=60, range=70, rate=245, tilt=0.8, level=-16),
    "hap": Prosody(pitch=88, range=100, rate=190, tilt=0.3, level=-19),
    "neu": Prosody(pitch=42, range=22, rate=168, tilt=0.0, level=-22),
    "sad": Prosody(pitch=18, range=0, rate=120, tilt=-0.8, level=-28),
    "fru": Prosody(pitch=52, range=45, rate=195, tilt=0.3, level=-19),
}
ATTRIBUTES = {  # valence, activation, dominance, 1 to 5
    "ang": (1.5, 4.0, 4.0),
    "hap": (4.5, 3.5, 3.0),
    "neu": (3.0, 2.5, 2.5),
    "sad": (1.5, 2.0, 2.0),
    "fru": (2.0, 3.0, 3.0),
}
RATERS_SAY = {"ang": "Anger", "hap": "Happiness", "exc": "Excited", "neu": "Neutral", "sad": "Sadness"} | {
    "fru": "Frustration"
}


@dataclasses.dataclass
class Turn:
    """One turn of a dialog before it is spoken.

    Args:
        id: `<dialog>_<F or M><number>`, as in IEMOCAP.
        label: ang, hap, exc, neu, sad; or fru, xxx, which are history only.
        cue: what tells the emotion: "voice", "words", "reply" (the words of the turn before), "both", or "none" (neutral
            and history-only turns).
        text: what is said.
        voice: name of the espeak-ng voice.
        prosody: how it is said, speaker and jitter included.
        gap: seconds from the end of the turn before; below 0 the turns overlap.
        ratings: category of each of three raters, and the mean valence, activation and dominance.
    """

    id: str
    label: str
    cue: str
    text: str
    voice: str
    prosody: Prosody
    gap: float
    ratings: tuple[list[str], list[float]]

    @property
    def dialog(self) -> str:
        return self.id.rsplit("_", 1)[0]

    @property
    def session(self) -> str:
        return f"Session{int(self.id[3:5])}"

    @property
    def wav(self) -> str:
        """Path of the clip inside the corpus."""
        return f"{self.session}/sentences/wav/{self.dialog}/{self.id}.wav"


def make_demo(
    out_dir: str | os.PathLike, seed: int = 0, dialogs: int = 6, last_dialogs: int | None = None, progress: bool = True
) -> Path:
    """Write the demo corpus into `out_dir`, all of it or nothing.

    A corpus that is there already and has the same settings is left as it is. A run that is killed leaves at most a
    hidden folder `.NAME.tmp-*` beside `out_dir`, which may be deleted.

    Args:
        out_dir: a folder that does not exist yet, is empty, or holds a demo corpus.
        seed: of everything random, 0 or more.
        dialogs: dialogs per session, 1 to 32; each has 16 turns of the four classes and 6 of history only.
        last_dialogs: dialogs of the last session, None for as many: a larger test for the same training.
        progress: show a bar on stderr.

    Returns:
        The folder, absolute.

    Raises:
        ValueError: `seed`, `dialogs` or `last_dialogs` out of range.
        FileExistsError: `out_dir` holds something else, another demo corpus, or a part of one.
        ModuleNotFoundError: espeakng-loader is not installed.
        ChildProcessError: espeak-ng failed.
    """
    turns = plan_demo(seed, dialogs, last_dialogs)
    settings = {"recipe": RECIPE, "seed": seed, "dialogs": dialogs}
    if last_dialogs not in (None, dialogs):
        settings["last_dialogs"] = last_dialogs
    out = Path(out_dir).expanduser().resolve()
    if _is_there(out, settings, turns):
        return out
    if importlib.util.find_spec("espeakng_loader") is None:
        raise ModuleNotFoundError("the demo corpus is spoken by espeak-ng: pip install lemer[demo] (espeakng-loader)")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.tmp-", dir=out.parent) as staging:
        corpus = Path(staging, out.name)
        for turn in turns:
            (corpus / turn.wav).parent.mkdir(parents=True, exist_ok=True)
        _speak_elsewhere(turns, Path(staging), corpus, progress)
        _write_labels(turns, corpus)
        table = format_csv(["id", "label", "cue", "text"], ([turn.id, turn.label, turn.cue, turn.text] for turn in turns))
        (corpus / "demo_turns.csv").write_text(table, encoding="utf-8", newline="")
        (corpus / "demo.json").write_text(json.dumps(settings) + "\n")
        if not _is_there(out, settings, turns):  # asked again: another run may have been faster
            if out.exists():
                out.rmdir()
            corpus.rename(out)
    return out


def _is_there(out: Path, settings: dict, turns: list[Turn]) -> bool:
    """Whether `out` holds this very corpus; an error if it holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = json.loads((out / "demo.json").read_text())
    except (OSError, ValueError):
        raise FileExistsError(f"{out} exists and is no demo corpus: name a new folder") from None
    if found != settings:
        raise FileExistsError(f"{out} holds a demo corpus of other settings, {found}: name a new folder or delete it")
    missing = [turn.id for turn in turns if not (out / turn.wav).is_file()]
    if missing:
        raise FileExistsError(f"{out} lacks {len(missing)} of {len(turns)} clips ({missing[0]} ...): delete it first")
    return True


# What is said, by whom and how


def plan_demo(seed: int = 0, dialogs: int = 6, last_dialogs: int | None = None) -> list[Turn]:
    """All turns of the corpus, by session, dialog and time, before anything is spoken; errors as in `make_demo`."""
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number of 0 or more, got {seed!r}")
    last_dialogs = dialogs if last_dialogs is None else last_dialogs
    for name, number in (("dialogs", dialogs), ("last_dialogs", last_dialogs)):
        if not isinstance(number, int) or not 1 <= number <= MAX_DIALOGS:
            raise ValueError(f"{name} must be a whole number from 1 to {MAX_DIALOGS}, got {number!r}")
    rng = np.random.default_rng(seed)
    write = LineWriter(rng)
    voices = {gender: [str(voice) for voice in rng.permutation(VOICES[gender])] for gender in "FM"}
    turns = []
    for session in range(SESSIONS):
        dialogs = last_dialogs if session == SESSIONS - 1 else dialogs
        write.shuffle()
        speakers = {
            gender: (voices[gender][session], RAISED[gender] + rng.uniform(-3, 3), rng.uniform(0.96, 1.04))
            for gender in "FM"
        }
        moods = _plan_moods(rng, dialogs)
        for number in range(dialogs):
            dialog = f"Ses{session + 1:02d}{'FM'[number % 2]}_impro{number // 2 + 1:02d}"
            part = moods[number * LABELLED_TURNS : (number + 1) * LABELLED_TURNS]
            for _ in range(HISTORY_ONLY_TURNS):
                part.insert(rng.integers(len(part) + 1), (str(rng.choice(["fru", "xxx"])), "none"))
            turns += _plan_dialog(rng, write, dialog, part, speakers)
    return turns


def _plan_moods(rng: np.random.Generator, dialogs: int) -> list[tuple[str, str]]:
    """A session's (emotion, cue) pairs: runs of one mood, every emotion and every cue in its exact share."""
    share = dialogs * LABELLED_TURNS // len(EMOTIONS)
    told, replies = share * 3 // 8, share * 2 // 8
    runs = []
    for emotion in EMOTIONS:
        cues = ["voice"] * told + ["words"] * (told - replies) + ["reply"] * replies + ["both"] * (share - 2 * told)
        cues = ["none"] * share if emotion == "neu" else [str(cue) for cue in rng.permutation(cues)]
        while cues:
            length = rng.geometric(1 - MOOD_PERSISTENCE)
            runs.append([(emotion, cue) for cue in cues[:length]])
            cues = cues[length:]
    return [turn for i in rng.permutation(len(runs)) for turn in runs[i]]


def _plan_dialog(
    rng: np.random.Generator, write: LineWriter, dialog: str, moods: list[tuple[str, str]], speakers: dict[str, tuple]
) -> list[Turn]:
    turns, counts, gender = [], {"F": 0, "M": 0}, dialog[5]

    def say(label: str, cue: str, words: str, sound: str, heard: str) -> None:
        voice, pitch_offset, rate_factor = speakers[gender]
        prosody = PROSODY[sound]
        prosody = Prosody(
            pitch=round(np.clip(prosody.pitch + pitch_offset + rng.uniform(-4, 4), 0, 99)),
            range=round(np.clip(prosody.range + rng.uniform(-4, 4), 0, 100)),
            rate=round(prosody.rate * rate_factor * rng.uniform(0.95, 1.05)),
            tilt=round(prosody.tilt + rng.uniform(-0.1, 0.1), 3),
            level=round(prosody.level + rng.uniform(-1.5, 1.5), 2),
        )
        said = [RATERS_SAY[words], RATERS_SAY[sound], "Surprise"] if label == "xxx" else [RATERS_SAY[label]] * 3
        attributes = np.array(ATTRIBUTES[heard]) + rng.choice([-0.5, 0.0, 0.5], 3)
        turns.append(
            Turn(
                id=f"{dialog}_{gender}{counts[gender]:03d}",
                label=label,
                cue=cue,
                text=write(words if cue != "reply" else "reply"),
                voice=voice,
                prosody=prosody,
                gap=round(rng.uniform(-0.1, 0.7), 2),
                ratings=(said, [float(a) for a in np.clip(attributes, 1, 5)]),
            )
        )
        counts[gender] += 1

    for emotion, cue in moods:
        words = emotion if cue in ("words", "both") else "neu"
        sound = emotion if cue in ("voice", "both") else "neu"
        if emotion == "fru":
            words = sound = "fru"
        if emotion == "xxx":  # raters disagree where the words say one thing and the voice another
            words, sound = (str(kind) for kind in rng.permutation(["ang", "hap", "sad"])[:2])
        if cue == "reply":  # to what the other one says, without a label of the four
            say("xxx", "none", emotion, "neu", "neu")
            gender = "M" if gender == "F" else "F"
        label = "exc" if emotion == "hap" and rng.random() < 0.45 else emotion
        say(label, cue, words, sound, sound if emotion == "xxx" else emotion)
        if rng.random() < 0.85:  # else the same speaker goes on
            gender = "M" if gender == "F" else "F"
    return turns


def _write_labels(turns: list[Turn], corpus: Path) -> None:
    """EmoEvaluation and transcriptions, as IEMOCAP writes them; the times follow from the clips' lengths."""
    dialogs: dict[str, list[Turn]] = {}
    for turn in turns:
        dialogs.setdefault(turn.dialog, []).append(turn)
    for dialog, part in dialogs.items():
        now, transcript = 3.0, []
        labels: dict[str, list[str]] = {"F": [], "M": []}
        for turn in part:
            with wave.open(str(corpus / turn.wav)) as f:
                seconds = f.getnframes() / f.getframerate()
            start = now + turn.gap
            now = start + seconds
            said, attributes = turn.ratings
            mean = ", ".join(f"{a:.4f}" for a in attributes)
            block = [f"[{start:.4f} - {now:.4f}]\t{turn.id}\t{turn.label}\t[{mean}]"]
            block += [f"C-E{rater}:\t{category};\t()" for rater, category in enumerate(said, 2)]
            marks = "val {:.0f}; act {:.0f}; dom  {:.0f};".format(*attributes)
            block += [f"A-E{rater}:\t{marks}\t()" for rater in (3, 4)]
            labels[turn.id.rsplit("_", 1)[1][0]] += ["\n".join(block) + "\n\n"]
            transcript.append(f"{turn.id} [{start:08.4f}-{now:08.4f}]: {turn.text}\n")
        header = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        for folder, text in (("EmoEvaluation", [header, *labels["F"], *labels["M"]]), ("transcriptions", transcript)):
            path = corpus / part[0].session / "dialog" / folder / f"{dialog}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(text), encoding="utf-8", newline="\n")


# Speaking. espeak-ng's samples depend on what it said before in the same process, so one fresh process says everything.


def _speak_elsewhere(turns: list[Turn], staging: Path, corpus: Path, progress: bool) -> None:
    plan = [{"wav": str(corpus / t.wav), "text": t.text, "voice": t.voice, **vars(t.prosody)} for t in turns]
    (staging / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    command = [sys.executable, "-m", __spec__.name, "--speak", str(staging / "plan.json")]
    # The child finds this package wherever the parent did, installed or not.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    spoken = 0
    with (
        open(staging / "stderr.txt", "w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as child,
        tqdm(total=len(turns), desc="speaking", unit="clip", disable=not progress) as bar,
    ):
        try:
            for line in child.stdout or ():
                if line == "spoken\n":  # the C library may print lines of its own
                    spoken += 1
                    bar.update()
        except BaseException:
            child.kill()
            raise
        if child.wait() != 0 or spoken != len(turns):
            errors.seek(0)
            last = (errors.read().strip() or f"exit status {child.returncode}").splitlines()[-1]
            raise ChildProcessError(f"espeak-ng failed: {last}")


def _speak(plan: list[dict]) -> None:
    """In the child: say and write every clip of the plan, in order, one line on stdout for each."""
    espeak = _Espeak()
    for clip in plan:
        sound = espeak.say(clip["text"], clip["voice"], clip["pitch"], clip["range"], clip["rate"])
        _write_wav(clip["wav"], _finish(sound, espeak.rate, clip["tilt"], clip["level"]))
        print("spoken", flush=True)


class _Espeak:
    """The shared library of espeakng-loader, through ctypes. One per process."""

    RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4  # espeak_PARAMETER
    SYNCHRONOUS, DONT_EXIT, UTF8 = 2, 0x8000, 1  # of espeak_Initialize and espeak_Synth

    def __init__(self):
        import espeakng_loader

        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        # The library cuts a long path of its data at 160 characters, so it gets a short one.
        folder, name = os.path.split(os.path.abspath(espeakng_loader.get_data_path()))
        os.chdir(folder)
        self.rate = self.library.espeak_Initialize(self.SYNCHRONOUS, 0, os.fsencode(name), self.DONT_EXIT)
        if self.rate <= 0:
            raise RuntimeError(f"espeak_Initialize found no data in {folder}")
        # Some voices have random breath in them, and espeak_Initialize has just seeded it by the clock.
        self.library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self.blocks = []
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int16), ctypes.c_int, ctypes.c_void_p)
        self.callback = callback(self._keep)  # the library holds no reference of its own
        self.library.espeak_SetSynthCallback(self.callback)

    def _keep(self, samples, count, events) -> int:
        if samples and count > 0:
            self.blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, text: str, voice: str, pitch: int, range: int, rate: int) -> np.ndarray:
        """The samples at `self.rate` Hz, -1 to 1."""
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise RuntimeError(f"no voice {voice}")
        for parameter, value in ((self.RATE, rate), (self.VOLUME, 100), (self.PITCH, pitch), (self.RANGE, range)):
            self.library.espeak_SetParameter(parameter, value, 0)
        self.blocks.clear()
        data = text.encode()
        status = self.library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, self.UTF8, None, None)
        if status != 0 or not self.blocks:
            raise RuntimeError(f"no sound for {text!r} (status {status})")
        return np.concatenate(self.blocks).astype(np.float32) / 32768


def _finish(sound: np.ndarray, rate: int, tilt: float, level: float) -> np.ndarray:
    """Raw speech -> what goes into the file: tilted, trimmed, at 16 kHz and at its level."""
    import soxr

    sound = soxr.resample(sound, rate, SAMPLING_RATE)
    sound = sound - tilt * np.concatenate([[0.0], sound[:-1]])
    loud = np.flatnonzero(np.abs(sound) > 0.01 * np.abs(sound).max())  # 40 dB below the peak is silence
    margin = SAMPLING_RATE * 30 // 1000  # samples in 30 ms
    sound = sound[max(0, loud[0] - margin) : loud[-1] + margin]
    gain = 10 ** (level / 20) / np.sqrt(np.mean(sound**2))
    return sound * min(gain, 0.99 / np.abs(sound).max())


def _write_wav(path: str, sound: np.ndarray) -> None:
    with wave.open(path, "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(SAMPLING_RATE)
        f.writeframes(np.round(sound * 32767).astype("<i2").tobytes())


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = command_parser("python -m lemer.corpora.demo", "OUT_DIR", __doc__)
    parser.error = lambda message: parser.exit(2, f"error: {message} (--help tells more)\n")
    parser.add_argument("out_dir", metavar="OUT_DIR", nargs="?", help="a new folder for the corpus")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: %(default)s)")
    parser.add_argument(
        "--dialogs",
        type=int,
        default=6,
        help=f"dialogs per session, 1 to {MAX_DIALOGS}, with {LABELLED_TURNS} four-class turns each (default: 6)",
    )
    parser.add_argument("--last_dialogs", type=int, metavar="N", help="dialogs of the last session (default: as many)")
    parser.add_argument("--speak", metavar="PLAN", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.speak:
        _speak(json.loads(Path(args.speak).read_text(encoding="utf-8")))
        return 0
    if args.out_dir is None:
        parser.error("OUT_DIR is missing")
    return run_command(parser.prog, lambda: _make_and_report(args), "Nothing was written", failure=2)


def _make_and_report(args: argparse.Namespace) -> None:
    plan_demo(args.seed, args.dialogs, args.last_dialogs)  # before the lock makes a folder
    with hold(Path(args.out_dir).expanduser().resolve()):
        there = Path(args.out_dir, "demo.json").exists()
        out = make_demo(args.out_dir, args.seed, args.dialogs, args.last_dialogs)
    dialogs = (SESSIONS - 1) * args.dialogs + (args.last_dialogs or args.dialogs)
    clips = dialogs * LABELLED_TURNS
    print(f"{out}: {clips} clips of four classes in {SESSIONS} sessions" + (", there already" if there else ""))


if __name__ == "__main__":
    sys.exit(main())
