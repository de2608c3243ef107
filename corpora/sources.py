"""Finds the rows that a corpus's name stands for: a table, a folder, a saved or loaded dataset, or a name on the Hub.

A folder is, in this order,
1. a dataset that `save_to_disk` wrote; or a repository of the Hub, whose README.md names its files (`configs:`, also
   chosen by `subset`), whose .csv and .json files are read here as well, since `datasets` guesses types;
2. tables called metadata (.csv, .jsonl ...; an audiofolder), with paths from the table's folder on;
3. other tables with a label and a recording or a text;
4. recordings in a folder for each class: the folder in which a recording lies is its label. Of folders within folders it is
   the only level whose names are emotions (happy/actor_1/a.wav), else the innermost, which is said.

Tables and class folders have splits. A table is of the split that its name or folder says as a word of its own (train;
test; dev, val, valid or validation), or NAME of NAME-00000-of-00002, else of train. Class folders have splits where all lie
in folders of these names, or in a folder that holds these. A word in the name of a recording means nothing, and every file
is read: those that are left out (hidden files and `._` files of macOS, other kinds of files, other tables) are counted and
named.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import datasets
from huggingface_hub import HfFileSystem, hf_hub_download

from .columns import choose_columns
from .emotions import EMOTION_WORDS
from .in_place import read_in_place
from .known import KNOWN
from .known_files import named_beside_folders
from .recordings import AUDIO_SUFFIXES, file_stamp, is_hidden, printable, walk
from .tables import TABLE_SUFFIXES, Table, is_table, read_table

EXAMPLES = 3  # names in a sentence
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
    **dict.fromkeys(("dev", "val", "valid", "validation"), "validation"),
}
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}")


class StoredAudio(datasets.Audio):
    """Audio as it lies in the source. The stock feature needs torchcodec even to hand on a path or bytes."""

    def encode_example(self, value):
        return value if isinstance(value, dict) else {"path": value, "bytes": None}


class SourceRow(NamedTuple):
    """
    A row as it lies in its source.

    Attributes:
        place: where, such as "meld.csv, line 2".
        cells: its cells by column.
        folder: from which its relative paths go on.
        group: the table or split in which its id and the name of its dialog mean one thing.
        name: what it is called without an id or a recording.
        again: gives the cell of a column again; None where the source is read once, from its beginning to its end.
        address: gives the address of the cell of a column, by which it is read again in another process; else None.
    """

    place: str
    cells: dict
    folder: Path
    group: str
    name: str
    again: Callable[[str], Any] | None = None
    address: Callable[[str], str] | None = None


class TableSplit:
    """A split of the rows of tables, all with the same columns."""

    def __init__(self, name: str, openers: list[tuple[str, Callable[[], Table]]]):
        self.name, self._openers, self._read = name, openers, 0

    @cached_property
    def tables(self) -> list[tuple[str, Table]]:
        """Groups and tables."""
        tables = [(group, opener()) for group, opener in self._openers]
        (_, first), *others = tables
        for _, table in others:
            if set(table.columns) != set(first.columns):
                raise ValueError(
                    f"{first.path} has the columns {', '.join(first.columns)}, and {table.path} has "
                    f"{', '.join(table.columns)}: tables of one split ({self.name}) must have the same. Give one of them"
                )
        return tables

    @property
    def columns(self) -> list[str]:
        return self.tables[0][1].columns

    @property
    def plain_columns(self) -> list[str]:
        """Columns whose cells may be a single value; those of tables are known only when they are read."""
        return self.columns

    @property
    def class_names(self) -> dict[str, list[str]]:
        return _classes_of(self.tables[0][1].features)

    @property
    def audio_columns(self) -> list[str]:
        return _audio_of(self.tables[0][1].features)

    @property
    def remarks(self) -> list[str]:
        return [remark for _, table in self.tables for remark in table.remarks]

    def rows(self, columns: Sequence[str], position: int | None) -> Iterator[SourceRow]:
        """All rows from a position on, which `position` gave."""
        self._read = 0
        for group, table in self.tables:
            folder = Path(os.path.abspath(table.path if table.path.is_dir() else table.path.parent))
            for number, (place, cells) in enumerate(table.rows()):
                self._read += 1
                if self._read > (position or 0):
                    address = None if table.address is None else table.address(number)
                    again = None if address is None else partial(_read_again, address)
                    name = f"{table.path}:{number + 1}"
                    yield SourceRow(f"{table.path.name}, {place}", cells, folder, group, name, again, address)

    def position(self) -> int:
        return self._read


def _read_again(address: Callable[[str], str], column: str):
    return read_in_place(address(column))


class DatasetSplit:
    """A split of a dataset of `datasets`. Only the columns that are used are decoded, and recordings never."""

    def __init__(self, name: str, dataset, folder: Path):
        self.name, self._folder = name, folder
        self._stored = dataset if isinstance(dataset, datasets.Dataset) else None
        self._dataset = dataset.to_iterable_dataset() if isinstance(dataset, datasets.Dataset) else dataset
        self.remarks: list[str] = []

    @cached_property
    def columns(self) -> list[str]:
        return list(self._dataset.features or next(iter(self._dataset), {}))

    @property
    def plain_columns(self) -> list[str]:
        """Columns whose cells may be a single value: neither lists nor bytes, nor recordings or pictures to be decoded."""
        features = self._dataset.features
        plain = {
            name
            for name, kind in (features or {}).items()
            if isinstance(kind, datasets.ClassLabel) or (isinstance(kind, datasets.Value) and "binary" not in kind.dtype)
        }
        return self.columns if features is None else [name for name in self.columns if name in plain]

    @property
    def class_names(self) -> dict[str, list[str]]:
        return _classes_of(self._dataset.features)

    @property
    def audio_columns(self) -> list[str]:
        return _audio_of(self._dataset.features)

    def rows(self, columns: Sequence[str], position: dict | None) -> Iterator[SourceRow]:
        dataset = self._dataset
        if dataset.features is not None:
            dataset = dataset.select_columns(list(columns))
        for name in set(columns) & set(self.audio_columns):
            dataset = dataset.cast_column(name, StoredAudio(decode=False))
        if position is not None:
            dataset.load_state_dict(position)
        self._reading = dataset
        for number, cells in enumerate(dataset):
            again = None if self._stored is None else partial(self._cell, number)
            yield SourceRow(
                f"split {self.name}", cells, self._folder, self.name, f"{self.name}-{number:06d}", again
            )  # a name counts from the position on, and only reading for a training goes on from one

    def _cell(self, number: int, column: str):
        assert self._stored is not None
        rows = self._stored.select_columns([column])
        if column in self.audio_columns:
            rows = rows.cast_column(column, StoredAudio(decode=False))
        return rows[number][column]

    def position(self) -> dict:
        return self._reading.state_dict()


def _classes_of(features: datasets.Features | None) -> dict[str, list[str]]:
    return {name: list(kind.names) for name, kind in (features or {}).items() if isinstance(kind, datasets.ClassLabel)}


def _audio_of(features: datasets.Features | None) -> list[str]:
    return [name for name, kind in (features or {}).items() if isinstance(kind, datasets.Audio)]


class Source(NamedTuple):
    """
    What a name stands for.

    Attributes:
        name: to print: the Hub name, or the last part of a path.
        splits: by name.
        content: a text that changes with the content.
        remarks: sentences on what was left out.
        recordings: paths of the recordings in the folder; no row may name them.
    """

    name: str
    splits: dict[str, TableSplit | DatasetSplit]
    content: str
    remarks: list[str]
    recordings: list[str]


def keep_apart(names: Sequence[str | None], groups: Sequence[str], what: str, remarks: list[str]) -> list[str | None]:
    """Names with their group before them, where a name occurs in several groups, which is said; else as they are."""
    group_of: dict[str, str] = {}
    named = [(name, group) for name, group in zip(names, groups, strict=True) if name is not None]
    shared = {name for name, group in named if group_of.setdefault(name, group) != group}
    if not shared:
        return list(names)
    remarks.append(
        f"{len(shared)} {what} occur in several splits or tables, such as {sorted(shared)[0]}, and are kept apart"
    )
    return [name if name is None else f"{group}/{name}" for name, group in zip(names, groups, strict=True)]


def number_twins(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of which every one is there once, since a number stands behind a second one (a.wav#2); and those second ones."""
    taken, seen = set(names), Counter()
    numbered, twins = [], []
    for name in names:
        seen[name] += 1
        unlike = name
        if seen[name] > 1:
            twins.append(name)
            while (unlike := f"{name}#{seen[name]}") in taken:
                seen[name] += 1
            taken.add(unlike)
        numbered.append(unlike)
    return numbered, twins


