"""Show the key words of each label and play its key frames one after the other (figure 1 of the LE-MER paper).

    python -m lemer.evaluation.label_figure runs/C1/fold5/seed0/checkpoint --data_dir IEMOCAP_full_release --output figure1

It writes <label>.wav for every label, labels.png with key words and spectrograms, and labels.npz with the arrays that it
shows. A key frame is a code of the speech tower's codebook, which stands for 20 to 25 ms of sound. It is played by the
longest stretch of frames with this code in the recordings. The session that the checkpoint was tested on is left out.
The recordings are encoded by the checkpoint. If training has changed its CNN encoder or the norm after it, their codes may
differ from those from which the label embeddings were made, and some key frames may not occur.

Shapes: N samples, F frames, G groups of the codebook, C labels.
"""

import io
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from tqdm.auto import tqdm

from ..activity_lemer import in_recording, join_spans
from ..audio_lemer import load_audio
from ..labels_lemer import frame_codes
from ..runtime.command import command_parser
from ..runtime.files import write_atomically
from ..runtime.locks import hold
from ..runtime.stopping import run_command
from ..speech_encoder_lemer import receptive_field
from .attention_figure import load_checkpoint
from .plots import GREY, MAPS, new_figure, npz, plain, png
from .run_folder import read_json

CROSS_FADE = 0.005  # in seconds, between two key frames


@dataclass
class KeyFrameSound:
    """
    The key frames of one label as a sound, one after the other, best first.

    Attributes:
        samples: (N,) at `sampling_rate` Hz.
        wanted: the number of key frames of the label, whether they occur in the recordings or not.
        codes: the K' codes that occur, each G indices, in rank order.
        ranks: K' ranks among the key frames of the label, from 1.
        sources: K' indices of the recordings from which the key frames are taken.
        times: K' pairs of start and duration in that recording, in seconds.
    """

    samples: np.ndarray
    sampling_rate: int
    wanted: int
    codes: list[tuple[int, ...]] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    times: list[tuple[float, float]] = field(default_factory=list)


def runs_of_codes(codes: np.ndarray) -> list[tuple[tuple[int, ...], int, int]]:
    """Split codes (F, G) into stretches of equal codes, each as the code, its first frame and the frame after its last."""
    if len(codes) == 0:
        return []
    changes = np.flatnonzero((codes[1:] != codes[:-1]).any(1)) + 1
    edges = [0, *changes.tolist(), len(codes)]
    return [(tuple(codes[begin].tolist()), begin, end) for begin, end in zip(edges, edges[1:], strict=False)]


def join_sounds(sounds: list[np.ndarray], fade: int) -> np.ndarray:
    """Join sounds, each faded linearly into the next over `fade` samples or the length of the shorter sound."""
    if not sounds:
        return np.zeros(0, dtype=np.float32)
    joined = sounds[0].astype(np.float32)
    for sound in sounds[1:]:
        overlap = min(fade, len(joined), len(sound))
        weight = ((np.arange(overlap) + 0.5) / max(overlap, 1)).astype(np.float32)
        crossing = joined[len(joined) - overlap :] * (1 - weight) + sound[:overlap] * weight
        joined = np.concatenate([joined[: len(joined) - overlap], crossing, sound[overlap:].astype(np.float32)])
    return joined


