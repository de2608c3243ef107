"""load_audio on files as phones, browsers and broken programs leave them: read right, or refused by name."""

import io
import struct
import tracemalloc
import zipfile
from fractions import Fraction

import numpy as np
import pyarrow
import pytest
import soundfile
from datasets import Audio, Dataset

from lemer import audio_files_lemer, audio_lemer
from lemer.audio_lemer import load_and_check_audio, load_audio

av = pytest.importorskip("av")

RATE = 16_000
TIMES = np.arange(2 * RATE) / RATE
TONE = (0.3 * np.sin(2 * np.pi * (200 + 150 * TIMES) * TIMES)).astype(np.float32)  # two seconds, never periodic
STEREO = np.stack([TONE * 1.5, TONE * 0.5], axis=1)  # (N, C), its mean is TONE


def encoded(samples=TONE, rate: int = RATE, file_format: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=file_format, subtype=subtype)
    return file.getvalue()


def encoded_by_av(container: str, codec: str, rate: int = RATE, samples=TONE, layout: str = "mono") -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.layout = layout
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.reshape(1, -1)), format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        if codec == "wmav2":
            stream.codec_context.bit_rate = 128_000
        stream.codec_context.open()
        size = stream.codec_context.frame_size or None
        resampler = av.AudioResampler(format=stream.codec_context.format, layout=layout, rate=rate, frame_size=size)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            for packet in stream.encode(part):
                output.mux(packet)
    return file.getvalue()


def error_of(samples: np.ndarray, expected: np.ndarray = TONE) -> float:
    """Root of the mean square difference over that of the signal, over the length of both."""
    length = min(len(samples), len(expected))
    return float(np.sqrt(np.mean((samples[:length] - expected[:length]) ** 2) / np.mean(expected**2)))


# -------------------------------------------------------------------------------------------------- formats and codecs


@pytest.mark.parametrize(
    ("file_format", "subtype", "tolerance"),
    [
        ("WAV", "PCM_U8", 0.03),
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "PCM_24", 1e-6),
        ("WAV", "PCM_32", 1e-6),
        ("WAV", "FLOAT", 1e-7),
        ("WAV", "DOUBLE", 1e-7),
        ("WAV", "ULAW", 0.03),
        ("WAV", "ALAW", 0.03),
        ("WAV", "IMA_ADPCM", 0.05),
        ("WAV", "MS_ADPCM", 0.05),
        ("WAVEX", "PCM_16", 1e-4),
        ("RF64", "PCM_16", 1e-4),
        ("W64", "PCM_16", 1e-4),
        ("AIFF", "PCM_16", 1e-4),
        ("AU", "PCM_16", 1e-4),
        ("CAF", "ALAC_16", 1e-4),
        ("FLAC", "PCM_16", 1e-4),
        ("FLAC", "PCM_24", 1e-6),
        ("OGG", "VORBIS", 0.15),
        ("OGG", "OPUS", 0.15),
        ("MP3", "MPEG_LAYER_III", 0.1),
    ],
)
def test_what_soundfile_writes_is_read_sample_by_sample(file_format, subtype, tolerance):
    samples = load_audio(encoded(STEREO, file_format=file_format, subtype=subtype))
    assert error_of(samples) < tolerance
    extra = 4096 if "ADPCM" in subtype else 0  # whole blocks alone are written
    assert len(TONE) <= len(samples) <= len(TONE) + extra


@pytest.mark.parametrize(
    ("container", "codec", "rate", "tolerance"),
    [
        ("ipod", "aac", RATE, 0.05),  # .m4a
        ("mp4", "aac", 44_100, 0.05),
        ("adts", "aac", RATE, None),  # .aac, which says nothing of the samples that the encoder puts before the first
        ("webm", "libopus", 48_000, 0.15),
        ("ipod", "alac", RATE, 1e-4),
        ("mov", "pcm_s16be", RATE, 1e-4),
        ("matroska", "flac", RATE, 1e-4),
        ("amr", "libopencore_amrnb", 8_000, None),
        ("3gp", "libopencore_amrnb", 8_000, None),
        ("asf", "wmav2", 44_100, None),
    ],
)
def test_what_phones_and_browsers_write_is_read(container, codec, rate, tolerance):
    samples = load_audio(encoded_by_av(container, codec, rate))
    assert abs(len(samples) - len(TONE)) < 0.15 * RATE  # a frame or two of the encoder
    if tolerance is not None:
        assert error_of(samples) < tolerance
    else:
        assert 0.8 < np.std(samples) / np.std(TONE) < 1.1


