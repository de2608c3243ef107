"""Files that nobody wrote on purpose: whatever is in them, there is a result, or an error that a command tells in a line.

The suite tries few examples. `make fuzz` tries LEMER_FUZZ of them each, other ones every time. What it finds becomes an
`@example`, or a test of its own beside the code that was mended.
"""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from dialogs import DIALOG, TURNS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from releases import label_file, transcript_file, wav_file, write_dialog
from tiny import tiny_cross_modal, tiny_model, tiny_processor

from lemer import LemerPipeline
from lemer.audio_lemer import load_audio
from lemer.corpora.dialogs import make_turns, read_dialogs
from lemer.corpora.manifest import read_inputs
from lemer.corpora.release import check_audio, read_release
from lemer.evaluation.run_folder import format_predictions, read_log, read_predictions
from lemer.predict import open_pipeline, parse_args
from lemer.runtime.stopping import is_user_error

MANY = int(os.environ.get("LEMER_FUZZ", "0"))
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


def tried(count: int):
    """Settings of a test: so many examples, or LEMER_FUZZ of them, which are other ones in every run."""
    return settings(max_examples=MANY or count, derandomize=not MANY, suppress_health_check=QUIET)


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """The content with a few places changed, cut out, or filled with bytes that mean something in such files."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(["flip", "cut", "end", "put", "twice"]))
        if kind == "flip" and data:
            data[place] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del data[place : place + draw(st.integers(1, 64))]
        elif kind == "end":
            del data[place:]
        elif kind == "put":
            piece = st.sampled_from(
                [b"\0", b"\xff", b'"', b"'", b",", b";", b"\t", b"\n", b"\r", b"{", b"[", b"]", b"\\", b"-1"]
            )
            data[place:place] = draw(
                piece | st.binary(max_size=8) | st.sampled_from([b"1e999", b"NaN", b"null", b"9" * 400])
            )
        else:
            data[place:place] = data[place : place + 50]
    return bytes(data)


def anything_json():
    scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(width=16) | st.text(max_size=3)
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    )


def ends_well(work):
    """What `work` returns, or None where it ends with an error that a command tells in one line."""
    try:
        return work()
    except Exception as error:
        if not is_user_error(error):
            raise
        assert str(error), repr(error)
        return None


# --------------------------------------------------------------------------------------------------------------- corpora


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_dialog(tmp_path_factory.mktemp("fuzz") / "release", DIALOG, TURNS)


@tried(8)
@given(data=st.data())
def test_a_release_is_read_to_its_end_whatever_its_texts_say(release, data):
    paths = [label_file(release, DIALOG), transcript_file(release, DIALOG)]
    contents = [path.read_bytes() for path in paths]
    try:
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(data.draw(damaged(content)))
        for dialog in read_release(str(release)).dialogs:  # not even an error that is told
            assert all(turn.end >= turn.start for turn in dialog.turns)
    finally:
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)


TABLES = {
    ".csv": b'id,audio,text,start,end,dialog,order,history\nu1,a.wav,"hello, you",0,1.5,d,1,"[""a""]"\nu2,a.wav,x,,,d,2,\n',
    ".tsv": b"id\taudio\ttext\nu1\ta.wav\thello\nu2\ta.wav\tyou\n",
    ".json": b'[{"id": "u1", "audio": "a.wav", "text": "hello"}, {"id": "u2", "text": "you", "history": ["a"]}]',
    ".jsonl": b'{"id": "u1", "audio": "a.wav", "start": 0, "end": 1}\n{"id": "u2", "text": "you", "dialog": "d"}\n',
}


@pytest.mark.parametrize("suffix", TABLES)
@tried(12)
@given(data=st.data())
def test_a_table_is_read_or_refused(tmp_path, suffix, data):
    (tmp_path / f"t{suffix}").write_bytes(data.draw(damaged(TABLES[suffix]) | st.binary(max_size=40)))
    ends_well(lambda: read_inputs([str(tmp_path / f"t{suffix}")], False))


@tried(12)
@given(data=st.data())
def test_a_parquet_table_is_read_or_refused(tmp_path, data):
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"audio": ["a.wav", None], "text": ["hello", "you"]}), file)
    (tmp_path / "t.parquet").write_bytes(data.draw(damaged(file.getvalue())))
    ends_well(lambda: read_inputs([str(tmp_path / "t.parquet")], False))


@tried(12)
@given(data=st.data())
def test_rows_of_any_values_are_read_or_refused(tmp_path, data):
    names = st.sampled_from(["id", "audio", "text", "start", "end", "dialog", "order", "history", "label", "x"])
    rows = data.draw(st.lists(st.dictionaries(names, anything_json(), max_size=5), max_size=3))
    (tmp_path / "t.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    ends_well(lambda: read_inputs([str(tmp_path / "t.jsonl")], False))


@tried(12)
@given(data=st.data())
def test_written_dialogs_are_read_or_refused(tmp_path, data):
    line = b'{"id": "a", "turns": [{"speaker": "F", "text": "hello", "emotion": "neu"}, {"text": "no"}]}\n'
    (tmp_path / "d.jsonl").write_bytes(
        data.draw(damaged(3 * line) | anything_json().map(lambda row: json.dumps(row).encode()))
    )
    ends_well(lambda: make_turns(read_dialogs(tmp_path / "d.jsonl")[0], folds=1))


@tried(8)
@given(data=st.data())
def test_predictions_and_logs_of_a_run_are_read_or_refused(tmp_path, data):
    whole = format_predictions(["a", "b"], np.array([0, 1]), np.eye(2), ["ang", "hap"]).encode()
    (tmp_path / "p.csv").write_bytes(data.draw(damaged(whole)))
    ends_well(lambda: read_predictions(tmp_path / "p.csv"))
    (tmp_path / "log.jsonl").write_bytes(data.draw(damaged(b'{"loss": 1.0}\n{"loss": 0.5}\n')))
    assert all(isinstance(entry, dict) for entry in read_log(tmp_path / "log.jsonl"))


# ----------------------------------------------------------------------------------------------------------------- audio


def recording(kind: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, (1500, 2)), 8000, format=kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "AU"])
@tried(8)
@given(data=st.data())
def test_bytes_of_a_recording_are_decoded_or_refused(kind, data):
    content = recording(kind)
    samples = ends_well(lambda: load_audio(data.draw(damaged(content)), target_rate=16_000, max_seconds=60))
    assert samples is None or (samples.ndim == 1 and len(samples) <= 60 * 16_000 and np.isfinite(samples).all())


@tried(8)
@given(data=st.data())
def test_a_recording_of_a_release_is_checked_to_its_end(release, data):
    path = wav_file(release, f"{DIALOG}_{TURNS[0].turn}")
    content = path.read_bytes()
    try:
        path.write_bytes(data.draw(damaged(content)))
        assert check_audio(str(path), 0.5)[0] >= 0
    finally:
        path.write_bytes(content)


# ----------------------------------------------------------------------------------------------------------- checkpoints


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A folder of each paper's checkpoint, and one of the first as an earlier version saved it, without checksums."""
    folder = tmp_path_factory.mktemp("fuzz")
    for name, model in (("lemer", tiny_model()), ("cross_modal", tiny_cross_modal())):
        LemerPipeline(model, tiny_processor(), device="cpu").save_pretrained(folder / name)
    shutil.copytree(folder / "lemer", folder / "old")
    settings_of_old = json.loads((folder / "old/config.json").read_text())
    del settings_of_old["checksums"]
    (folder / "old/config.json").write_text(json.dumps(settings_of_old))
    return folder


