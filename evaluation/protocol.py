"""Guards of a run folder: one folder has one run, and no tower has seen the session it is tested on."""

import json
from pathlib import Path

from ..corpora.known import KNOWN
from ..runtime.files import write_atomically
from .run_folder import read_json


def check_unseen(tower: str, fold: int, fingerprint: str, corpus: str = "") -> None:
    """
    Refuse a tower that train.py or pretrain.py trained on this corpus for another fold, since it has seen this fold's test;
    and one that was trained on a corpus of the same name that was split otherwise, since it may have seen it.

    Args:
        tower: folder of a run's checkpoint; anything else is accepted.
        fold: the session that is held out now.
        fingerprint: the corpus, as the report of its loader identifies it.
        corpus: the corpora that are known by name, with " + " between them; any other name is of one data set and another.

    Raises:
        ValueError: the tower has seen the session held out, or may have.
    """
    results = Path(tower).parent / "results.json"
    if not results.is_file():
        return
    trained = json.loads(results.read_text()).get("fold")
    protocols = [folder / "protocol.json" for folder in results.parents[1:3]]
    read = [json.loads(path.read_text()) for path in protocols if path.is_file()]
    fingerprints = [protocol.get("corpus_fingerprint") for protocol in read]
    for protocol in read if fingerprint not in fingerprints else []:
        named = {name for name, row in KNOWN.items() if row.clips} & {*str(protocol.get("corpus")).split(" + ")}
        named -= {protocol.get("fold_names", {}).get(str(trained))}  # it was held out whole
        if shared := sorted(named & {*corpus.split(" + ")}):
            raise ValueError(
                f"{tower} was trained on {', '.join(shared)} in other folds or on another copy, and may have seen what fold "
                f"{fold} is tested on: name a tower of the same corpora and --protocol, or one of other corpora"
            )
    if trained not in (None, fold) and fingerprint in fingerprints:
        raise ValueError(
            f"{tower} was trained on this corpus for fold {trained}, and so on what fold {fold} is tested on: name a tower "
            "for each fold, with {fold} in its path"
        )


def check_protocol(folder: Path, protocol: dict) -> None:
    """
    Refuse to mix runs of different settings in one folder; write protocol.json of a new run.

    `command` is not compared, since the same settings can be asked for in several ways, and for other folds and seeds. Every
    command that was given is kept, on a line of its own.

    Raises:
        ValueError: the folder holds a run of other settings, or something else.
    """
    path = folder / "protocol.json"
    protocol = json.loads(json.dumps(protocol))
    if path.exists() and any(folder.glob("fold*/seed*/*")):
        old = json.loads(path.read_text())
        changes = _changes(old, protocol, {*old, *protocol} - {"command"})
        if changes:
            raise ValueError(f"{folder} holds a run with other settings ({changes}): give another --output_dir")
        commands = str(old.get("command", "")).splitlines()
        if protocol["command"] not in commands:
            write_atomically(path, json.dumps({**old, "command": "\n".join([*commands, protocol["command"]])}, indent=1))
    elif folder.exists() and any(entry != path for entry in folder.iterdir() if not entry.name.startswith("fold")):
        raise ValueError(f"{folder} is not empty and holds no run of train.py: give another --output_dir")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(protocol, indent=1))


def check_second_stage(folder: Path, protocol: dict) -> dict:
    """
    Refuse to mix second stages of different towers, corpora or settings in one folder.

    Args:
        protocol: what is asked for. `settings` may be None, for those that the folder was begun with.

    Returns:
        The protocol of the folder.

    Raises:
        ValueError: the folder holds another second stage.
    """
    old = json.loads((folder / "protocol.json").read_text())
    changes = _changes(old, protocol, {name for name in protocol if name != "settings" or protocol[name] is not None})
    if changes:
        raise ValueError(f"{folder} holds another second stage ({changes}): give another folder")
    return old


def check_fusion_output(output: Path, protocol: dict) -> None:
    """
    Check that a fusion may be written to a folder: it is new or empty, or holds an earlier fusion of the same runs.

    Raises:
        ValueError: the folder holds something else, which would be lost.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise ValueError(f"{output} is not a folder: give another --output_dir")
    known = {"protocol.json", "results.json", "results.md"}
    foreign = [entry.name for entry in output.iterdir() if entry.name not in known and not entry.name.startswith("fold")]
    path = output / "protocol.json"
    old = read_json(path) if path.exists() else {}
    if foreign or (any(output.iterdir()) and old.get("recipe") != "score_fusion"):
        example = f" but {foreign[0]}" if foreign else ""
        raise ValueError(f"{output} is not empty and holds no score fusion{example}: give another --output_dir")
    fused = json.loads(json.dumps(protocol["fused"]))
    # Settings that an earlier version did not write say nothing.
    if old and old["fused"] != [{name: run.get(name) for name in was} for was, run in zip(old["fused"], fused, strict=True)]:
        raise ValueError(f"{output} holds the fusion of other runs, {old['command']}: give another --output_dir")


def _changes(old: dict, new: dict, names: set[str]) -> str:
    """In words, which of the settings differ."""
    return "; ".join(
        f"{name} was {old.get(name)!r}, is {new.get(name)!r}" for name in sorted(names) if old.get(name) != new.get(name)
    )
