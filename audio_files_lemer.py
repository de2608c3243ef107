"""Audio files, encoded -> blocks of samples. soundfile decodes what it can read whole, PyAV (FFmpeg) all else.

This file travels with every checkpoint. Shapes: N samples, C channels.
"""

import io
import mmap
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np

try:
    import soundfile
except ImportError:
    soundfile = None
try:
    import av
except ImportError:
    av = None

BLOCK = 2**22  # samples of all channels decoded at once: 16 MiB
PIECE = 2**24  # bytes of an encoded file searched at once
MAX_FRAMES_PER_BYTE = 8192  # FLAC packs no more of silence into a byte; a header that says more is not believed
UNKNOWN_SIZE = 0x7FFF0000  # bytes; sizes from here on stand in files written to a pipe, whose writer did not know the size
SIZE_SLACK = 44  # bytes; some writers count the header of a WAV as samples
SECONDS_SLACK = 0.25  # encoders round the length that a container states, and count samples that are skipped at the start
# FFmpeg's readers that may be used. Playlists and scripts, which name further files, are none of them.
CONTAINERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,asf_o,au,avi,caf,dts,eac3,flac,flv,gsm,loas,matroska,webm,mov,mp4,m4a,3gp,3g2,mp3,"
    "mpc,mpc8,mpeg,mpegts,ogg,rm,sox,tak,tta,voc,w64,wav,wv,xwma"
)
# How a whole file begins, by its first bytes. Where it stands again further on, two files were joined.
BEGINNINGS = {
    b"fLaC": re.compile(rb"fLaC[\x00\x80]\x00\x00\x22"),
    b"OggS": re.compile(rb"OggS\x00[\x02\x06].{12}\x00{4}", re.DOTALL),  # first page of a stream
    b"RIFF": re.compile(rb"RIFF.{4}WAVE", re.DOTALL),
    b"FORM": re.compile(rb"FORM.{4}AIF[FC]", re.DOTALL),
    b"RF64": re.compile(rb"RF64.{4}WAVE", re.DOTALL),
    b"riff": re.compile(rb"riff\x2e\x91\xcf\x11"),
    b".snd": re.compile(rb"\.snd\x00\x00.{6}\x00\x00\x00[\x01-\x1b]", re.DOTALL),
    b"caff": re.compile(rb"caff\x00\x01\x00\x00desc"),
    b"#!AM": re.compile(rb"#!AMR(-WB)?\n"),
    b"ftyp": re.compile(rb"ftyp[\w ]{4}\x00\x00", re.DOTALL),  # after the four bytes of its size
    b"\x1a\x45\xdf\xa3": re.compile(rb"\x1a\x45\xdf\xa3.{1,60}?\x42\x82.(webm|matroska)", re.DOTALL),
}
MP3_INFO = re.compile(rb"\xff[\xe2-\xff].{2,4}\x00{9,32}\Z", re.DOTALL)  # what stands before "Xing" or "Info"
# In the log of libsndfile: the size that the header states, and the size that the file has room for.
SIZES = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)

if soundfile is not None:

    class _Stream(soundfile.SoundFile):
        """A file that is read from beginning to end. soundfile would seek after each block, wrongly in an MP3."""

        def seekable(self) -> bool:
            return False


def decode(file: str | bytes, name: str) -> Iterator[tuple[int, np.ndarray]]:
    """
    Decode a file in blocks, so that a header that lies about its length costs no memory.

    Args:
        file: A path, or the file's bytes.
        name: How errors call it.

    Yields:
        The sampling rate in Hz, and float32 samples (N, C). Both rate and C may change where files were joined.

    Raises:
        ValueError: it cannot be read as audio, or not to its end. Errors of every type become this one.
    """
    if soundfile is None and av is None:
        raise ImportError("audio files are decoded with soundfile: pip install soundfile")
    try:
        yield from _decode(file)
    except Exception as error:  # of libsndfile, FFmpeg, the system or memory: each is this file's alone
        reason = _recognise(file)
        if reason is None:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            if type(error) is not ValueError:  # not one of this file's own
                reason = f"it is cut off, damaged, or of an unknown format ({reason})"
        raise ValueError(f"{name} cannot be read as audio: {reason}") from error