@pytest.mark.parametrize("layout", ["5.1", "7.1"])
@pytest.mark.parametrize(("container", "codec"), [("ipod", "aac"), ("matroska", "flac")])
def test_the_mean_of_many_channels_is_taken(container, codec, layout):
    count = 6 if layout == "5.1" else 8
    gains = np.linspace(0.5, 1.5, count, dtype=np.float32)
    channels = TONE[:, None] * gains  # the LFE of AAC would be filtered, were it not so low a tone
    samples = load_audio(encoded_by_av(container, codec, 48_000 if codec == "aac" else RATE, channels, layout))
    assert error_of(samples) < (0.2 if codec == "aac" else 1e-3)


def test_the_audio_track_of_a_video_is_read():
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        picture, sound = output.add_stream("mpeg4", rate=10), output.add_stream("alac", rate=RATE)
        picture.width, picture.height, sound.layout = 64, 48, "mono"
        for _ in range(30):  # longer than the sound
            for packet in picture.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")):
                output.mux(packet)
        frame = av.AudioFrame.from_ndarray((TONE * 32767).astype(np.int16)[None], format="s16p", layout="mono")
        frame.sample_rate = RATE
        for part in (frame, None):
            for packet in sound.encode(part):
                output.mux(packet)
    samples = load_audio(file.getvalue())
    assert len(samples) == len(TONE) and error_of(samples) < 1e-3


def test_a_file_of_many_blocks_is_as_one_of_a_single_block(monkeypatch):
    files = [encoded(STEREO, 44_100, file_format) for file_format in ("WAV", "FLAC", "OGG", "MP3")]
    files.append(encoded_by_av("ipod", "aac", 44_100))
    whole = [load_audio(file) for file in files]
    monkeypatch.setattr(audio_files_lemer, "BLOCK", 5000)
    for file, expected in zip(files, whole, strict=True):
        np.testing.assert_array_equal(load_audio(file), expected)


# ------------------------------------------------------------------------------------------------- headers that lie


def flac_of_total(total: int) -> bytes:
    file = bytearray(encoded(file_format="FLAC"))
    file[21] = (file[21] & 0xF0) | total >> 32
    file[22:26] = struct.pack(">I", total & 0xFFFFFFFF)
    return bytes(file)


@pytest.mark.parametrize("total", [0, 2**36 - 1, 10**10])
def test_a_flac_of_unknown_or_absurd_length_is_read(total):
    np.testing.assert_allclose(load_audio(flac_of_total(total)), TONE, atol=2**-15)


def test_a_flac_that_states_more_than_it_has_is_refused():
    with pytest.raises(ValueError, match=r"states 2\.50 s and 2\.00 s can be decoded"):
        load_audio(flac_of_total(40_000))


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x7FFFF000])
def test_a_wav_that_was_written_to_a_pipe_is_read_to_its_end(size):
    file = bytearray(encoded())
    at = file.index(b"data")
    file[at + 4 : at + 8] = struct.pack("<I", size)
    np.testing.assert_allclose(load_audio(bytes(file)), TONE, atol=2**-15)


def test_a_chunk_after_no_samples_is_not_read_as_samples():
    with pytest.raises(ValueError, match="no samples"):
        load_audio(encoded(TONE[:0]) + b"LIST" + struct.pack("<I", 4) + b"INFO")


@pytest.mark.parametrize("rate", [1, 999, 768_001])
def test_a_rate_that_no_recording_has_is_refused(rate):
    with pytest.raises(ValueError, match=f"from 1,000 to 768,000 Hz, got {rate}"):
        load_audio(encoded(TONE[:900], rate))
    with pytest.raises(ValueError, match=f"from 1,000 to 768,000 Hz, got {rate}"):
        load_audio(TONE, rate)


@pytest.mark.parametrize(
    "file_format", ["WAV", "W64", "RF64", "AIFF", "AU", "FLAC", "OGG", "MP3", "CAF", "VOC", "m4a", "webm", "avi"]
)
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_file_that_was_cut_off_is_refused(file_format, share):
    by_av = {"m4a": ("ipod", "aac"), "webm": ("webm", "libopus", 48_000), "avi": ("avi", "pcm_s16le")}
    file = encoded_by_av(*by_av[file_format]) if file_format in by_av else encoded(file_format=file_format)
    with pytest.raises(ValueError, match="cut off"):
        load_audio(file[: int(len(file) * share)])


