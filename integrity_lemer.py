"""Whether a checkpoint is whole: the list of its files' checksums, and the search for weights that are not numbers.

`config.json` of a saved checkpoint has a field `checksums`: the SHA-256 of every file that answers depend on (weights,
tokenizer, settings of the processor), and of its own fields. Model and processor write it when they are saved, and the model
compares it when it is loaded. A checkpoint without that field, saved by an earlier version, is not compared.

This file travels with every checkpoint.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from transformers.utils import CONFIG_NAME, cached_file

WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json")
PROCESSOR_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "tokenizer*",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
)
# Fields of config.json that people and libraries may change without another answer. Labels may get other names.
FREE_FIELDS = {
    "_name_or_path",
    "architectures",
    "auto_map",
    "checksums",
    "custom_pipelines",
    "dtype",
    "id2label",
    "label2id",
    "label_codes",
    "label_words",
    "torch_dtype",
    "transformers_version",
}
# Arguments of `from_pretrained` that say where a file is.
LOCATION = ("cache_dir", "local_files_only", "revision", "subfolder", "token")
FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def write_checksums(folder: str | os.PathLike, patterns: Sequence[str], with_settings: bool = False) -> None:
    """
    Renew the checksums in a folder's `config.json`; without that file nothing is written.

    Args:
        folder: A checkpoint that has just been saved.
        patterns: Names of the files whose checksums are renewed. Those of other files are kept.
        with_settings: Renew the checksum of the fields of `config.json` too.
    """
    path = Path(folder, CONFIG_NAME)
    if not path.is_file():
        return
    settings = json.loads(path.read_text(encoding="utf-8"))
    checksums = settings.get("checksums")
    if checksums is None and not with_settings:  # a model that an earlier version has saved
        return
    kept = {name: digest for name, digest in (checksums or {}).get("files", {}).items() if Path(folder, name).is_file()}
    files = sorted({file for pattern in patterns for file in Path(folder).glob(pattern) if file.is_file()})
    settings["checksums"] = {
        "files": {**kept, **{file.name: _digest_of_file(file) for file in files}},
        "settings": _digest_of_settings(settings) if checksums is None or with_settings else checksums["settings"],
    }
    # A process that is killed here leaves the old file or the new one.
    temporary = path.with_name(f".{CONFIG_NAME}.{os.getpid()}")
    temporary.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def changed_files(checkpoint: str | os.PathLike, location: dict) -> list[str]:
    """
    One sentence for each file of a checkpoint that is missing, or is not the one that was saved.

    Args:
        checkpoint: Folder, or name on the Hub. A file that the Hub does not give just now is left out.
        location: Arguments of `from_pretrained`, of which those that say where the files are are used.
    """
    location = {name: location[name] for name in LOCATION if location.get(name) is not None}
    local = os.path.isdir(checkpoint)

    def find(name: str) -> str | None:
        return cached_file(
            checkpoint,
            name,
            **location,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )

    path = find(CONFIG_NAME)
    settings = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    checksums = settings.get("checksums")
    if checksums is None:
        return []
    try:
        files, digest = dict(checksums["files"]), checksums["settings"]
    except (KeyError, TypeError, ValueError):
        return [f"the list of checksums in {CONFIG_NAME} cannot be read"]
    changed = [] if digest == _digest_of_settings(settings) else [f"{CONFIG_NAME} was changed after it was saved"]
    for name, expected in files.items():
        path = find(name)
        if path is None:
            changed += [f"{name} is missing"] if local else []
        elif _digest_of_file(path) != expected:
            changed.append(f"{name} is not the file that was saved")
    return changed


def not_finite(model: nn.Module) -> list[str]:
    """Names of the model's parameters and buffers that contain NaN or infinity. Weights of a quantized model are skipped."""
    names = []
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        plain = type(tensor) in (torch.Tensor, nn.Parameter) and tensor.dtype in FLOATING and tensor.device.type != "meta"
        if plain and tensor.numel():
            least, greatest = tensor.detach().aminmax()  # NaN if any element is
            if not (least.isfinite() and greatest.isfinite()):
                names.append(name)
    return names


def refusal(damage: list[str]) -> str:
    """What is wrong with a checkpoint, and what to do, as one sentence."""
    return (
        f"this checkpoint is not whole, so its answers would mean nothing: {'; '.join(damage)}. Get it again from where it "
        "was made. If somebody changed it on purpose, load model and processor and save both again"
    )


def _digest_of_file(path: str | os.PathLike) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of_settings(settings: dict) -> str:
    """SHA-256 of the fields of a configuration, in their towers' too, that change answers."""

    def answering(value):
        return {key: answering(value[key]) for key in value if key not in FREE_FIELDS} if isinstance(value, dict) else value

    return hashlib.sha256(json.dumps(answering(settings), sort_keys=True).encode()).hexdigest()