def key_frame_sounds(model, processor, recordings: Iterable) -> dict[str, KeyFrameSound]:
    """
    Find the key frames of every label in recordings and join them to a sound.

    Args:
        model: a `LemerModel` with a quantizer and `config.label_codes`.
        processor: its `LemerProcessor`.
        recordings: recordings of the training split in any form that the processor takes. Of stretches of equal length the
            first is taken.

    Returns:
        label -> `KeyFrameSound`, without samples if none of its codes occurs.

    Raises:
        ValueError: the model's labels have no key frames, or there is no recording.
    """
    config = model.config
    if config.label_codes is None:
        raise ValueError("the model's labels have no key frames (config.label_codes is None): use a recipe that finds them")
    rate = processor.feature_extractor.sampling_rate
    stride, window = int(np.prod(config.speech_config.conv_stride)), receptive_field(config.speech_config)
    wanted = {tuple(code) for codes in config.label_codes.values() for code in codes}
    longest: dict[tuple, tuple[int, int, int, np.ndarray]] = {}  # code -> frames, recording, first sample, samples
    number = -1
    for number, recording in enumerate(recordings):
        samples = load_audio(recording, None, rate)
        batch = processor(samples, sampling_rate=rate, return_tensors="pt").to(model.device)
        spans = processor.heard_spans(samples)
        samples = join_spans(samples, spans)  # what the frames are of
        codes = frame_codes(model, **batch)[0]  # (F, G)
        for code, begin, end in runs_of_codes(codes):
            if code in wanted and end - begin > longest.get(code, (0,))[0]:
                first = begin * stride
                stretch = samples[first : (end - 1) * stride + window].copy()
                longest[code] = (end - begin, number, int(in_recording(np.array([first]), spans)[0]), stretch)
    if number < 0:
        raise ValueError("got no recording to take key frames from")
    sounds = {}
    for label in config.id2label.values():
        codes = [tuple(code) for code in config.label_codes[label]]
        heard = [(rank, code, *longest[code]) for rank, code in enumerate(codes, start=1) if code in longest]
        sounds[label] = KeyFrameSound(
            samples=join_sounds([stretch for *_, stretch in heard], round(CROSS_FADE * rate)),
            sampling_rate=rate,
            wanted=len(codes),
            codes=[code for _, code, *_ in heard],
            ranks=[rank for rank, *_ in heard],
            sources=[source for _, _, _, source, _, _ in heard],
            times=[(first / rate, len(stretch) / rate) for *_, first, stretch in heard],
        )
    return sounds


