"""Recordings that stay in the shards of a corpus, parquet files and tar archives, and are read there when they are heard.

An address says where a cell lies. It is text, so that it goes into a dataset in the place of a recording's path:

    address = address_in_parquet("train-00000.parquet", 0, 17, "audio")
    read_in_place(address)                     # the cell, such as {"path": "a.flac", "bytes": b"..."}

The column audio of a dataset with the feature `AudioInPlace` gives the recordings themselves. A shard is a file of this
machine, or lies at an address that fsspec knows (hf://, s3://): of such a one only the bytes of the cell are fetched.
"""

import json
import os
import warnings
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import datasets
import fsspec
import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
from datasets.features.features import register_feature

from .recordings import as_recording

CACHE_BYTES = 2**29  # of row groups that a process holds: a parquet file cannot be read at a single row
BLOCK = 64  # rows of an archive that are read together
BUFFER = 2048  # rows of shards that are shuffled with each other
_IN_PLACE = '{"shard": '


def address_in_parquet(path: str, group: int, row: int, column: str) -> str:
    """The address of a cell of a parquet file: its row group, its row there, and its column."""
    # Of one length each, so that the order of addresses is that of the rows.
    return json.dumps({"shard": path, "group": f"{group:08d}", "row": f"{row:08d}", "column": column})


def address_in_tar(path: str, offset: int, size: int, column: str) -> str:
    """The address of the recording of a row of a tar archive, so many bytes from `offset` on; it is the only such column."""
    return json.dumps({"shard": path, "offset": f"{offset:016d}", "size": size})


def open_shard(path: str, ahead: bool = False) -> IO[bytes]:
    """
    Open a shard to be read.

    Args:
        path: of a file, or an address.
        ahead: whether it is read from its beginning to its end. Else nothing but what is asked for is fetched.

    Raises:
        OSError: it is not there, or cannot be reached.
    """
    if "://" not in path:
        return open(path, "rb")
    place: Any = fsspec.url_to_fs(path)
    filesystem, name = place
    return filesystem.open(name, "rb", **({} if ahead else {"cache_type": "none"}))


def open_parquet(path: str, ahead: bool = False) -> pyarrow.parquet.ParquetFile:
    """Open a shard of parquet, as `open_shard` does."""
    return pyarrow.parquet.ParquetFile(open_shard(path, ahead) if "://" in path else path)


def is_in_place(path: str | None) -> bool:
    """Whether a path is an address."""
    return path is not None and path.startswith(_IN_PLACE)


def read_in_place(address: str) -> Any:
    """
    The cell at an address, as its table gives it.

    Raises:
        OSError: the shard cannot be read.
    """
    given = json.loads(address)
    try:
        if "group" in given:
            column = _row_groups(os.getpid()).column(given["shard"], int(given["group"]), given["column"])
            return column[int(given["row"])].as_py()
        with open_shard(given["shard"]) as file:
            file.seek(int(given["offset"]))
            return {"path": None, "bytes": file.read(given["size"])}
    except (pyarrow.ArrowException, IndexError, KeyError) as error:
        raise OSError(f"{given['shard']} has changed while it was used: {error}") from error


def blocks_in_place(dataset: datasets.Dataset) -> list[np.ndarray] | None:
    """
    Rows whose recordings lie near each other: a row group each, or `BLOCK` rows of an archive; None where all recordings of
    a dataset lie in files of their own.
    """
    if not isinstance(dataset.features.get("audio"), AudioInPlace):
        return None
    audio = dataset.select_columns(["audio"]).with_format("arrow")[:]["audio"].combine_chunks()
    compute: Any = pyarrow.compute  # whose functions are made when it is imported
    paths = compute.fill_null(audio.field("path"), "")
    order = compute.sort_indices(paths)
    groups = compute.replace_substring_regex(paths.take(order), '"(row|offset)": .*', "")
    codes = groups.dictionary_encode().indices.to_numpy()
    blocks = np.split(order.to_numpy().astype(np.int64), np.flatnonzero(np.diff(codes)) + 1)
    archives = [is_in_place(group) and '"group": ' not in group for group in groups.unique().to_pylist()]
    pieces = [
        np.split(block, range(BLOCK, len(block), BLOCK)) if cut else [block]
        for block, cut in zip(blocks, archives, strict=True)
    ]
    return [piece for parts in pieces for piece in parts]


def longest_first(dataset: datasets.Dataset) -> np.ndarray:
    """All rows, longest first; of shards, about `BUFFER` rows that lie near each other at a time are ordered so."""
    lengths, blocks = np.asarray(dataset["num_frames"][:]), blocks_in_place(dataset)
    if blocks is None:
        return np.argsort(-lengths, kind="stable")
    parts = np.split(np.concatenate(blocks), range(BUFFER, len(lengths), BUFFER))
    return np.concatenate([part[np.argsort(-lengths[part], kind="stable")] for part in parts])


class _RowGroups:
    """Columns of row groups, those that were used last, of `CACHE_BYTES` together or of one column."""

    def __init__(self):
        self._files: dict[str, pyarrow.parquet.ParquetFile] = {}
        self._columns: OrderedDict[tuple[str, int, str], pyarrow.ChunkedArray] = OrderedDict()

    def column(self, path: str, group: int, name: str) -> pyarrow.ChunkedArray:
        key = (path, group, name)
        if key not in self._columns:
            if path not in self._files:
                self._files[path] = open_parquet(path)
            file = self._files[path]
            # Without threads, of which a forked process has none.
            self._columns[key] = file.read_row_group(group, columns=[name], use_threads=False)[name]
            while len(self._columns) > 1 and sum(kept.nbytes for kept in self._columns.values()) > CACHE_BYTES:
                self._columns.popitem(last=False)
        self._columns.move_to_end(key)
        return self._columns[key]


@lru_cache(maxsize=1)
def _row_groups(process: int) -> _RowGroups:
    """Those of a process: forked ones open the files anew."""
    return _RowGroups()


@dataclass
class AudioInPlace:
    """A feature of `datasets`: `{"path", "bytes"}`, of which a path may be an address; then the row reads the recording."""

    decode = True
    pa_type = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    _type: str = field(default="AudioInPlace", init=False, repr=False)

    def __call__(self):
        return self.pa_type

    def encode_example(self, value: dict) -> dict:
        return value

    def decode_example(self, value: dict, token_per_repo_id=None) -> dict:
        """The recording as `load_audio` takes it."""
        if not is_in_place(value["path"]):
            return value
        recording = as_recording(read_in_place(value["path"]), Path())
        assert isinstance(recording, dict)  # only such cells are left in place
        return recording


with warnings.catch_warnings():  # that this may change
    warnings.simplefilter("ignore")
    register_feature(AudioInPlace, "AudioInPlace")  # `datasets` makes features anew of what its tables say