def refuse_twins(name: str, ids: Sequence[str | None], groups: Sequence[str]) -> None:
    """Raise a `ValueError` where a table or split, which `groups` tell, has an id in several rows. None is no id."""
    counts = Counter((group, row_id) for group, row_id in zip(groups, ids, strict=True) if row_id is not None)
    twice = [(group, row_id, count) for (group, row_id), count in counts.items() if count > 1]
    if twice:
        group, row_id, count = twice[0]
        raise ValueError(
            f"{name} has {len(twice)} ids in several rows, such as {row_id!r} in {count} rows of {group}: every id must be "
            "there once. Remove rows that are there twice, or rename the column of ids if it means something else"
        )


def source_name(source) -> str:
    """Of a local path the last part alone: where it lies is nobody's business and may change."""
    if isinstance(source, (datasets.Dataset, datasets.DatasetDict)):
        return "a loaded dataset"
    path = Path(source).expanduser()
    return path.resolve().name if path.exists() else str(source)


def open_source(
    source,
    wanted: dict[str, str | None],
    subset=None,
    splits=None,
    streaming: bool = False,
    labelled: bool = True,
    skipped: list[str] | None = None,
) -> Source:
    """
    Finds the splits of a source. Arguments are those of `load_any_dataset`, but for `labelled`: whether the rows must have
    labels. If not, a folder of recordings without a table metadata has no splits, but `recordings`. `skipped` is as in
    `read_table`.

    Raises:
        FileNotFoundError: there is no such thing.
        ValueError: nothing in it can be read as a corpus; a split or a subset is not there; it has several subsets.
    """
    remarks, recordings = [], []
    if not isinstance(source, (str, os.PathLike, datasets.Dataset, datasets.DatasetDict)):
        raise ValueError(
            f"a source must be a path, a name on the Hub, a Dataset or a DatasetDict, got {type(source).__name__}: save it "
            "first, or give the name that it was loaded from"
        )
    if isinstance(source, (datasets.Dataset, datasets.DatasetDict)):
        _refuse_subset(source, subset)
        found, content = _loaded_splits(source, Path.cwd())
    elif (path := Path(source).expanduser()).exists():
        files = list(walk(path)) if path.is_dir() else [path]
        content = "\n".join([str(path.resolve()), *(f"{printable(file)} {file_stamp(file)}" for file in files)])
        is_saved = any((path / name).exists() for name in ("state.json", "dataset_dict.json"))
        if path.is_dir() and not is_saved and _has_configs(path):
            builder = _open_builder(str(path), subset)
            content += f"\n{subset}"
            found = _tables(builder, streaming) or {
                str(name): DatasetSplit(str(name), split, path)
                for name, split in _split_items(builder.as_streaming_dataset())
            }
        else:
            _refuse_subset(source, subset)
            if path.is_file():
                found = {"train": _table_split("train", [path], partial(read_table, skipped=skipped))}
            elif is_saved:
                found, _ = _loaded_splits(datasets.load_from_disk(path), Path(os.path.abspath(path)))
            else:
                found, remarks, recordings = _open_folder(path, files, wanted, labelled, skipped)
    else:
        found, content = _open_hub(source, subset, streaming)
    unknown = sorted(set(splits or ()) - set(found))
    if unknown:
        raise ValueError(f"{source_name(source)} has no split {', '.join(unknown)}: it has {', '.join(found)}")
    found = {name: found[name] for name in (splits or found)}
    return Source(source_name(source), found, content, remarks, recordings)


