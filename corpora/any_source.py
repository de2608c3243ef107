"""Reads any dataset row by row into shards of prepared rows: every recording decoded once, a killed read goes on.

    rows, facts = prepare_rows("folder/of/recordings", {"audio": None, "text": None, "label": None, ...})

`corpora/any_dataset.py` makes the corpus of them.
"""

import hashlib
import io
import json
import math
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import datasets
import fsspec
import numpy as np
import soundfile
from datasets.arrow_writer import ArrowWriter
from filelock import FileLock
from tqdm.auto import tqdm

from ..audio_lemer import load_audio
from ..runtime.files import write_atomically

SCHEMA_VERSION = "1"  # in the cache's key: raise it with every change of what a prepared row holds
SAMPLING_RATE = 16_000
SHARD = 1000  # rows written, and lost by a kill, at once
FILES = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}


class StoredAudio(datasets.Audio):
    """Audio as it lies in the source. The stock feature needs torchcodec even to hand on a path or bytes."""

    def encode_example(self, value):
        return value if isinstance(value, dict) else {"path": value, "bytes": None}


PREPARED = datasets.Features(
    {
        **dict.fromkeys(("id", "split", "text", "label", "fold", "dialog", "order", "speaker"), datasets.Value("string")),
        **dict.fromkeys(("start", "end"), datasets.Value("float64")),
        "audio": datasets.Audio(sampling_rate=SAMPLING_RATE, decode=False),
        "num_frames": datasets.Value("int64"),
        **dict.fromkeys(("digest", "path", "stamp", "problem"), datasets.Value("string")),
    }
)


def source_name(source: str | os.PathLike) -> str:
    """Of a local path the last part alone: where it lies is nobody's business and may change."""
    return Path(source).resolve().name if Path(source).exists() else str(source)


def _open_source(source, subset, splits, streaming: bool) -> tuple[dict[str, datasets.IterableDataset], str]:
    """Its splits, to be read row by row, and a key that changes with its content."""
    path = Path(source).expanduser()
    if path.is_file() and path.suffix not in FILES:
        raise ValueError(f"{path} is no file of {', '.join(FILES)}")
    if path.is_dir() and any((path / name).exists() for name in ("state.json", "dataset_dict.json")):
        found = datasets.load_from_disk(path)
        found = dict(found) if isinstance(found, datasets.DatasetDict) else {str(found.split or "train"): found}
    else:
        if path.is_file():
            builder = datasets.load_dataset_builder(FILES[path.suffix], data_files=str(path))
        else:
            builder = datasets.load_dataset_builder(str(path) if path.exists() else str(source), subset)
        # Of audio, only tables can be built without torchcodec. Local files are there already.
        if streaming or path.exists() or not isinstance(builder, datasets.ArrowBasedBuilder):
            found = builder.as_streaming_dataset()
        else:
            builder.download_and_prepare()
            found = builder.as_dataset()
    if splits is not None and set(splits) - set(found):
        raise ValueError(f"{source} has no split {', '.join(sorted(set(splits) - set(found)))}: it has {', '.join(found)}")
    found = {name: found[name] for name in (splits or found)}
    for name, split in found.items():
        if isinstance(split, datasets.Dataset):
            found[name] = split.to_iterable_dataset()
    if not path.exists():
        return found, f"{builder.dataset_name} {builder.config_id} {builder.hash}"
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    return found, "\n".join([str(path.resolve()), *(f"{file} {_stamp(file)}" for file in files)])


