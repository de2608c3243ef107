"""Audio of any form -> mono samples at 16 kHz.

This file travels with every checkpoint. soundfile, soxr, PyAV and fsspec are needed only where audio has to be decoded,
resampled or fetched. Shapes: N samples, C channels.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from numbers import Real
from operator import itemgetter
from typing import cast
from urllib.parse import unquote, urlsplit

import numpy as np
from transformers.utils import logging

from .audio_files_lemer import decode, to_float

try:
    import soxr
except ImportError:
    soxr = None
try:
    import fsspec
except ImportError:
    fsspec = None

logger = logging.get_logger(__name__)

SAMPLING_RATE = 16_000  # Hz, what every speech tower of the wav2vec 2.0 family was trained on
GPU_MULTIPLE = 4_000  # samples, a quarter of a second: what batches for a GPU are padded to, see `LemerProcessor.__call__`
MAX_CHANNELS = 8  # more on the shorter axis of a two-dimensional array: rather a batch than the channels of one clip
MAX_SECONDS = 2 * 3600.0  # decoded of one file unless more is asked for: 460 MB of samples at 16 kHz
# Hz. Below the first not even a telephone's speech (4 kHz) is left; the second is the most that recorders write.
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
MAX_FETCHED = 2**31  # bytes of an address or an open file, which are held in memory: two hours of most formats
CANCELLED = 0.02  # share of the power that is left: 1 percent in stereo, where independent channels leave half
PROBLEMS = {
    "silent": "all samples are equal, so there is nothing to hear: was the microphone muted, or the file not yet written?",
    "opposite_phase": "the channels are of opposite phase, so that their mean, which is heard, is silent: give one of them",
}


class TooLong(ValueError):
    """A recording lasts longer than it may."""


def load_audio(
    audio, sampling_rate: float | None = None, target_rate: int = SAMPLING_RATE, max_seconds: float = MAX_SECONDS
) -> np.ndarray:
    """
    One clip in any of the usual forms -> mono float32 samples (N,) at `target_rate`, unchanged where they are that already.

    Audio that has one of `PROBLEMS` is returned with a warning that names it; `load_and_check_audio` returns the problems.

    Args:
        audio: One of
            - a path, or a `file://` URL: wav, flac, ogg, mp3, aiff and what else soundfile reads; with PyAV (`pip install
              av`) also m4a, aac, mp4, webm, amr, 3gp, wma, and the audio track of videos;
            - another URL that fsspec opens, such as `https://`, `hf://`, `s3://`, `zip://name::archive.zip`;
            - the bytes of such a file, or an open binary file, which is read from its beginning. These and URLs are held in
              memory as a whole while they are decoded, at most 2 GiB; a path is read in blocks;
            - `{"array", "sampling_rate"}`, `{"raw", "sampling_rate"}`, or `{"path", "bytes"}` of which one may be None;
            - a torchcodec decoder, as a column `datasets.Audio()` gives where torchcodec is installed;
            - samples as a list of numbers, an array or a tensor: floats, or int16 and int32, which are scaled to [-1, 1).
              In a two-dimensional array the shorter axis is channels, at most 8.
            Of channels the mean is taken.
        sampling_rate: Rate of bare samples in Hz; every other form knows its own. None: taken as `target_rate`.
        max_seconds: Longest file that is decoded, two hours unless another limit is given. Decoding stops there, whatever
            the header says, so that a small file of many hours takes no memory. Samples are taken at any length.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no audio, is cut off or damaged, is longer than `max_seconds`, has no samples, a sample that is not
            finite, samples of a type that has no scale, or a rate outside of 1,000 to 768,000 Hz. Errors of all decoders and
            of a lack of memory become this one, and it names the file.
    """
    samples, problems = load_and_check_audio(audio, sampling_rate, target_rate, max_seconds)
    for problem in problems:
        logger.warning_once(f"{name_of_audio(audio)}: {PROBLEMS[problem]}")
    return samples


def load_and_check_audio(
    audio, sampling_rate: float | None = None, target_rate: int = SAMPLING_RATE, max_seconds: float = MAX_SECONDS
) -> tuple[np.ndarray, list[str]]:
    """
    As `load_audio`, without its warning, for callers that count: samples (N,), and which of `PROBLEMS` they have.

    The problems are "silent" (all samples are equal) and "opposite_phase" (channels that cancel each other).
    """
    name = name_of_audio(audio)
    try:
        blocks = _blocks(audio, name, target_rate if sampling_rate is None else sampling_rate, max_seconds)
        return _mix(blocks, name, target_rate)
    except MemoryError as error:
        raise ValueError(f"{name} does not fit into memory: cut it into shorter files") from error


def knows_its_rate(audio) -> bool:
    """If audio is of a form that brings its sampling rate along; bare samples do not."""
    if isinstance(audio, (dict, str, os.PathLike, bytes, bytearray, memoryview)):
        return True
    return any(hasattr(audio, name) for name in ("read", "get_all_samples", "as_py"))


def name_of_audio(audio) -> str:
    """How messages call some audio: its path or URL where it has one."""
    if isinstance(audio, dict):
        inner = audio.get("path") or audio.get("bytes")
        return "audio" if inner is None or isinstance(inner, dict) else name_of_audio(inner)
    if isinstance(audio, (str, os.PathLike)):
        return os.fsencode(audio).decode("utf-8", "backslashreplace")  # a name that is not UTF-8 can be printed then
    if isinstance(audio, (bytes, bytearray, memoryview)):
        return f"<{len(audio)} bytes>"
    name = getattr(audio, "name", None) if hasattr(audio, "read") else None
    return name_of_audio(name) if isinstance(name, str) else "audio"


# ------------------------------------------------------------------------------------------------ any form -> blocks


def _blocks(audio, name: str, sampling_rate, max_seconds: float) -> Iterable[tuple[float, np.ndarray]]:
    """Audio of any form -> blocks of it, each the rate in Hz and samples (N,) or (N, C)."""
    if hasattr(audio, "as_py"):  # a scalar of pyarrow
        audio = audio.as_py()
    if isinstance(audio, dict):
        samples = next((audio[key] for key in ("array", "raw") if audio.get(key) is not None), None)
        if samples is not None:
            if audio.get("sampling_rate") is None:
                raise ValueError("audio {'array': ...} needs 'sampling_rate' beside it, in Hz")
            if not isinstance(audio["sampling_rate"], Real):
                raise ValueError(f"sampling_rate must be a number of Hz, got {audio['sampling_rate']!r:.40}")
            return [(cast(float, audio["sampling_rate"]), _as_samples(samples))]
        audio = _file_of(audio)
    if hasattr(audio, "read"):
        audio = _content(audio, name)
    if isinstance(audio, str) and "://" in audio:
        audio = _local_path_or_bytes(audio)
    if isinstance(audio, (str, os.PathLike)):
        if not os.path.isfile(audio):
            raise FileNotFoundError(f"no audio file {name}" + (" (that is a folder)" if os.path.isdir(audio) else ""))
        return _limited(decode(os.fspath(audio), name), name, max_seconds)
    if isinstance(audio, (bytes, bytearray, memoryview)):
        return _limited(decode(bytes(audio), name), name, max_seconds)
    if hasattr(audio, "get_all_samples"):  # torchcodec.AudioDecoder and the subclass of it in `datasets`
        decoded = audio.get_all_samples()
        return [(decoded.sample_rate, decoded.data.numpy().T)]
    return [(sampling_rate, _as_samples(audio))]


def _file_of(audio: dict):
    """The bytes of `{"path", "bytes"}`, else the path."""
    file = audio.get("bytes") if audio.get("bytes") is not None else audio.get("path")
    if file is None:
        raise ValueError(
            f"audio as a dict needs 'array' and 'sampling_rate', or 'bytes' or 'path', got keys {sorted(audio, key=str)} "
            "without a value in them"
        )
    return file


def _content(file, name: str) -> bytes:
    """The bytes of an open file, from its beginning where it can go back there."""
    if hasattr(file, "seekable") and file.seekable():
        file.seek(0)
    content = file.read(MAX_FETCHED + 1)
    if not isinstance(content, bytes):
        raise ValueError(f"{name} is a file that gives {type(content).__name__}, not bytes: open it with mode 'rb'")
    if len(content) > MAX_FETCHED:
        raise ValueError(f"{name} has more than {MAX_FETCHED:,} bytes, which would be held in memory: give a path instead")
    return content


def _local_path_or_bytes(url: str) -> str | bytes:
    """The path of a `file://` URL, the content of any other."""
    parts = urlsplit(url)
    return unquote(parts.path) if parts.scheme == "file" else fetch(url)


def fetch(url: str) -> bytes:
    """
    The content of a URL that fsspec opens.

    Raises:
        FileNotFoundError: there is nothing at that address.
        ValueError: it cannot be fetched, or has more than 2 GiB.
    """
    if fsspec is None:
        raise ValueError(f"{url} has to be fetched by fsspec: pip install fsspec, or download it first")
    try:
        with fsspec.open(url, "rb") as file:
            content = file.read(MAX_FETCHED + 1)  # pyright: ignore[reportAttributeAccessIssue]  one URL gives one file
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no audio file {url}") from error
    except Exception as error:  # of any of its file systems, each with errors of its own
        raise ValueError(f"{url} cannot be fetched: {error or type(error).__name__}") from error
    if len(content) > MAX_FETCHED:
        raise ValueError(f"{url} has more than {MAX_FETCHED:,} bytes, which would be held in memory: download it")
    return content


def _limited(blocks: Iterable, name: str, max_seconds: float) -> Iterator[tuple[float, np.ndarray]]:
    """Blocks of a file, as long as they are not longer together than `max_seconds`."""
    seconds = 0.0
    for rate, samples in blocks:
        seconds += len(samples) / max(rate, 1)
        if seconds > max_seconds + 1e-6:  # seconds are summed up in floats
            raise TooLong(
                f"{name} lasts more than {max_seconds:g} s: cut it into shorter files, or raise the limit (max_seconds of "
                "load_audio, max_audio_seconds of the processor)"
            )
        yield rate, samples


def _as_samples(audio) -> np.ndarray:
    """Bare samples of any container -> float32 (N,) or (N, C)."""
    if hasattr(audio, "detach"):
        audio = audio.detach().cpu().float().numpy() if audio.is_floating_point() else audio.detach().cpu().numpy()
    samples = np.asarray(audio)
    samples = to_float(samples) if samples.size else samples.astype(np.float32)
    if samples.ndim == 2:
        if samples.shape[0] < samples.shape[1]:
            samples = samples.T
        if samples.shape[1] > MAX_CHANNELS:
            raise ValueError(
                f"an array of shape {np.shape(audio)} is one clip of {samples.shape[1]} channels, above {MAX_CHANNELS}: "
                "pass a batch as a list of clips"
            )
    elif samples.ndim != 1:
        raise ValueError(f"samples must have one axis, or two with channels, got shape {samples.shape}")
    return samples


# ------------------------------------------------------------------------------------- blocks -> mono at one rate


class _Channels:
    """Takes the mean of channels, block by block, and finds out which of `PROBLEMS` they have."""

    def __init__(self, name: str):
        self.name = name  # for messages
        self.count, self.low, self.high = 0, np.inf, -np.inf  # of the mean
        self.power_kept, self.power = 0.0, 0.0  # of the mean and of the channels, without a constant; of all samples

    def mean(self, samples: np.ndarray) -> np.ndarray:
        """Samples (N,) or (N, C) -> (N,)."""
        if samples.size == 0:
            return samples.ravel()
        if samples.ndim == 2 and samples.shape[1] == 1:
            samples = samples[:, 0]
        mono = samples if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float32)
        low, high = mono.min(), mono.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"{self.name}: {int((~np.isfinite(mono)).sum())} of {mono.size} samples are NaN or infinite")
        self.count += len(mono)
        self.low, self.high = min(self.low, low), max(self.high, high)
        if samples.ndim == 2:
            self.power_kept += mono.var(dtype=np.float64) * samples.size
            self.power += samples.var(axis=0, dtype=np.float64).mean() * len(samples)
        return mono

    def problems(self) -> list[str]:
        if self.power_kept < CANCELLED * self.power:
            return ["opposite_phase"]
        return ["silent"] if self.low == self.high else []


def _mix(blocks: Iterable, name: str, target_rate: int) -> tuple[np.ndarray, list[str]]:
    """Blocks -> samples (N,) at the target rate, and their problems."""
    channels, resampled = _Channels(name), []
    for rate, run in groupby(blocks, key=itemgetter(0)):
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise ValueError(f"the sampling rate of {name} must be from {LOWEST_RATE:,} to {HIGHEST_RATE:,} Hz, got {rate}")
        resampled += _resample((channels.mean(samples) for _, samples in run), rate, target_rate)
    if channels.count == 0:
        raise ValueError(f"{name} has no samples: leave the utterance out, or pass audio=None for words alone")
    samples = resampled[0] if len(resampled) == 1 else np.concatenate(resampled)
    if samples.size == 0:
        samples = np.zeros(1, dtype=np.float32)  # one sample at a higher rate is less than one at this
    return np.ascontiguousarray(samples, dtype=np.float32), channels.problems()


def _resample(blocks: Iterator[np.ndarray], rate: float, target_rate: int) -> list[np.ndarray]:
    """Blocks (N,) -> at the target rate. No more than a block is held at the old one."""
    if rate == target_rate:
        return list(blocks)
    if soxr is None:
        raise ImportError(f"audio at {rate} Hz has to be resampled to {target_rate}: pip install soxr")
    first, second = next(blocks), next(blocks, None)
    if second is None:
        return [soxr.resample(first, rate, target_rate, quality="HQ")]
    stream = soxr.ResampleStream(rate, target_rate, 1, dtype="float32", quality="HQ")  # gives the same samples
    resampled = [stream.resample_chunk(block) for block in chain((first, second), blocks)]
    return [*resampled, stream.resample_chunk(first[:0], last=True)]


__all__ = [
    "GPU_MULTIPLE",
    "MAX_SECONDS",
    "PROBLEMS",
    "SAMPLING_RATE",
    "fetch",
    "knows_its_rate",
    "load_and_check_audio",
    "load_audio",
    "name_of_audio",
]