def _refuse_subset(source, subset: str | None) -> None:
    """Raise a `ValueError` where a subset is asked for of a source that has none."""
    if subset is not None:
        raise ValueError(
            f"{source_name(source)} has no subset {subset}: a dataset on the Hub has some, or a folder whose README.md "
            "names them (configs:). Leave --subset out"
        )


def _open_builder(name: str, subset: str | None) -> datasets.DatasetBuilder:
    """
    `datasets.load_dataset_builder`.

    Raises:
        ValueError: a subset has to be chosen, or is not there; the message names those that there are.
    """
    try:
        return datasets.load_dataset_builder(name, subset)
    except ValueError as error:
        there = re.search(r"(?:available configs|Available): \[(.*?)\]", str(error))
        if there is None:
            raise
        wrong = "several subsets" if subset is None else f"no subset {subset}"
        raise ValueError(
            f"{source_name(name)} has {wrong}: choose one by --subset, of {there[1].replace(chr(39), '')}"
        ) from error


def _loaded_splits(dataset, folder: Path) -> tuple[dict[str, DatasetSplit], str]:
    splits = _split_items(dataset) if isinstance(dataset, datasets.DatasetDict) else [(dataset.split or "train", dataset)]
    splits = {str(name): split for name, split in splits if len(split)}
    if not splits:
        raise ValueError("the dataset has no rows")
    content = " ".join(f"{name} {split._fingerprint}" for name, split in splits.items())
    return {name: DatasetSplit(name, split, folder) for name, split in splits.items()}, content