JOINED = {
    **{name: lambda name=name: encoded(file_format=name) for name in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "W64")},
    "OPUS": lambda: encoded(file_format="OGG", subtype="OPUS"),
    "m4a": lambda: encoded_by_av("ipod", "alac"),
    "webm": lambda: encoded_by_av("webm", "libopus", 48_000),
}


@pytest.mark.parametrize("name", JOINED)
def test_joined_files_are_read_whole(name):
    file = JOINED[name]()
    once = load_audio(file)
    twice = load_audio(file + file)
    assert len(twice) == 2 * len(once)
    assert error_of(twice, np.concatenate([once, once])) < 0.01  # resampling crosses the joint


def test_joined_files_may_differ_in_rate_and_channels():
    slow, fast = encoded(TONE[:8000], 8000, "OGG"), encoded(STEREO, RATE, "OGG")
    expected = np.concatenate([load_audio(slow), load_audio(fast)])
    np.testing.assert_allclose(load_audio(slow + fast), expected, atol=1e-6)


def test_an_mp3_joined_to_one_that_states_no_length_is_not_read_in_half():
    first, second = encoded(file_format="MP3"), encoded(file_format="MP3")
    second = second[second.index(b"\xff\xf3", 100) :]  # without the frame that states the length
    assert len(load_audio(first + second)) > 1.9 * len(TONE)


# ------------------------------------------------------------------------------------------------------------ limits


def test_the_limit_holds_before_the_memory_is_used(tmp_path):
    path = tmp_path / "hours.flac"
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(60):
            file.write(np.zeros(60 * RATE, dtype=np.int16))
    tracemalloc.start()
    with pytest.raises(ValueError, match="hours.flac lasts more than 120 s: cut it"):
        load_audio(path, max_seconds=120)
    assert tracemalloc.get_traced_memory()[1] < 50 * 2**20  # the hour has 230 MB
    tracemalloc.stop()
    assert len(load_audio(path, max_seconds=3600)) == 3600 * RATE


def test_samples_have_no_limit():
    assert len(load_audio(TONE, RATE, max_seconds=1)) == len(TONE)


# ------------------------------------------------------------------------------------------- silence, opposite phase


@pytest.mark.parametrize(
    ("samples", "problems"),
    [
        (TONE, []),
        (STEREO, []),
        (np.stack([TONE, 0 * TONE], axis=1), []),
        (np.stack([TONE] + [0 * TONE] * 7, axis=1), []),
        (0 * TONE, ["silent"]),
        (0 * TONE + 0.25, ["silent"]),
        (0 * STEREO, ["silent"]),
        (np.stack([TONE, -TONE], axis=1), ["opposite_phase"]),
        (np.stack([TONE, -0.99 * TONE], axis=1), ["opposite_phase"]),
    ],
)
def test_silence_and_opposite_phase_are_found(samples, problems):
    assert load_and_check_audio(encoded(samples, subtype="FLOAT"))[1] == problems
    assert load_and_check_audio(samples, RATE)[1] == problems


def test_opposite_phase_is_found_through_a_lossy_codec():
    assert load_and_check_audio(encoded(np.stack([TONE, -TONE], axis=1), file_format="MP3"))[1] == ["opposite_phase"]


def test_independent_channels_are_no_problem():
    noise = np.random.default_rng(0).normal(0, 0.1, (RATE, 8))
    assert load_and_check_audio(noise, RATE)[1] == []


