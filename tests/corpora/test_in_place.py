"""Shards in place: archives are tables, recordings stay where they lie, and batches take them near each other."""

import io
import json
import shutil
import tarfile

import datasets
import fsspec
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
import torch

from lemer.audio_lemer import load_audio
from lemer.corpora import in_place, sources
from lemer.corpora.any_dataset import load_any_dataset
from lemer.corpora.manifest import read_inputs
from lemer.corpora.tables import read_table
from lemer.training.batches import LengthBuckets, evaluation_loader, training_loader

ROWS, SHARDS = 24, 2
RANDOM = np.random.default_rng(0)
SAMPLES = [RANDOM.normal(0, 0.1, 800 + 10 * row).astype(np.float32) for row in range(ROWS)]


def wav(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="FLOAT")
    return file.getvalue()


def write_tar(path, files: dict[str, bytes]):
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def fields(row: int) -> dict:
    return {"id": f"u{row:02d}", "text": f"words {row}", "label": "xy"[row % 2], "speaker": f"s{row % 3}"}


def write_shards(folder, kind: str):
    """`ROWS` rows in shards: a folder of tar archives or of parquet files, or a repository that names the latter."""
    folder.mkdir()
    for shard in range(SHARDS):
        rows = range(shard * ROWS // SHARDS, (shard + 1) * ROWS // SHARDS)
        name = folder / f"train-{shard:05d}-of-{SHARDS:05d}"
        if kind == "tar":
            parts = ((f"a.b/u{row:02d}", row) for row in rows)
            files = [(f"{key}.{kind}", content) for key, row in parts for kind, content in parts_of(row).items()]
            write_tar(f"{name}.tar", dict(files))
        else:
            table = [{**fields(row), "audio": {"bytes": wav(SAMPLES[row]), "path": f"{row}.wav"}} for row in rows]
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), f"{name}.parquet", row_group_size=5)
    if kind == "repository":
        (folder / "README.md").write_text('---\nconfigs:\n- config_name: default\n  data_files: "*.parquet"\n---\n')
    return folder


def parts_of(row: int) -> dict[str, bytes]:
    return {"wav": wav(SAMPLES[row]), "json": json.dumps(fields(row)).encode()}


def size_of(folder) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.fixture(params=["tar", "parquet", "repository"])
def corpus(request, tmp_path):
    return write_shards(tmp_path / "corpus", request.param)


def load(corpus, **options):
    return load_any_dataset(corpus, fold_column="speaker", cache_dir=corpus.parent / "cache", progress=False, **options)


def test_recordings_are_read_where_they_lie_and_rows_are_those_of_a_copy(corpus):
    dataset, report = load(corpus, streaming=True)
    held = size_of(corpus.parent / "cache")
    copied, copied_report = load(corpus)
    assert held < 0.3 * sum(map(len, map(wav, SAMPLES))) < size_of(corpus.parent / "cache") - held
    assert report.fingerprints == copied_report.fingerprints and len(dataset) == ROWS
    for row, copy in zip(dataset.select([5, 17, 3]), copied.select([5, 17, 3]), strict=True):
        number = int(row["id"][1:])
        assert {**row, "audio": None} == {**copy, "audio": None} and row["text"] == f"words {number}"
        for audio in (row["audio"], copy["audio"]):
            np.testing.assert_array_equal(load_audio(audio), SAMPLES[number])


