"""How rows of different lengths become one batch: the options of a processor's call, clips, and rows made before.

This file travels with every checkpoint. Shapes: B batch, S samples, T text tokens, N samples of one clip.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

# Options that may stand beside the inputs of a call, and what each is for.
FLAT = {
    "padding": ("audio", "text"),
    "return_tensors": ("audio", "text"),
    "max_length": ("text",),
    "truncation": ("text",),
    "sampling_rate": ("audio",),
    "pad_to_multiple_of": ("audio",),
}
NESTED = {
    "audio": ("padding", "return_tensors", "max_length", "truncation", "sampling_rate", "pad_to_multiple_of"),
    "text": ("padding", "return_tensors", "max_length", "truncation", "pad_to_multiple_of"),
}
PADDING = {True: "longest", "longest": "longest", "max_length": "max_length", False: None, "do_not_pad": None}
CLIPS, TOKENS = ("input_values", "input_values_mask"), ("input_ids", "attention_mask", "token_type_ids")


def nearest(name, known: Sequence[str]) -> str:
    """A hint at the known name that an unknown one is most like; empty where it is like none."""
    close = get_close_matches(str(name), known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


@dataclass
class Options:
    """
    How the clips or the texts of one call become rows.

    Attributes:
        padding: "longest" or "max_length"; None pads nothing.
        max_length: samples of a clip, tokens of a text.
        truncation: cut clips that are longer. Texts are always cut.
        pad_to_multiple_of: number of samples or tokens of which the padded length is a multiple.
        sampling_rate: of clips that are bare samples, in Hz.
        return_tensors: "pt", "np", or None for lists.
    """

    padding: Any = True
    max_length: int | None = None
    truncation: Any = None
    pad_to_multiple_of: int | None = None
    sampling_rate: float | None = None
    return_tensors: Any = None

    def __post_init__(self):
        if self.padding not in PADDING:
            raise ValueError(f"padding must be True, 'longest', 'max_length' or False, got {self.padding!r}")
        self.padding = PADDING[self.padding]
        if self.pad_to_multiple_of is not None and self.pad_to_multiple_of < 1:
            raise ValueError(
                f"pad_to_multiple_of must be a number of samples or tokens, at least 1, got {self.pad_to_multiple_of}"
            )
        if self.max_length is not None and (isinstance(self.max_length, bool) or self.max_length < 1):
            raise ValueError(f"max_length must be a number of samples or tokens, at least 1, got {self.max_length}")


def read_options(given: Mapping, has_clips: bool, has_texts: bool) -> tuple[Options, Options]:
    """
    The options of a call, in any of transformers' forms -> those for its clips and those for its texts.

    Options stand beside the inputs, or in `audio_kwargs`, `text_kwargs` and `common_kwargs`.

    Raises:
        TypeError: there is no such option.
        ValueError: an option stands in two places, or has a value that cannot be used.
    """
    given = {name: value for name, value in given.items() if value is not None}
    places = {name: given.pop(name, {}) for name in ("audio_kwargs", "text_kwargs", "common_kwargs")}
    for place, options in places.items():
        if not isinstance(options, Mapping):
            raise ValueError(f"{place} must be a dict of options, got {options!r:.80}")
    nested = {kind: dict(places[f"{kind}_kwargs"]) for kind in NESTED}
    flat = {**places["common_kwargs"], **given}
    for where, names, known in (
        ("", flat, tuple(FLAT)),
        *((f" in {kind}_kwargs", nested[kind], NESTED[kind]) for kind in NESTED),
    ):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise TypeError(
                f"LemerProcessor takes no {', '.join(map(str, unknown))}{where}: the options of a call are "
                f"{', '.join(known)}; max_history, max_text_length, max_audio_seconds and max_silence are settings of the "
                f"processor.{nearest(unknown[0], known)}"
            )
    of_tokens = [name for name in ("max_length", "truncation") if name in flat]
    of_tokens += ["padding='max_length'"] if flat.get("padding") == "max_length" else []
    if of_tokens and has_clips and not has_texts:
        raise ValueError(
            f"{', '.join(of_tokens)} counts tokens, and there is no text: for samples of clips pass "
            "audio_kwargs={'padding': 'max_length', 'max_length': samples}"
        )
    for name, value in flat.items():
        for kind in FLAT[name]:
            if name in nested[kind]:
                raise ValueError(f"{name} was given two times, beside the inputs and in {kind}_kwargs: give it once")
            if not (kind == "audio" and name == "padding" and value == "max_length"):  # that is a number of tokens
                nested[kind][name] = value
    clips, texts = Options(**nested["audio"]), Options(**nested["text"])
    if clips.padding == "max_length" and clips.max_length is None:
        raise ValueError("padding='max_length' in audio_kwargs needs 'max_length' beside it, a number of samples")
    if texts.truncation in (False, "do_not_truncate"):
        raise ValueError(
            "truncation=False is not possible: a text is always cut to the processor's max_text_length. Raise that setting"
        )
    return clips, texts


def pad_clips(
    feature_extractor, clips: list[np.ndarray], pad_to_multiple_of: int | None = None, max_length: int = 0
) -> dict[str, np.ndarray]:
    """
    Normalise clips with a feature extractor, each clip alone, and pad them on the right.

    The extractor can pad by itself, but it then copies and normalises the padding too, which takes several times as long.

    Args:
        feature_extractor: A `Wav2Vec2FeatureExtractor`.
        clips: Samples (N,) of every clip at the extractor's rate.
        pad_to_multiple_of: Number of samples of which S is a multiple.
        max_length: Number of samples that S has at least.

    Returns:
        `input_values` (B, S), and `input_values_mask` (B, S) which is 1 where a sample is real.
    """
    return pad_samples(normalised(feature_extractor, clips), feature_extractor.padding_value, pad_to_multiple_of, max_length)


def normalised(feature_extractor, clips: list[np.ndarray]) -> list[np.ndarray]:
    """Clips (N,) as the feature extractor gives them, without padding."""
    rate = feature_extractor.sampling_rate
    return feature_extractor(clips, sampling_rate=rate, padding=False, return_attention_mask=False)["input_values"]


def pad_samples(
    rows: Sequence[np.ndarray], value: float, pad_to_multiple_of: int | None = None, max_length: int = 0
) -> dict[str, np.ndarray]:
    """As `pad_clips`, of clips (N,) that are normalised already; padding has this value."""
    multiple = pad_to_multiple_of or 1
    shape = (len(rows), -(-max(max_length, *map(len, rows)) // multiple) * multiple)
    # Masks are of the type of the tokenizer's, so that an ONNX file takes the whole batch as it is.
    values, mask = np.full(shape, value, dtype=np.float32), np.zeros(shape, dtype=np.int64)
    for row, clip in enumerate(rows):
        values[row, : len(clip)], mask[row, : len(clip)] = clip, 1
    return {"input_values": values, "input_values_mask": mask}


def as_features(encoded) -> list[dict]:
    """Rows from a list of dicts, or from a dict of columns; a row that is a batch of one itself becomes that row."""
    if isinstance(encoded, Mapping):
        columns = dict(encoded)
        lengths = {len(values) for values in columns.values()}
        if len(lengths) != 1:
            raise ValueError(f"the columns to pad must have one number of rows, got {sorted(lengths)}")
        return [{name: values[row] for name, values in columns.items()} for row in range(lengths.pop())]
    features = [dict(row) for row in encoded]
    if not features:
        raise ValueError("got no rows to pad")
    for number, row in enumerate(features):
        if set(row) != set(features[0]):
            missing = sorted(set(row) ^ set(features[0]))
            raise ValueError(f"row {number} to pad and row 0 do not both have {', '.join(missing)}: pad them separately")
    return features


def vector(values, name: str) -> np.ndarray:
    """The values (N,) of a row, of which `map` over single utterances has made (1, N)."""
    row = np.asarray(values)
    row = row[0] if row.ndim == 2 and len(row) == 1 else row
    if row.ndim != 1 or not len(row):
        raise ValueError(f"{name} of a row to pad must be a list of numbers, got shape {row.shape}")
    return row


def stack(rows: list, name: str) -> np.ndarray:
    """A column of numbers of equal shape, such as labels, as one array."""
    try:
        column = np.asarray(rows)
    except ValueError:  # of different lengths
        column = np.asarray([None])
    if column.dtype.kind not in "biuf":
        raise ValueError(f"the column {name} cannot be put into a batch, got {rows[0]!r:.80}: remove it before")
    return column


__all__ = ["Options", "nearest", "pad_clips", "pad_samples", "read_options"]