def _open_hub(source, subset, streaming: bool) -> tuple[dict[str, TableSplit | DatasetSplit], str]:
    text = str(source)
    is_path = not isinstance(source, str) or text.startswith((".", "~", "/")) or text.count("/") > 1 or "\\" in text
    if is_path or Path(text).suffix.lower() in (*TABLE_SUFFIXES, *AUDIO_SUFFIXES):
        raise FileNotFoundError(f"no file or folder {text}; expected a table, a folder, or a name on the Hub (owner/name)")
    try:
        builder = _open_builder(text, subset)
    except (FileNotFoundError, ConnectionError) as error:
        raise FileNotFoundError(
            f"{text} is no file or folder here, and no dataset on the Hub could be opened under this name: {error}"
        ) from error
    content = f"{builder.dataset_name} {builder.config_id} {builder.hash}"
    if tables := _tables(builder, streaming):
        return dict(tables), content
    # Of audio, only tables can be built without torchcodec.
    if streaming or not isinstance(builder, datasets.ArrowBasedBuilder):
        found = builder.as_streaming_dataset()
    else:
        builder.download_and_prepare()
        found = builder.as_dataset()
    return {str(name): DatasetSplit(str(name), split, Path.cwd()) for name, split in _split_items(found)}, content


def _split_items(loaded) -> Iterable[tuple]:
    """Names and datasets of a dictionary of splits, which `datasets` types as one dataset too."""
    return loaded.items()


def _tables(builder: datasets.DatasetBuilder, streaming: bool) -> dict[str, TableSplit] | None:
    """
    Splits of a repository that is read here: of .csv or .json files, since `datasets` guesses types, and with `streaming` of
    shards, here or on the Hub, since recordings can stay in them. None for other builders.
    """
    files = {str(name): [str(file) for file in names] for name, names in (builder.config.data_files or {}).items()}
    every = [file for names in files.values() for file in names]
    if type(builder.config).__name__ in ("CsvConfig", "JsonConfig"):
        is_read_here = all(is_table(Path(file)) and ("://" not in file or file.startswith("hf://")) for file in every)
    else:  # an address with `::` is that of a file within another
        is_read_here = streaming and all("::" not in file and Path(file).suffix in (".parquet", ".tar") for file in every)
    if not files or not is_read_here:
        return None

    def open_table(file: str) -> Table:
        table = read_table(_local_copy(file))
        table.features = table.features or builder.info.features  # what the README says where the file says nothing
        return table

    return {name: _table_split(name, names, open_table) for name, names in files.items()}


def _local_copy(file: str) -> str:
    """The path of a file; one of the Hub is fetched whole unless it is a shard."""
    if not file.startswith("hf://") or Path(file).suffix in (".parquet", ".tar"):
        return file
    place: Any = HfFileSystem().resolve_path(file)  # of a repository, since the address is that of a dataset
    return hf_hub_download(place.repo_id, place.path_in_repo, repo_type="dataset", revision=place.revision)