def to_float(samples: np.ndarray) -> np.ndarray:
    """Samples of any kind whose full scale is known -> float32, integers scaled to [-1, 1)."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    if samples.dtype in (np.int16, np.int32):
        return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    raise ValueError(
        f"samples must be floats, int16 or int32, got {samples.dtype}: its full scale is not known; bring them to [-1, 1)"
        + (" first, 8-bit PCM as (samples - 128.0) / 128" if samples.dtype == np.uint8 else " as floats first")
    )


def _decode(file: str | bytes) -> Iterator[tuple[int, np.ndarray]]:
    """Decode a file by the library that can read it; joined files one after the other."""
    with _open_with_soundfile(file) as stream:
        kind = stream and stream.format
        if kind not in ("WAV", "WAVEX"):  # of these libsndfile refuses one that is joined to another
            with _bytes_of(file) as content:
                parts, complete = _parts(content), kind != "MP3" or _mp3_length_is_true(content)
                if content[:4] == b"OggS":
                    _check_last_page(content)
            if parts:
                for part in parts:
                    yield from _decode(part)
                return
            if not complete:
                stream = None
        # libsndfile counts the samples of an MP3 in a WAV wrongly, and takes heads of blocks in a VOC for samples.
        if stream is None or kind == "VOC" or (kind == "WAV" and stream.subtype.startswith("MPEG")):
            with _bytes_of(file) as content:
                _check_sizes(content)
            yield from _decode_with_av(file)
            return
        if kind in ("WAV", "WAVEX") and stream.frames == 0:
            with _bytes_of(file) as content:
                mended = _with_data_size(content)
            if mended is not None:
                yield from _decode(mended)
                return
        yield from _decode_with_soundfile(stream, os.path.getsize(file) if isinstance(file, str) else len(file))


# --------------------------------------------------------------------------------------------------------- soundfile


def _open_with_soundfile(file: str | bytes):
    """The open file, or a context of None where soundfile is not there or knows no such format."""
    if soundfile is None:
        return nullcontext()
    if isinstance(file, bytes):
        source = io.BytesIO(file)
    else:  # soundfile cannot encode names that are not UTF-8
        source = os.fsencode(file) if os.name == "posix" else file
    try:
        return _Stream(source)  # pyright: ignore[reportArgumentType]  its types know no open files
    except (soundfile.SoundFileError, TypeError):  # TypeError: a file called .raw, which has no header
        return nullcontext()


def _decode_with_soundfile(stream, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of an open file of `size` bytes; refuse one that ends before its header says."""
    for stated, held in SIZES.findall(stream.extra_info):
        if int(held) + SIZE_SLACK < int(stated) < UNKNOWN_SIZE:
            raise ValueError(f"its header states {stated} bytes of samples and it has {held}: it is cut off")
    block = max(1, BLOCK // stream.channels)
    done = 0
    while done < stream.frames:
        samples = stream.read(min(block, stream.frames - done), dtype="float32", always_2d=True)
        if len(samples) == 0:
            break
        done += len(samples)
        yield stream.samplerate, samples
    if done < stream.frames <= size * MAX_FRAMES_PER_BYTE:
        _refuse_as_cut(stream.frames / stream.samplerate, done / stream.samplerate)


def _refuse_as_cut(stated: float, held: float):
    raise ValueError(f"its header states {stated:.2f} s and {held:.2f} s can be decoded: it is cut off or damaged")


# -------------------------------------------------------------------------------------------------------------- PyAV


def _decode_with_av(file: str | bytes) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of the audio track of anything that FFmpeg reads; samples that an encoder put before the first are skipped."""
    if av is None:
        raise ValueError(
            "soundfile cannot read it whole. m4a, aac, mp4, webm, amr, 3gp, wma and more need PyAV: pip install av"
        )
    opened = io.BytesIO(file) if isinstance(file, bytes) else open(file, "rb")
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    with opened, av.open(opened, options=options, metadata_errors="replace") as container:
        tracks = [track for track in container.streams.audio if track.codec_context is not None]
        if not tracks:
            raise ValueError("it has no audio track")
        # The one that players choose.
        track = max(tracks, key=lambda track: (bool(track.disposition.default), track.codec_context.channels))
        seconds, held, size, kind, converter = 0.0, [], 0, None, None
        for frame in _frames(container, track):
            if kind is None or kind != (frame.format.name, frame.layout.name, frame.sample_rate) or size >= BLOCK:
                if kind is not None:
                    yield kind[2], np.concatenate(held)
                held, size, kind = [], 0, (frame.format.name, frame.layout.name, frame.sample_rate)
                # To interleaved floats alone: PyAV's own way to an array crashes with 8 channels in planes.
                converter = av.AudioResampler(format="flt", layout=frame.layout, rate=frame.sample_rate)
            for part in converter.resample(frame):  # pyright: ignore[reportOptionalMemberAccess]  set with the first frame
                held.append(part.to_ndarray().reshape(-1, frame.layout.nb_channels))
                size += held[-1].size
                seconds += part.samples / frame.sample_rate
        if kind is not None:
            yield kind[2], np.concatenate(held)
        stated = _stated_seconds(container, track)
        if seconds + SECONDS_SLACK < stated:
            _refuse_as_cut(stated, seconds)


def _frames(container, track) -> Iterator:
    """The decoded frames of a track. What stands between the frames of an MP3, such as tags, is skipped, as players do."""
    for packet in container.demux(track):
        try:
            yield from packet.decode()
        except av.InvalidDataError:  # pyright: ignore[reportOptionalMemberAccess]  frames come from av
            if not track.codec_context.name.startswith("mp3"):
                raise


def _stated_seconds(container, track) -> float:
    """How long the container says that a track is; 0 where it does not say, or FFmpeg only guesses."""
    if container.format.name in ("mp3", "aac", "amr", "amrnb", "amrwb", "loas", "ac3", "eac3", "dts", "mpegts", "mpeg"):
        return 0.0
    if container.format.name == "caf" and track.codec_context.name.startswith("pcm"):
        return track.frames / track.codec_context.sample_rate
    if track.duration is not None:
        return float(track.duration * track.time_base)
    return (container.duration or 0) / 1_000_000 if len(container.streams) == 1 else 0.0


# ------------------------------------------------------------------------------------- what the bytes of a file tell


@contextmanager
def _bytes_of(file: str | bytes):
    """The bytes of a file, in memory only where they are looked at."""
    if isinstance(file, bytes):
        yield file
    elif os.path.getsize(file) == 0:
        yield b""
    else:
        with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content


def _find_all(content, mark: bytes) -> Iterator[int]:
    """Where `mark` stands in a file."""
    for base in range(0, len(content), PIECE):
        piece = content[base : base + PIECE + len(mark) - 1]
        at = piece.find(mark)
        while at >= 0:
            yield base + at
            at = piece.find(mark, at + 1)


def _parts(content) -> list[bytes]:
    """The files that were joined to this one; none where it is one file."""
    head = bytes(content[:8])
    before = 4 if head[4:] == b"ftyp" else 0  # its size stands before it
    mark = head[before : before + 4]
    if mark in BEGINNINGS:
        starts = [at - before for at in _find_all(content, mark) if BEGINNINGS[mark].match(content[at : at + 80])]
    else:
        starts = _mp3_infos(content)
    if mark == b"OggS":  # the tracks of one file begin together
        pages = list(_find_all(content, mark))
        starts = [at for at in starts if at == 0 or pages[pages.index(at) - 1] not in starts]
    ends = [*starts[1:], len(content)]
    return [content[start:end] for start, end in zip([0, *starts[1:]], ends, strict=True)] if len(starts) > 1 else []


def _mp3_infos(content) -> list[int]:
    """Where the frames begin that state an MP3's length: one a file."""
    starts = []
    for at in sorted(at for mark in (b"Xing\0\0\0", b"Info\0\0\0") for at in _find_all(content, mark)):
        before = MP3_INFO.search(content[max(0, at - 40) : at])
        if before:
            starts.append(max(0, at - 40) + before.start())
    return starts


def _mp3_length_is_true(content) -> bool:
    """If an MP3 states its length, which libsndfile guesses else, and no more frames come after that."""
    starts = _mp3_infos(content)
    if not starts:
        return False
    info = content[starts[0] : starts[0] + 64]
    at = max(info.find(b"Xing"), info.find(b"Info"))
    flags, _, size = struct.unpack(">3I", info[at + 4 : at + 16])
    if flags & 3 != 3:
        return False
    end = starts[0] + size
    tag = content[end : end + 10]
    if tag[:3] == b"ID3":
        end += 10 + (tag[6] << 21 | tag[7] << 14 | tag[8] << 7 | tag[9])
    return re.match(rb"\xff[\xe2-\xff]", content[end : end + 2]) is None


def _check_last_page(content):
    """Refuse an OGG whose last page is not whole."""
    last = max(_find_all(content, b"OggS"))
    page = content[last : last + 27 + 255]
    lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or len(lengths) < page[26] or last + 27 + page[26] + sum(lengths) > len(content):
        raise ValueError("its last page is not whole: it is cut off")


def _check_sizes(content):
    """Refuse an AVI or a VOC that ends before its own sizes say: FFmpeg takes what there is for all."""
    end = 0
    if content[:4] == b"RIFF" and content[8:12] == b"AVI ":
        (size,) = struct.unpack("<I", content[4:8])
        end = 0 if size >= UNKNOWN_SIZE else 8 + size
    elif content[:19] == b"Creative Voice File" and len(content) > 26:
        end = struct.unpack("<H", content[20:22])[0]
        while end + 4 <= len(content) and content[end]:  # blocks of sound; 0 is the last one's kind
            end += 4 + int.from_bytes(content[end + 1 : end + 4], "little")
    if end > len(content) + 1:  # a byte that fills up an odd number may be missing
        raise ValueError(f"it states {end} bytes and has {len(content)}: it is cut off")


def _with_data_size(content) -> bytes | None:
    """A WAV that says 0 bytes of samples, as one that was never closed does, with their number; None if there are none."""
    at = 12
    while content[at : at + 4] != b"data":
        if at + 8 > len(content):
            return None
        size = struct.unpack("<I", content[at + 4 : at + 8])[0]
        at += 8 + size + size % 2
    size = len(content) - at - 8
    following = content[at + 8 : at + 16]
    if size < 1 or content[at + 4 : at + 8] != b"\0\0\0\0":
        return None
    if re.match(rb"[A-Za-z][\w ]{3}", following) and struct.unpack("<I", following[4:].ljust(4, b"\0"))[0] <= size - 8:
        return None  # another chunk, such as LIST
    return content[: at + 4] + struct.pack("<I", size) + content[at + 8 :]


def _recognise(file: str | bytes) -> str | None:
    """What a file that is no audio is, where its first bytes tell."""
    try:
        with _bytes_of(file) as content:
            head = bytes(content[:512])
    except OSError:
        return None
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "it is empty"
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself: fetch the files with `git lfs pull`"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "it is an HTML page, as servers send instead of a file that they do not give: download it again"
    if text.startswith((b"<?xml", b"{", b"[")):
        return "it is XML or JSON, perhaps a server's error message: download it again"
    if head.startswith((b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"GIF8")):
        return "it is a picture or a document"
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        return "it is an archive: unpack it first"
    if head.isascii() and not re.search(rb"[\x00-\x08\x0e-\x1f]", head):
        return f"it is a text, which begins with {head[:40].decode()!r}"
    return None


__all__ = ["decode", "to_float"]