def test_a_start_from_the_cache_and_another_process_read_them_too(corpus):
    load(corpus, streaming=True)
    dataset, _ = load(corpus, streaming=True)
    loader = torch.utils.data.DataLoader(dataset.select_columns(["id", "audio"]), collate_fn=list, num_workers=1)
    for (row,) in loader:
        np.testing.assert_array_equal(load_audio(row["audio"]), SAMPLES[int(row["id"][1:])])


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_shards_at_addresses_are_read_in_place_too(tmp_path, monkeypatch, kind):
    """As those of the Hub; what its README says of the columns counts where the shards say nothing."""
    folder = write_shards(tmp_path / "corpus", kind)
    copied, report = load(folder)
    memory = fsspec.filesystem("memory")
    memory.put(f"{folder}/", f"/{kind}/", recursive=True)
    builder = datasets.load_dataset_builder(
        {"parquet": "parquet", "tar": "webdataset"}[kind], data_files=[f"memory://{kind}/*.{kind}"]
    )
    builder.info.features = datasets.Features({"label": datasets.ClassLabel(names=["x", "y"]), "audio": datasets.Audio()})
    monkeypatch.setattr(sources, "_open_builder", lambda name, subset: builder)
    dataset, there = load_any_dataset(
        "owner/name", fold_column="speaker", cache_dir=tmp_path / "cache2", progress=False, streaming=True
    )
    assert there.fingerprints == report.fingerprints and len(in_place.blocks_in_place(dataset)) > 1
    assert size_of(tmp_path / "cache2") < 0.3 * sum(map(len, map(wav, SAMPLES)))
    shutil.rmtree(folder)
    for row in (20, 2):
        assert {**dataset[row], "audio": None} == {**copied[row], "audio": None}
        np.testing.assert_array_equal(load_audio(dataset[row]["audio"]), SAMPLES[int(dataset[row]["id"][1:])])


def test_names_of_classes_and_the_column_of_sound_are_those_of_the_readme(tmp_path, monkeypatch):
    rows = [{"sound": {"bytes": wav(SAMPLES[row]), "path": None}, "text": "words", "label": row % 2} for row in range(4)]
    with fsspec.open("memory://readme/train.parquet", "wb") as file:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    builder = datasets.load_dataset_builder("parquet", data_files="memory://readme/train.parquet")
    builder.info.features = datasets.Features(
        {"sound": datasets.Audio(), "text": datasets.Value("string"), "label": datasets.ClassLabel(names=["sad", "ang"])}
    )
    monkeypatch.setattr(sources, "_open_builder", lambda name, subset: builder)
    dataset, _ = load_any_dataset("owner/name", test_share=0.5, cache_dir=tmp_path, progress=False, streaming=True)
    assert dataset.features["label"].names == ["sad", "ang"]
    for row in dataset:
        np.testing.assert_array_equal(load_audio(row["audio"]), SAMPLES[int(row["id"][-1])])


def test_blocks_are_row_groups_or_rows_of_an_archive_that_follow_one_another(corpus, monkeypatch):
    monkeypatch.setattr(in_place, "BLOCK", 5)
    dataset, _ = load(corpus, streaming=True)
    numbers = [int(name[1:]) for name in dataset["id"]]
    blocks = [[numbers[row] for row in block] for block in in_place.blocks_in_place(dataset)]
    assert blocks == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11], [12, 13, 14, 15, 16], [17, 18, 19, 20, 21], [22, 23]]
    assert in_place.blocks_in_place(load(corpus)[0]) is None


def test_loaders_take_every_row_and_those_of_a_block_near_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(in_place, "BUFFER", 10)
    dataset, _ = load(write_shards(tmp_path / "corpus", "parquet"), streaming=True)
    order = [row["row"] for batch in evaluation_loader(dataset, list, 4) for row in batch]
    assert sorted(order) == list(range(ROWS))
    names = [int(dataset[row]["id"][1:]) for row in order]  # whose lengths grow with them
    assert names == [*range(9, -1, -1), *range(19, 9, -1), *range(23, 19, -1)]
    assert len([row for batch in training_loader(dataset, list, 4, 0, 0) for row in batch]) == ROWS


