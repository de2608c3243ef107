"""Audio of any form -> mono samples at 16 kHz.

This file travels with every checkpoint. soundfile and soxr are needed only where audio has to be decoded or resampled.
"""

import io
import os

import numpy as np

try:
    import soundfile
except ImportError:
    soundfile = None
try:
    import soxr
except ImportError:
    soxr = None

SAMPLING_RATE = 16_000  # Hz, what every speech tower of the wav2vec 2.0 family was trained on
GPU_MULTIPLE = 4_000  # samples, a quarter of a second: what batches for a GPU are padded to, see `LemerProcessor.__call__`
MAX_CHANNELS = 8  # more on the shorter axis of a two-dimensional array: rather a batch than the channels of one clip


def load_audio(audio, sampling_rate: int | None = None, target_rate: int = 16_000) -> np.ndarray:
    """
    One clip in any of the usual forms -> mono float32 samples (N,) at `target_rate`, unchanged where they are that already.

    Args:
        audio: A path, the bytes of an audio file, `{"array", "sampling_rate"}`, `{"path", "bytes"}` (one may be None), a
            torchcodec decoder, or samples as a list of numbers, NumPy array or tensor. Integers are scaled to [-1, 1).
            In a two-dimensional array the shorter axis is channels (at most 8), whose mean is taken.
        sampling_rate: Rate of bare samples in Hz; every other form knows its own. None: taken as `target_rate`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no audio, has no samples, a sample that is not finite, or samples of a type that has no scale.
    """
    if isinstance(audio, dict):
        if audio.get("array") is not None:
            if audio.get("sampling_rate") is None:
                raise ValueError("audio {'array': ...} needs 'sampling_rate' beside it, in Hz")
            return load_audio(audio["array"], audio["sampling_rate"], target_rate)
        inner = audio.get("bytes") if audio.get("bytes") is not None else audio.get("path")
        if inner is None:
            raise ValueError(
                f"audio as a dict needs 'array' and 'sampling_rate', or 'bytes' or 'path', got keys {sorted(audio)} "
                "without a value in them"
            )
        return load_audio(inner, None, target_rate)
    if isinstance(audio, (str, os.PathLike, bytes, bytearray)):
        samples, sampling_rate = _decode(audio)
    elif hasattr(audio, "get_all_samples"):  # torchcodec.AudioDecoder and the subclass of it in `datasets`
        decoded = audio.get_all_samples()
        samples, sampling_rate = decoded.data.numpy().T, decoded.sample_rate
    else:
        samples = _as_samples(audio)
    if samples.size == 0:
        raise ValueError("audio has no samples: leave the utterance out, or pass audio=None for words alone")
    if samples.ndim == 2:
        samples = samples.mean(axis=1, dtype=np.float32)
    if not np.isfinite(samples).all():
        raise ValueError(f"{int((~np.isfinite(samples)).sum())} of {samples.size} samples are NaN or infinite")
    if sampling_rate is not None and sampling_rate != target_rate:
        if not sampling_rate > 0:
            raise ValueError(f"sampling_rate must be above 0 Hz, got {sampling_rate}")
        if soxr is None:
            raise ImportError(f"audio at {sampling_rate} Hz has to be resampled to {target_rate}: pip install soxr")
        samples = soxr.resample(samples, sampling_rate, target_rate, quality="HQ")
        if samples.size == 0:
            samples = np.zeros(1, dtype=np.float32)  # one sample at a higher rate is less than one at this
    return np.ascontiguousarray(samples, dtype=np.float32)


def _decode(audio) -> tuple[np.ndarray, int]:
    """Decode a file or its bytes with libsndfile: samples (N, channels) and the rate."""
    if soundfile is None:
        raise ImportError("audio files are decoded with soundfile: pip install soundfile")
    is_path = isinstance(audio, (str, os.PathLike))
    name = os.fspath(audio) if is_path else f"<{len(audio)} bytes>"
    if is_path and not os.path.isfile(audio):
        raise FileNotFoundError(f"no audio file {name}" + (" (that is a folder)" if os.path.isdir(audio) else ""))
    try:
        samples, rate = soundfile.read(audio if is_path else io.BytesIO(audio), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, ValueError) as error:
        raise ValueError(f"{name} cannot be read as audio ({error}); wav, flac, ogg and mp3 can") from error
    if len(samples) == 0:
        raise ValueError(f"{name} has no samples")
    return samples, rate


def _as_samples(audio) -> np.ndarray:
    """Bare samples of any container -> float32 (N,) or (N, channels)."""
    if hasattr(audio, "detach"):
        audio = audio.detach().cpu().float().numpy() if audio.is_floating_point() else audio.detach().cpu().numpy()
    samples = np.asarray(audio)
    if samples.dtype.kind == "f":
        samples = samples.astype(np.float32, copy=False)
    elif samples.dtype in (np.int16, np.int32):
        samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    elif samples.size == 0:
        samples = samples.astype(np.float32)
    else:
        raise ValueError(
            f"samples must be floats, int16 or int32, got {samples.dtype}: its full scale is not known; divide by it first"
        )
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


__all__ = ["GPU_MULTIPLE", "SAMPLING_RATE", "load_audio"]