def _stamp(path: str | os.PathLike) -> str:
    """Size and time of a file, "" where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def prepare_rows(
    source: str | os.PathLike,
    wanted: dict[str, str | None],
    *,
    subset: str | None = None,
    splits: Sequence[str] | None = None,
    streaming: bool = False,
    cache_dir: str | os.PathLike | None = None,
    progress: bool = True,
) -> tuple[datasets.Dataset, dict]:
    """
    The prepared rows (columns of `PREPARED`), from the cache or written there, in the order of the source.

    Args:
        source, subset, splits, streaming, cache_dir: as in `load_any_dataset`.
        wanted: column of each use: audio, text, label, fold, dialog, order; None for the usual one or none.

    Returns:
        The rows, and what is known of all of them: whether there are columns for `audio` and `text`, and the `label_names`
        of a ClassLabel or None.

    Raises:
        FileNotFoundError, ValueError: as `load_any_dataset`.
    """
    found, content = _open_source(source, subset, splits, streaming)
    key = json.dumps([SCHEMA_VERSION, content, list(found), wanted])
    folder = Path(cache_dir or datasets.config.HF_DATASETS_CACHE).expanduser() / "lemer_corpora"
    folder /= hashlib.sha256(key.encode()).hexdigest()[:32]
    done = folder / "corpus.json"
    folder.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        with FileLock(f"{folder}.lock"):  # several trainings may begin at once
            if not done.exists():
                _write_shards(found, source, wanted, folder, progress)
        facts = json.loads(done.read_text())
        files = [str(folder / f"{shard:05d}.arrow") for shard in range(facts["shards"])]
        if not files:
            raise ValueError(f"{source} has no rows in {', '.join(found)}")
        prepared = datasets.concatenate_datasets([datasets.Dataset.from_file(file) for file in files])
        # Recordings may lie outside of what the key is made of.
        stamped = zip(prepared["path"], prepared["stamp"], strict=True)
        if all(path is None or stamp == _stamp(path) for path, stamp in stamped):
            break
        done.unlink()
    return prepared, facts


def _write_shards(found: dict, source, wanted: dict, folder: Path, progress: bool) -> None:
    """Read all splits to their ends, from where a killed run was; corpus.json is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    base = Path(source).expanduser()
    base = base.parent if base.is_file() else base
    state_file = folder / "state.json"
    # Of the split being read: its rows and shards so far, and the reader's position after them.
    state = {"split": 0, "shards": 0, "rows": 0, "split_rows": 0, "position": None, "facts": None}
    if state_file.exists():
        state = json.loads(state_file.read_text())
    with tqdm(desc=f"reading {source_name(source)}", unit="row", initial=state["rows"], disable=not progress) as bar:
        for number, (name, split) in enumerate(found.items()):
            if number < state["split"]:
                continue
            columns, features, label_names = _resolve_columns(split, wanted, name, source)
            facts = {use: columns[use] is not None for use in ("audio", "text")} | {"label_names": label_names}
            if state["facts"] not in (None, facts):
                raise ValueError(f"split {name} of {source} has other columns or classes than those before: read it alone")
            if isinstance(features.get(columns["audio"]), datasets.Audio):
                split = split.cast_column(columns["audio"], StoredAudio(decode=False))
            if state["position"] is not None:
                split.load_state_dict(state["position"])
            reader = iter(split)
            while number == state["split"]:
                shard = folder / f"{state['shards']:05d}.arrow"
                temporary = shard.with_suffix(".tmp")
                written = 0
                with ArrowWriter(features=PREPARED, path=str(temporary)) as writer:
                    for written, row in enumerate(islice(reader, SHARD), start=1):
                        row = {use: None if column is None else row.get(column) for use, column in columns.items()}
                        at = f"{name}-{state['split_rows'] + written - 1:06d}"
                        writer.write({"split": name, **_prepared_row(row, at, label_names, base, facts["audio"])})
                        bar.update()
                    if written:
                        writer.finalize()
                if written:
                    os.replace(temporary, shard)
                temporary.unlink(missing_ok=True)
                state.update(facts=facts, shards=state["shards"] + bool(written), rows=state["rows"] + written)
                if written == SHARD:
                    state.update(split_rows=state["split_rows"] + written, position=split.state_dict())
                else:
                    state.update(split=number + 1, split_rows=0, position=None)
                write_atomically(state_file, json.dumps(state))
    write_atomically(folder / "corpus.json", json.dumps({**state["facts"], "shards": state["shards"]}))
    state_file.unlink()