def opened(folder: Path):
    """The pipeline as lemer predict opens it, or None."""
    _, args = parse_args([str(folder), "a.wav", "--device", "cpu"])
    return ends_well(lambda: open_pipeline(args, has_words=True)[0])


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "processor_config.json", "tokenizer.json"])
@pytest.mark.parametrize("name", ["lemer", "old"])
@tried(3)
@given(data=st.data())
def test_a_damaged_file_of_a_checkpoint_gives_no_answer(checkpoints, name, file, data):
    path = checkpoints / name / file
    content = path.read_bytes()
    head = content[:2000]  # where a safetensors file has its header
    try:
        changed = data.draw(damaged(head)) + content[2000:] if file == "model.safetensors" else data.draw(damaged(content))
        path.write_bytes(changed)
        pipe = opened(checkpoints / name)
        # Spaces, and names of labels, are what may be changed in a checkpoint with checksums.
        if name == "lemer" and pipe is not None and changed != content:
            assert file == "config.json" and answering(json.loads(changed)) == answering(json.loads(content))
    finally:
        path.write_bytes(content)


def answering(fields: dict) -> dict:
    from lemer.integrity_lemer import FREE_FIELDS

    return {
        name: answering(value) if isinstance(value, dict) else value
        for name, value in fields.items()
        if name not in FREE_FIELDS
    }


@tried(4)
@given(data=st.data())
def test_a_wrong_value_anywhere_in_the_configuration_is_told(checkpoints, data):
    path = checkpoints / "old" / "config.json"
    content = path.read_text()
    fields = json.loads(content)
    part = data.draw(st.sampled_from([fields, fields["text_config"], fields["speech_config"]]))
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(anything_json())
    try:
        path.write_text(json.dumps(fields))
        opened(checkpoints / "old")
    finally:
        path.write_text(content)
