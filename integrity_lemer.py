"""Whether a checkpoint is whole: the list of its files' checksums, and the search for weights that are not numbers.

`config.json` of a saved checkpoint has a field `checksums`: the SHA-256 of every file that answers depend on (weights,
tokenizer, settings of the processor), and of its own fields. Model and processor write it when they are saved, and the model
compares it when it is loaded. A checkpoint without that field, saved by an earlier version, is not compared.

This file travels with every checkpoint.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
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
# Arguments of `save_pretrained` that are those of `push_to_hub`.
HUB_ARGUMENTS = ("repo_id", "commit_message", "private", "create_pr", "revision", "token")
FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Unreadable(ValueError):
    """A checkpoint cannot be opened. The message names the file and the cause."""


@contextmanager
def opening(
    checkpoint: str | os.PathLike | None, location: dict | None = None, files: str = "one of its files"
) -> Iterator[None]:
    """
    Within the block a checkpoint is opened. Whatever goes wrong there becomes an error that names file and cause.

    Args:
        checkpoint: Folder, or name on the Hub.
        location: Arguments of `from_pretrained`, of which those that say where the files are are used.
        files: What is read within the block, in words.

    Raises:
        Unreadable: a file of the checkpoint is damaged, or says what cannot be used.
        OSError: there is no such checkpoint or no connection; the error of before.
    """
    try:
        yield
    except (Unreadable, ImportError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        damaged = [] if checkpoint is None else unreadable_files(checkpoint, location or {})
        if damaged:
            raise Unreadable(
                f"{checkpoint} cannot be opened: {'; '.join(damaged)}. Get it again from where it was made"
            ) from error
        # A wrong argument of the caller is no matter of the checkpoint.
        if isinstance(error, OSError) or checkpoint is None or "unexpected keyword" in str(error):
            raise
        reason = _reason(error)
        if type(error) is not ValueError:
            files = CONFIG_NAME if isinstance(error, StrictDataclassError) else files
            reason = f"{files} cannot be used: {reason}"
        raise Unreadable(reason if str(checkpoint) in reason else f"{checkpoint} cannot be opened: {reason}") from error


def _reason(error: Exception) -> str:
    """
    What an error says, on one line.

    That of `pipeline` has whole tracebacks in it, of which the last line alone says what is wrong.
    """
    last = re.findall(r"^[\w.]+(?:Error|Unreadable|Exception): .+", str(error), re.M)
    text = " ".join((last[-1] if last else str(error)).split())
    text = re.sub(r"^[\w.]*(?:Unreadable|ValueError|OSError): ", "", text)
    return text if last or type(error) is ValueError else f"{type(error).__name__}: {text}"


def unreadable_files(checkpoint: str | os.PathLike, location: dict) -> list[str]:
    """One sentence for each file of a checkpoint on this machine that cannot be read, or is not the one that was saved."""
    here = {name: location[name] for name in LOCATION if location.get(name) is not None} | {"local_files_only": True}
    quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    try:
        path = cached_file(checkpoint, CONFIG_NAME, **here, **quiet)
    except (OSError, ValueError):  # no such checkpoint
        path = None
    if path is None:
        return [f"{CONFIG_NAME} is missing"] if os.path.isdir(checkpoint) else []
    folder, sentences = Path(path).parent, []
    for file in sorted(
        {file for pattern in (CONFIG_NAME, *WEIGHT_FILES, *PROCESSOR_FILES) for file in folder.glob(pattern)}
    ):
        try:
            if file.suffix == ".json" and not isinstance(json.loads(file.read_text(encoding="utf-8")), dict):
                sentences.append(f"{file.name} holds no JSON object")
            elif file.suffix == ".safetensors":
                with safe_open(file, "pt"):
                    pass
        except (OSError, ValueError, SafetensorError, RecursionError) as error:
            sentences.append(f"{file.name} cannot be read: {error}")
    return sentences or changed_files(checkpoint, here)


def write_checksums(
    folder: str | os.PathLike,
    patterns: Sequence[str],
    damage: Sequence[str] = (),
    with_settings: bool = False,
    weights_elsewhere: bool = False,
) -> None:
    """
    Renew the checksums in a folder's `config.json`; without that file nothing is written.

    Args:
        folder: A checkpoint that has just been saved.
        patterns: Names of the files whose checksums are renewed. Those of other files are kept.
        damage: What was wrong with the checkpoint that these files were loaded from. It is written down, since saving again
            makes nothing whole.
        with_settings: Renew the checksum of the fields of `config.json` too, and forget what damage was written down.
        weights_elsewhere: Keep the checksums of files that are not in the folder.
    """
    path = Path(folder, CONFIG_NAME)
    if not path.is_file():
        return
    settings = json.loads(path.read_text(encoding="utf-8"))
    checksums = settings.get("checksums")
    if checksums is None and not with_settings:  # a model that an earlier version has saved
        return
    kept = {
        name: digest
        for name, digest in (checksums or {}).get("files", {}).items()
        if weights_elsewhere or Path(folder, name).is_file()
    }
    files = sorted({file for pattern in patterns for file in Path(folder).glob(pattern) if file.is_file()})
    before = [] if checksums is None or with_settings else checksums.get("damage", [])
    settings["checksums"] = {
        "files": {**kept, **{file.name: _digest_of_file(file) for file in files}},
        "settings": _digest_of_settings(settings) if checksums is None or with_settings else checksums["settings"],
    }
    if damage or before:
        settings["checksums"]["damage"] = list(dict.fromkeys([*before, *damage]))
    # A process that is killed here leaves the old file or the new one.
    temporary = path.with_name(f".{CONFIG_NAME}.{os.getpid()}")
    temporary.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for file in files:  # safetensors lets nobody but the owner read what it writes, whatever the umask says
        os.chmod(file, file.stat().st_mode | temporary.stat().st_mode)
    os.replace(temporary, path)


def changed_files(checkpoint: str | os.PathLike, location: dict, patterns: Sequence[str] = (CONFIG_NAME, "*")) -> list[str]:
    """
    One sentence for each file of a checkpoint that is missing, or is not the one that was saved.

    Args:
        checkpoint: Folder, or name on the Hub. A file that the Hub does not give just now is left out.
        location: Arguments of `from_pretrained`, of which those that say where the files are are used.
        patterns: Names of the files that are compared. With the configuration's own, the damage that was written down too.
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
        files, digest, damage = dict(checksums["files"]), checksums["settings"], list(checksums.get("damage", []))
    except (AttributeError, KeyError, TypeError, ValueError):
        return [f"the list of checksums in {CONFIG_NAME} cannot be read"]
    changed = []
    if CONFIG_NAME in patterns:
        changed += [f"it was saved from one that was not whole ({sentence})" for sentence in damage]
        changed += [] if digest == _digest_of_settings(settings) else [f"{CONFIG_NAME} was changed after it was saved"]
    for name, expected in files.items():
        if not any(fnmatch(name, pattern) for pattern in patterns):
            continue
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
        "was made. If somebody changed it on purpose: load model and processor, empty their lists `damage`, and save both"
    )


def check_ready(model, processor, one_modality: bool = False) -> None:
    """
    Raise a `ValueError` where the answers of a loaded model and its processor would mean nothing.

    Args:
        one_modality: it is enough that the model can answer from one modality, such as after `set_labels`.
    """
    if getattr(model, "damage", None):
        raise ValueError(refusal(model.damage))
    modalities = ("multimodal", "speech", "text")
    if model.untrained and not (one_modality and any(model.answering_field(name) is not None for name in modalities)):
        raise ValueError(
            f"{', '.join(model.untrained)} of this checkpoint are not trained, so that its answers would be random: train "
            "it first, or check that the checkpoint is whole"
        )
    processor.check_fits(model.config)


def _digest_of_file(path: str | os.PathLike) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of_settings(settings: dict) -> str:
    """SHA-256 of the fields of a configuration, in their towers' too, that change answers."""

    def answering(value):
        return {key: answering(value[key]) for key in value if key not in FREE_FIELDS} if isinstance(value, dict) else value

    return hashlib.sha256(json.dumps(answering(settings), sort_keys=True).encode()).hexdigest()