def _has_configs(folder: Path) -> bool:
    """Whether a README.md says where the data of a Hub repository lies."""
    readme = folder / "README.md"
    head = re.match(r"---\n(.*?)\n---", readme.read_text("utf-8", errors="replace"), re.DOTALL) if readme.is_file() else None
    return head is not None and re.search(r"^configs:", head[1], re.MULTILINE) is not None


# ------------------------------------------------------------------------------------------------------------- folders


def list_recordings(folder: Path, files: list[Path] | None = None) -> tuple[list[Path], list[str]]:
    """The recordings in a folder and all below it, and sentences on the files that were left out."""
    files = list(walk(folder)) if files is None else files
    hidden = [file for file in files if is_hidden(file, folder)]
    visible = [file for file in files if not is_hidden(file, folder)]
    recordings = [file for file in visible if file.suffix.lower() in AUDIO_SUFFIXES]
    others = [file for file in visible if file.suffix.lower() not in AUDIO_SUFFIXES and not is_table(file)]
    remarks = [f"{len(hidden)} hidden files left out, such as {_names(hidden, folder)}"] if hidden else []
    if others:
        kinds = Counter(file.suffix.lower() or "without an ending" for file in others)
        kinds = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
        remarks.append(f"{len(others)} files that are no recordings left out: {kinds}, such as {_names(others, folder)}")
    return recordings, remarks


def _names(files: list[Path], folder: Path) -> str:
    more = ", ..." if len(files) > EXAMPLES else ""
    return ", ".join(printable(file.relative_to(folder)) for file in files[:EXAMPLES]) + more


def _open_folder(
    folder: Path, files: list[Path], wanted: dict, labelled: bool, skipped: list[str] | None = None
) -> tuple[dict[str, TableSplit], list[str], list[str]]:
    if labelled and any((folder / f"Session{number}" / "dialog" / "EmoEvaluation").is_dir() for number in range(1, 6)):
        raise ValueError(
            f"{folder} has IEMOCAP's layout (Session1/dialog/EmoEvaluation ...): give --corpus iemocap --data_dir {folder}. "
            "If another corpus lies beside it, give that one's own folder"
        )
    recordings, remarks = list_recordings(folder, files)
    tables = [file for file in files if is_table(file) and not is_hidden(file, folder)]
    used = metadata_tables(tables)
    if twice := [name for name, count in Counter(file.parent for file in used).items() if count > 1]:
        both = ", ".join(file.name for file in used if file.parent == twice[0])
        raise ValueError(f"{twice[0]} has {both}: expected one of them, since each would give its rows; remove the others")
    if not used and (labelled or not recordings):
        used = [file for file in tables if _is_corpus(file, wanted, labelled)]
        if labelled and not recordings:
            used = used or tables
    if used:
        if not labelled:
            remarks.append(f"read by {_names(used, folder)}")
        if ignored := [file for file in tables if file not in used]:
            remarks.append(f"{len(ignored)} tables are not read: {_names(ignored, folder)}")
        splits: dict[str, list[Path]] = {}
        for file in used:
            splits.setdefault(table_split_name(file.relative_to(folder)), []).append(file)
        open_table = partial(read_table, skipped=skipped)
        found = {name: _table_split(name, paths, open_table) for name, paths in splits.items()}
        return found, remarks, list(map(str, recordings))
    if tables:
        why = (
            "since they have no label" if labelled else "since they are not called metadata: give a table itself to read it"
        )
        remarks.append(f"{len(tables)} tables are not read, {why}: {_names(tables, folder)}")
    if not recordings:
        raise ValueError(
            f"{folder} holds neither recordings nor tables ({', '.join(TABLE_SUFFIXES)}): expected a table, a folder "
            f"of recordings{' for every class' if labelled else ''}, or a dataset of `datasets`. "
            f"{'; '.join(remarks) or 'It is empty'}"
        )
    classes = _class_folders(folder, recordings, remarks) if labelled else {}
    return classes, remarks, list(map(str, recordings))


def metadata_tables(tables: list[Path]) -> list[Path]:
    """The tables of an audiofolder."""
    return [file for file in tables if file.stem.lower() == "metadata"]