def label_figure(
    words: Mapping[str, list[str]] | None, sounds: Mapping[str, KeyFrameSound] | None, max_frequency: float = 8000.0
):
    """
    Draw figure 1 of the paper: a row for each label, with its key words and the spectrogram of its key frames.

    Args:
        words: label -> key words, best first; or None.
        sounds: label -> `KeyFrameSound`, or None.
        max_frequency: the highest frequency of the spectrograms, in Hz.

    Returns:
        the figure and its axes, (C, 1) or (C, 2).
    """
    columns = [name for name, given in (("words", words), ("sounds", sounds)) if given]
    labels = list(words or sounds or {})
    if not labels:
        raise ValueError("the labels have neither key words nor key frames: there is nothing to draw")
    ratios = {"width_ratios": [1, 2]} if len(columns) == 2 else None
    size = (10.0 if sounds else 4.5, 1.75 * len(labels) + 0.5)
    fig, axes = new_figure(*size, len(labels), len(columns), squeeze=False, gridspec_kw=ratios)
    for row, label in zip(axes, labels, strict=True):
        if words:
            row[0].set_axis_off()
            lines = [f"{rank}  {plain(word)}" for rank, word in enumerate(words[label], start=1)]
            half = max(5, -(-len(lines) // 2))
            row[0].set_title(plain(label), fontsize=12, fontweight="bold", loc="left")
            for column in range(0, len(lines), half):
                text = "\n".join(lines[column : column + half])
                row[0].text(0.5 * (column // half), 1.0, text, va="top", fontsize=9, transform=row[0].transAxes)
        if sounds:
            _draw_sound(row[-1], sounds[label], max_frequency)
            if not words:
                row[-1].set_title(plain(label), fontsize=12, fontweight="bold", loc="left")
    if sounds:
        axes[-1, -1].set_xlabel("time (s), key frames in rank order")
    return fig, axes


def _draw_sound(ax, sound: KeyFrameSound, max_frequency: float):
    ax.set_title(f"{len(sound.codes)} of {sound.wanted} key frames", fontsize=9, loc="right", color="#555555")
    if not len(sound.samples):
        ax.set_axis_off()
        ax.text(0.5, 0.5, "no key frame occurs in these recordings", ha="center", color=GREY, transform=ax.transAxes)
        return
    rate = sound.sampling_rate
    window, step = round(0.025 * rate), round(0.005 * rate)
    samples = np.pad(sound.samples, (0, max(0, window + step - len(sound.samples))))
    loudest = 20 * np.log10(max(float(np.abs(samples).max()), 1e-6))
    ax.specgram(
        samples + 1e-7 * np.sin(np.arange(len(samples))),  # digital silence has no logarithm
        NFFT=window,
        Fs=rate,
        noverlap=window - step,
        cmap=MAPS,
        vmin=loudest - 110,
        vmax=loudest - 30,
    )
    ax.set_ylim(0, min(max_frequency, rate / 2))
    ax.set_yticks([0, 4000, 8000] if max_frequency >= 8000 else [0, max_frequency])
    ax.set_ylabel("frequency (Hz)", fontsize=9)


def as_file_name(label: str) -> str:
    """The label with every character replaced that a file name should not have."""
    return re.sub(r"[^\w-]", "_", label)


def write_label_figure(words, sounds, output: Path) -> list[Path]:
    """Write labels.png, labels.npz and <label>.wav for each label with a sound, and return the paths."""
    output = Path(output)
    fig, _ = label_figure(words, sounds)
    arrays, files = {}, {"labels.png": png(fig)}
    for label, key_words in (words or {}).items():
        arrays[f"{label}_words"] = np.array(key_words)
    for label, sound in (sounds or {}).items():
        for name in ("samples", "codes", "ranks", "sources", "times"):
            arrays[f"{label}_{name}"] = np.array(getattr(sound, name))
        arrays["sampling_rate"] = np.array(sound.sampling_rate)
        if len(sound.samples):
            file = io.BytesIO()
            soundfile.write(file, sound.samples, sound.sampling_rate, format="WAV", subtype="PCM_16")
            name = f"{as_file_name(label)}.wav"
            if name in files:
                raise ValueError(f"two labels give the file name {name}: {', '.join(sounds)}")
            files[name] = file.getvalue()
    files["labels.npz"] = npz({as_file_name(name): array for name, array in arrays.items()})
    output.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_atomically(output / name, content)
    return [output / name for name in files]


def training_recordings(data_dir: Path, held_out: int, count: int) -> list[Path]:
    """At most `count` evenly spread recordings of the sessions of a release that are not held out; 0 takes all of them."""
    paths = [
        path
        for path in sorted(Path(data_dir).glob("Session*/sentences/wav/*/*.wav"))
        if not path.name.startswith("._") and path.parts[-5] != f"Session{held_out}"
    ]
    if not paths:
        raise ValueError(f"{data_dir} has no Session<k>/sentences/wav/<dialog>/*.wav of a session but {held_out}")
    if 0 < count < len(paths):
        paths = [paths[index] for index in np.linspace(0, len(paths) - 1, count).round().astype(int)]
    return paths


def main(argv: list[str] | None = None) -> int:
    example = "runs/C1/fold5/seed0/checkpoint --data_dir IEMOCAP_full_release --output figure1"
    parser = command_parser("python -m lemer.evaluation.label_figure", example, __doc__)
    parser.epilog = "The sounds are parts of the recordings, so the licence of the corpus applies to them."
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder or Hub name of a LE-MER checkpoint")
    parser.add_argument("--data_dir", metavar="CORPUS", help="folder of the release; not needed by a text-only model")
    parser.add_argument(
        "--fold",
        type=int,
        help="the session that the checkpoint was tested on, which is left out (default: read from results.json beside it)",
    )
    parser.add_argument(
        "--recordings",
        type=int,
        default=300,
        metavar="N",
        help="number of recordings to search, spread evenly over the corpus; 0 searches all (default: 300)",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the figure, the sounds and the arrays")
    args = parser.parse_args(argv)
    output = Path(args.output)

    def work() -> None:
        model, processor = load_checkpoint(args.checkpoint)
        sounds = None
        if model.config.label_codes is not None:
            if args.data_dir is None:
                raise ValueError("--data_dir is needed, since the labels have key frames, which are taken from recordings")
            fold = args.fold if args.fold is not None else _test_session(Path(args.checkpoint))
            paths = training_recordings(Path(args.data_dir), fold, args.recordings)
            bar = tqdm(map(str, paths), total=len(paths), desc="key frames", unit="recording")
            sounds = key_frame_sounds(model, processor, bar)
        with hold(output):
            print("\n".join(map(str, write_label_figure(model.config.label_words, sounds, output))))

    return run_command(parser.prog, work, f"What was in {output} is still there")


def _test_session(checkpoint: Path) -> int:
    """The session that a checkpoint of train.py was tested on."""
    path = checkpoint.parent / "results.json"
    if not path.exists():
        raise ValueError(f"there is no {path} to say which session was held out: give --fold")
    return int(read_json(path)["fold"])


if __name__ == "__main__":
    sys.exit(main())