def test_a_silent_file_is_warned_of_by_name(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(audio_lemer.logger, "warning_once", said.append)
    soundfile.write(tmp_path / "muted.wav", 0 * TONE, RATE)
    assert not load_audio(tmp_path / "muted.wav").any()
    assert len(said) == 1 and "muted.wav: all samples are equal" in said[0]


# ------------------------------------------------------------------------------------------------------------- forms


@pytest.fixture
def wav(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, TONE, RATE, subtype="FLOAT")
    return path


def file_at_its_end(path) -> io.BytesIO:
    file = io.BytesIO(path.read_bytes())
    file.seek(0, io.SEEK_END)
    return file


FORMS = {
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "file at its end": file_at_its_end,
    "open file": lambda path: open(path, "rb"),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "file URL": lambda path: path.as_uri(),
    "memory URL": lambda path: into_memory(path.read_bytes()),
    "raw": lambda _: {"raw": TONE, "sampling_rate": RATE},
    "BytesIO in a dict": lambda path: {"path": None, "bytes": io.BytesIO(path.read_bytes())},
    "pyarrow text": lambda path: pyarrow.scalar(str(path)),
    "pyarrow bytes": lambda path: pyarrow.scalar(path.read_bytes()),
    "pyarrow struct": lambda path: pyarrow.scalar({"path": str(path), "bytes": None}),
}


def into_memory(content: bytes) -> str:
    import fsspec

    with fsspec.open("memory://clip.wav", "wb") as file:
        file.write(content)
    return "memory://clip.wav"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_samples(wav, form):
    np.testing.assert_array_equal(load_audio(FORMS[form](wav)), TONE)


def test_a_file_in_an_archive_is_read_by_its_url(wav, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(wav, "clip.wav")
    np.testing.assert_array_equal(load_audio(f"zip://clip.wav::{tmp_path}/all.zip"), TONE)


def test_the_column_of_a_dataset_is_read_without_torchcodec(wav):
    rows = Dataset.from_dict({"audio": [str(wav)]}).cast_column("audio", Audio(decode=False))
    np.testing.assert_array_equal(load_audio(rows[0]["audio"]), TONE)


def test_a_name_that_is_not_utf_8_is_read_and_printed(wav, tmp_path):
    path = str(tmp_path / "caf\udce9.wav")
    wav.rename(path)
    np.testing.assert_array_equal(load_audio(path), TONE)
    with open(path, "wb"), pytest.raises(ValueError, match=r"caf\\xe9.wav cannot be read as audio: it is empty"):
        load_audio(path)


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n", "Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "HTML page"),
        (b'{"error": "not found"}', "JSON"),
        (b"<?xml version='1.0'?><Error/>", "XML"),
        (b"PK\x03\x04" + bytes(100), "archive"),
        (b"these are words", "a text, which begins with 'these are words'"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.wav\n", "a text"),
        (bytes(range(256)) * 40, "cut off, damaged, or of an unknown format"),
    ],
)
@pytest.mark.parametrize("name", ["clip.wav", "clip.mp3", "clip.raw", "clip.m4a"])
def test_what_is_no_audio_is_refused_with_its_cause(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"(?s){name} cannot be read as audio: .*{message}"):
        load_audio(tmp_path / name)


def test_errors_of_every_type_name_the_file(wav, monkeypatch):
    for error in (MemoryError(), OverflowError("too large"), struct.error("short"), RuntimeError("decoder")):

        def fail(*args, error=error):
            raise error

        monkeypatch.setattr(audio_files_lemer, "_decode", fail)
        with pytest.raises(ValueError, match="clip.wav cannot be read as audio"):
            load_audio(wav)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (io.StringIO("text"), "gives str, not bytes: open it with mode 'rb'"),
        ("unheardof://clip.wav", "unheardof://clip.wav cannot be fetched"),
        (np.zeros(100, np.uint8), r"\(samples - 128.0\) / 128"),
    ],
)
def test_forms_that_cannot_be_read_are_refused_with_a_sentence(audio, message):
    with pytest.raises(ValueError, match=message):
        load_audio(audio)


def test_a_missing_file_of_a_url_is_not_found():
    with pytest.raises(FileNotFoundError, match="memory://gone.wav"):
        load_audio("memory://gone.wav")


def test_without_pyav_one_sentence_says_how_to_get_it(monkeypatch):
    file = encoded_by_av("ipod", "aac")
    monkeypatch.setattr(audio_files_lemer, "av", None)
    with pytest.raises(ValueError, match="m4a.*need PyAV: pip install av"):
        load_audio(file)


def test_without_fsspec_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(audio_lemer, "fsspec", None)
    with pytest.raises(ValueError, match="pip install fsspec"):
        load_audio("https://example.org/clip.wav")


def test_soundfile_is_not_needed_where_pyav_is(monkeypatch):
    monkeypatch.setattr(audio_files_lemer, "soundfile", None)
    for file_format in ("WAV", "FLAC"):
        np.testing.assert_allclose(load_audio(encoded(file_format=file_format)), TONE, atol=2**-15)