def _resolve_columns(split, wanted: dict, name: str, source) -> tuple[dict, dict, list[str] | None]:
    """The column of each use (None where there is none), the features known, and the names of a ClassLabel."""
    features = split.features or {}
    there = list(features or next(iter(split), {}))
    columns = {**wanted, "label": wanted["label"] or "label"}
    for use in ("audio", "text"):
        columns[use] = wanted[use] or (use if use in there else None)
    columns.update({own: own if own in there else None for own in ("id", "speaker", "start", "end")})
    missing = [f"{use}_column {column!r}" for use, column in columns.items() if column is not None and column not in there]
    if missing:
        raise ValueError(
            f"split {name} of {source} has no {', '.join(missing)}: its columns are {', '.join(there) or 'none'}"
        )
    if columns["audio"] is None and columns["text"] is None:
        raise ValueError(f"neither audio_column nor text_column is given, and none is called so: {', '.join(there)}")
    label = features.get(columns["label"])
    return columns, features, list(label.names) if isinstance(label, datasets.ClassLabel) else None


def _prepared_row(row: dict, at: str, label_names: list[str] | None, base: Path, has_audio: bool) -> dict:
    label, order = row["label"], row["order"]
    if label_names is not None:
        label = None if label is None or label < 0 else label_names[label]
    elif isinstance(label, (list, dict)) or (isinstance(label, float) and math.isfinite(label) and label != int(label)):
        raise ValueError(f"row {at} has the label {label}: expected a name or a whole number")
    elif isinstance(label, (int, float)) and label < 0:
        label = None
    if order is not None and not isinstance(order, (str, int, float)):
        order = str(order)  # dates and times, in the order of the calendar
    text = _as_text(row["text"])
    audio, frames, digest, problem = _stored_audio(row["audio"], base) if has_audio else (None, 0, "", None)
    path = None if audio is None else audio["path"]
    return {
        "id": _as_text(row["id"]) or (None if path is None else os.path.relpath(path, base.resolve())),
        "text": text and text.strip(),
        "label": _as_text(label),
        "fold": _as_text(row["fold"]),
        "dialog": _as_text(row["dialog"]),
        "order": None if order is None or order != order else json.dumps(order),
        "speaker": _as_text(row["speaker"]),
        **{name: row[name] if isinstance(row[name], (int, float)) else None for name in ("start", "end")},
        "audio": audio or {"path": None, "bytes": None},
        "num_frames": frames,
        "digest": digest,
        "path": path,
        "stamp": None if path is None else _stamp(path),
        "problem": problem,
    }


def _as_text(value) -> str | None:
    """Names as text; whole numbers without the point that missing ones beside them bring; None for what is missing."""
    if value is None or value != value or value == "":
        return None
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)


def _stored_audio(audio, base: Path) -> tuple[dict | None, int, str, str | None]:
    """What the schema keeps of a recording, its length in samples at 16 kHz, their digest, and what is wrong with it."""
    if isinstance(audio, dict) and audio.get("array") is not None:
        file = io.BytesIO()
        soundfile.write(file, np.asarray(audio["array"]).T, int(audio["sampling_rate"]), format="WAV", subtype="FLOAT")
        audio = {"path": None, "bytes": file.getvalue()}
    audio = audio if isinstance(audio, dict) else {"path": audio, "bytes": None}
    path, content = audio.get("path"), audio.get("bytes")
    if path is None and content is None:
        return None, 0, "", "audio_missing"
    if content is None and "://" in path:  # a file on the Hub or in an archive
        with fsspec.open(path) as file:
            content = file.read()
    path = None if content is not None else str((base / path).resolve())
    try:
        samples = load_audio({"path": path, "bytes": content})
    except (OSError, ValueError) as error:
        return {"path": path, "bytes": None}, 0, "", f"audio_damaged: {error}"
    return {"path": path, "bytes": content}, len(samples), hashlib.sha256(samples.tobytes()).hexdigest(), None