def _is_corpus(table: Path, wanted: dict, labelled: bool) -> bool:
    """Whether a table has recordings or texts, and labels where they are needed."""
    try:
        columns = read_table(table).columns
    except ValueError:
        if table.suffix.lower() == ".json":  # settings, and what else is kept in such files
            return False
        raise
    try:
        names = choose_columns(
            columns, ("audio", "text", "label"), {use: wanted.get(use) for use in ("audio", "text", "label")}
        )
    except ValueError as error:
        return "could be" in str(error)  # it is one, and the choice of its columns will be refused
    has_label = names.names["label"] is not None or not labelled
    return has_label and (names.names["audio"] is not None or names.names["text"] is not None)


def table_split_name(table: Path) -> str:
    """The split of a table, by its path in its folder."""
    if match := _SHARD.fullmatch(table.stem):
        return match[1]
    for part in (table.stem, *reversed(table.parent.parts)):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return "train"


def _table_split(name: str, files: Sequence[str | Path], open_table: Callable[[Any], Table] = read_table) -> TableSplit:
    """Shards of one table are one group; any other table is a group of its own."""
    stems = {file: Path(file).stem for file in files}
    groups = {file: f"{name}/{match[1] if (match := _SHARD.fullmatch(stem)) else stem}" for file, stem in stems.items()}
    alone = len(set(groups.values())) == 1
    return TableSplit(name, [(name if alone else groups[file], partial(open_table, file)) for file in files])


def _label_level(folders: Iterable[tuple[str, ...]]) -> int:
    """Which folder on the way to a recording is its label: the only level whose names are emotions, else the innermost."""
    by_depth: dict[int, list[set[str]]] = {}
    for names in folders:
        levels = by_depth.setdefault(len(names), [set() for _ in names])
        for level, name in zip(levels, names, strict=True):
            level.add(name)
    if len(by_depth) == 1:
        (levels,) = by_depth.values()
        emotions = [
            number
            for number, names in enumerate(levels)
            if all(EMOTION_WORDS & set(re.split(r"[^a-z]+", name.lower())) for name in names)
        ]
        if len(emotions) == 1:
            return emotions[0]
    return -1


def _split_level(folders: list[tuple[str, ...]]) -> int | None:
    """At which level all folders are called like splits, below folders that all recordings have in common; None if none."""
    for level in range(min(map(len, folders))):
        names = {names[level].lower() for names in folders}
        if names <= set(SPLIT_WORDS):
            return level
        if len(names) > 1:
            return None
    return None


def _class_folders(folder: Path, recordings: list[Path], remarks: list[str]) -> dict[str, TableSplit]:
    parts = {path: path.relative_to(folder).parts for path in recordings}
    at = _split_level([part[:-1] for part in parts.values()])
    inside = {path: part[:-1] if at is None else part[at + 1 : -1] for path, part in parts.items()}
    level = _label_level(names for names in inside.values() if names)
    if deep := next((names for names in inside.values() if len(names) > 1), None):
        remarks.append(f"of several folders one within the other, {deep[level]} in {'/'.join(deep)} is taken as the label")
    splits: dict[str, list[tuple[Path, str | None]]] = {}
    for path, names in inside.items():
        split = "train" if at is None else SPLIT_WORDS[parts[path][at].lower()]
        splits.setdefault(split, []).append((path, names[level] if names else None))
    if all(label is None for rows in splits.values() for _, label in rows):
        raise ValueError(
            f"the {len(recordings)} recordings in {folder} have no labels: expected a folder for every class "
            "(happy/a.wav), or a table metadata.csv with the columns file_name and label"
        )

    labelled = {path: names[level] for path, names in inside.items() if names}
    known = named_beside_folders([*labelled], [*labelled.values()], folder)
    if known is not None:
        raise ValueError(
            f"{folder} has recordings that are named as those of {KNOWN[known].title}, in folders that name no emotion, "
            f"such as {next(iter(labelled.values()))}: give --corpus {known}={folder}, which reads the emotions from the "
            "names. Or give a table metadata.csv with the columns file_name and label"
        )

    def table(rows: list[tuple[Path, str | None]]) -> Table:
        def give():
            for number, (path, label) in enumerate(rows, start=1):
                yield f"recording {number}", {"audio": os.path.abspath(path), "label": label}

        return Table(folder, ["audio", "label"], give)

    return {name: TableSplit(name, [(name, lambda rows=rows: table(rows))]) for name, rows in splits.items()}