def test_the_shuffle_buffer_mixes_whole_blocks_and_resumes(monkeypatch):
    monkeypatch.setattr("lemer.training.batches.BUFFER", 40)
    blocks = [np.arange(start, start + 10) for start in range(0, 400, 10)]
    lengths = RANDOM.integers(100, 1000, 403)
    blocks.append(np.arange(400, 403))
    sampler = LengthBuckets(lengths, 8, seed=0, blocks=blocks)
    batches = list(sampler)
    rows = [row for batch in batches for row in batch]
    assert len(batches) == len(sampler) == 50 and len(set(rows)) == 400
    for first in range(0, 50, 5):  # five batches are a buffer of 40 rows, which are of few blocks
        part = rows[8 * first : 8 * first + 40]
        assert len({row // 10 for row in part}) <= 6 and part != sorted(part)
    sampler.start(0, 13)
    assert list(sampler) == batches[13:]
    sampler.start(1)
    assert list(sampler) != batches


def test_only_so_many_row_groups_are_held(tmp_path, monkeypatch):
    folder = write_shards(tmp_path / "corpus", "parquet")
    groups, path = in_place._RowGroups(), str(next(iter(sorted(folder.iterdir()))))
    monkeypatch.setattr(in_place, "CACHE_BYTES", 2.5 * 5 * len(wav(SAMPLES[0])))
    for group in (0, 1, 0, 2):
        groups.column(path, group, "audio")
    assert [group for _, group, _ in groups._columns] == [0, 2]


# ------------------------------------------------------------------------------------------------------ archives as tables


def test_rows_of_an_archive_have_the_fields_of_their_json(tmp_path):
    files = {
        "a/1.x.wav": b"one",
        "a/1.x.json": b'{"emotion": "sad", "text": "from json"}',
        "a/1.x.txt": b"from txt",
        "a/1.x.jpg": b"",
        "2.TXT": "ä".encode(),
        "2.cls": b"1",
        "2.json": b'{"id": "two"}',
    }
    table = read_table(write_tar(tmp_path / "m.tar", files))
    (_, first), (_, second) = table.rows()
    audio = {"path": "a/1.x.wav", "bytes": b"one"}
    assert first == {"emotion": "sad", "text": "from json", "id": "a/1", "audio": audio}
    assert second == {"text": "ä", "label": "1", "id": "two"}
    assert set(table.columns) == {"emotion", "text", "id", "audio", "label"}
    assert table.remarks == ["m.tar: files that are no recordings, .json, .txt or .cls were left out: .jpg (1)"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "it has no rows"),
        ({"1.wav": b"", "1.flac": b""}, "1 has two recordings, 1.wav and 1.flac"),
        ({"1.json": b"[1]"}, r"1.json: expected a JSON object, got \[1\]"),
        ({"1.json": b"{"}, "1.json: Expecting property name"),
        ({"1.txt": b"\xff"}, "1.txt: 'utf-8' codec"),
    ],
)
def test_an_archive_that_cannot_be_read_is_refused_with_its_name(tmp_path, files, reason):
    with pytest.raises(ValueError, match=f"m.tar: {reason}"):
        read_table(write_tar(tmp_path / "m.tar", files))


def test_predict_reads_an_archive_too(tmp_path):
    folder = write_shards(tmp_path / "corpus", "tar")
    turns = [turn for dialog in read_inputs([str(folder)], one_dialog=False) for turn in dialog]
    assert [(turn.id, turn.text) for turn in turns] == [(f"u{row:02d}", f"words {row}") for row in range(ROWS)]
    for row in (20, 2):
        np.testing.assert_array_equal(load_audio(turns[row].recording()[0]), SAMPLES[row])


def test_a_shard_that_changed_says_so(tmp_path):
    dataset, _ = load(write_shards(tmp_path / "corpus", "parquet"), streaming=True)
    for file in (tmp_path / "corpus").iterdir():
        pyarrow.parquet.write_table(pyarrow.table({"other": [1]}), file)
    in_place._row_groups.cache_clear()
    with pytest.raises(OSError, match="has changed while it was used"):
        dataset[0]


def test_the_feature_survives_what_datasets_does_with_it(tmp_path):
    dataset, _ = load(write_shards(tmp_path / "corpus", "parquet"), streaming=True)
    joined = datasets.concatenate_datasets([dataset.select([1]), dataset.select([0])])
    assert [row["audio"]["bytes"] for row in joined] == [dataset[1]["audio"]["bytes"], dataset[0]["audio"]["bytes"]]
