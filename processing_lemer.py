"""Turn recordings, words and earlier turns of a dialog into one padded batch.

This file travels with every checkpoint. Shapes: B batch, S samples, T text tokens, N samples of one clip.
"""

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from numbers import Real
from threading import Lock
from typing import TYPE_CHECKING, Any

from .versions_lemer import OLDEST_TRANSFORMERS  # noqa: F401  raises an error where transformers is too old

# isort: split
import numpy as np
from transformers import BatchFeature, ProcessorMixin
from transformers.utils import CONFIG_NAME, cached_file, logging

from .activity_lemer import heard_spans, join_spans
from .audio_lemer import SAMPLING_RATE, knows_its_rate, load_audio
from .integrity_lemer import HUB_ARGUMENTS, LOCATION, PROCESSOR_FILES, changed_files, opening, write_checksums
from .padding_lemer import (
    CLIPS,
    TOKENS,
    Options,
    as_features,
    normalised,
    pad_samples,
    read_options,
    stack,
    vector,
)

if TYPE_CHECKING:
    from .audio_files_lemer import decode  # noqa: F401  `configuration_lemer.py` says why

logger = logging.get_logger(__name__)

MAX_HISTORY = 10  # earlier turns that are used, where nobody says how many
# A fast tokenizer keeps the settings of the last call in its state, so two threads must not call one at the same time.
TOKENIZER_LOCK = Lock()


def check_text(text: str) -> None:
    """Raise a `ValueError` where a text has half a surrogate pair, which is no character and no tokenizer takes."""
    half = re.search("[\ud800-\udfff]", text)
    if half:
        raise ValueError(
            f"the text {text!r:.80} has half a surrogate pair ({half[0]!r} at position {half.start()}), which is no "
            "character: decode the text again from its source, or remove it with "
            "text.encode('utf-8', 'ignore').decode('utf-8')"
        )


def tokenize(tokenizer, *texts: list[str], **settings) -> dict[str, list[list[int]]]:
    """
    Encode texts, or pairs of texts from two lists, whole and without padding.

    Several threads may call this with the same tokenizer. A text like "[SEP]" is encoded as plain text, not as the special
    token of that name.

    Args:
        tokenizer: A tokenizer of transformers.
        texts: One list of texts, or two lists of the same length for pairs.
        **settings: Further arguments of the tokenizer.
    """
    with TOKENIZER_LOCK:
        return dict(tokenizer(*texts, split_special_tokens=True, verbose=False, **settings))


def encode(tokenizer, *texts: list[str], limit: int) -> list[dict[str, list[int]]]:
    """
    Encode texts with special tokens and cut each to a number of tokens.

    A single text is cut at its end. Of a pair, the first text is cut at its beginning and the second one stays whole.
    Tokenizers can cut by themselves, but they keep the side in their state, and they encode all that is cut off as further
    pieces, which takes time with the square of a long text's length.

    Args:
        tokenizer: A tokenizer of transformers.
        texts: One list of texts, or two lists of the same length for pairs.
        limit: Tokens that an encoded text or pair may have, special tokens counted.

    Returns:
        For every text or pair the inputs of a text tower by their names, and `special_tokens_mask`, 1 at special tokens.
    """
    encoded = tokenize(tokenizer, *texts, return_special_tokens_mask=True)
    rows = []
    for index, special_mask in enumerate(encoded["special_tokens_mask"]):
        row = {name: values[index] for name, values in encoded.items()}
        excess = len(special_mask) - limit
        if excess > 0:
            words = [position for position, special in enumerate(special_mask) if not special]
            cut = set(words[:excess] if len(texts) == 2 else words[-excess:])
            kept = [position for position in range(len(special_mask)) if position not in cut]
            row = {name: [values[position] for position in kept] for name, values in row.items()}
        rows.append(row)
    return rows


def newest_turns(turns: Sequence[str], count: int) -> list[str]:
    """
    The end of a history, oldest first, that holds all turns which a processor with `max_history=count` reads of it.

    It has `count` turns with a letter or digit, which are words to every tokenizer, and any other turns between them.
    """
    kept = 0
    for start in range(len(turns), 0, -1):
        if kept == count:
            return list(turns[start:])
        kept += any(map(str.isalnum, turns[start - 1]))
    return list(turns) if count else []


class LemerProcessor(ProcessorMixin):
    r"""
    Processor of both models: resamples and normalises speech, and puts the earlier turns before the current one.

    Speech becomes mono samples at 16 kHz, normalised per utterance. Text becomes the tokens of section 3.1 of the paper:
    `[CLS]`, the earlier turns from the oldest to the newest, `[SEP]`, the current turn, `[SEP]`. Without earlier turns they
    are `[CLS]`, the current turn, `[SEP]`. Several threads may use one processor.

    Args:
        feature_extractor: The speech tower's `Wav2Vec2FeatureExtractor`.
        tokenizer: The text tower's tokenizer.
        max_history (`int`, defaults to 10): Number of earlier turns that are used, the newest ones. 0 uses none.
        max_text_length (`int`, defaults to 150):
            Tokens that a text may have, special tokens counted. The history is cut first, from its oldest token on. The
            current turn is cut only if it is too long without any history, and then at its end.
        max_audio_seconds (`float`, defaults to 120):
            Length of the longest clip that is taken. The memory that the speech tower needs grows with its square.
        max_silence (`float`, *optional*):
            Seconds that are left of a silence, and half of it at the ends of a clip; nothing is left of even noise and of
            zeros. `activity_lemer.py` says what a silence is. `None` leaves silences as they are, as in checkpoints that
            were saved without this setting.
    """

    def __init__(
        self,
        feature_extractor=None,
        tokenizer=None,
        max_history: int = MAX_HISTORY,
        max_text_length: int = 150,
        max_audio_seconds: float = 120.0,
        max_silence: float | None = None,
        **kwargs,
    ):
        if max_history < 0:
            raise ValueError(f"max_history must be at least 0, got {max_history}")
        if max_text_length < 4:
            raise ValueError(f"max_text_length must be at least 4 (three special tokens and a word), got {max_text_length}")
        if not max_audio_seconds > 0:
            raise ValueError(f"max_audio_seconds must be above 0, got {max_audio_seconds}")
        self.damage: list[str] = []
        if max_silence is not None and not max_silence >= 0:
            raise ValueError(f"max_silence must be a number of seconds of at least 0, or None, got {max_silence}")
        self.max_audio_seconds = max_audio_seconds
        self.max_silence = max_silence
        self.max_history = max_history
        self.max_text_length = max_text_length
        super().__init__(feature_extractor, tokenizer, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        try:
            with opening(pretrained_model_name_or_path, kwargs, "processor_config.json or its tokenizer"):
                processor = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
                here = {**kwargs, "local_files_only": True}  # the files were loaded just now
                processor.damage = changed_files(pretrained_model_name_or_path, here, PROCESSOR_FILES)
        except (OSError, ValueError) as error:
            missing = _missing_files(pretrained_model_name_or_path, kwargs)
            if not missing:
                raise
            raise OSError(
                f"{pretrained_model_name_or_path} has a model and no whole processor: {' and '.join(missing)} is missing. "
                "Trainer saves the processor only where it is given as processing_class. Save the one that the training "
                "used beside the model: AutoProcessor.from_pretrained('the checkpoint that the training started from', "
                f"trust_remote_code=True).save_pretrained('{pretrained_model_name_or_path}')"
            ) from error
        return processor

    def save_pretrained(self, save_directory, push_to_hub: bool = False, **kwargs):
        """As in transformers; the `config.json` of a model in the folder gets the new files' checksums."""
        hub = {name: kwargs.pop(name) for name in HUB_ARGUMENTS if push_to_hub and name in kwargs}
        files = super().save_pretrained(save_directory, **kwargs)
        write_checksums(save_directory, PROCESSOR_FILES, self.damage)
        if push_to_hub:
            self.push_to_hub(**{"repo_id": os.path.basename(os.path.abspath(save_directory)), **hub})
        return files

    def _upload_modified_files(self, working_dir, repo_id, *args, **kwargs):
        """As in transformers; the `config.json` of a model in the repository gets the new checksums, in the same commit."""
        location = {name: kwargs[name] for name in ("token", "revision") if kwargs.get(name) is not None}
        config = cached_file(repo_id, CONFIG_NAME, _raise_exceptions_for_missing_entries=False, **location)
        if config is not None:
            shutil.copyfile(config, os.path.join(working_dir, CONFIG_NAME))
            write_checksums(working_dir, PROCESSOR_FILES, self.damage, weights_elsewhere=True)
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)

    def check_fits(self, config) -> None:
        """
        Check that a model of this configuration can have been trained with this processor.

        Raises:
            ValueError: the processor has another sampling rate, its tokenizer has more tokens than the text tower, no
                padding token, or no token types where the model needs them, or its texts are longer than the text tower
                has positions.
        """
        rate = self.feature_extractor.sampling_rate
        if config.uses_speech and rate != SAMPLING_RATE:
            raise ValueError(
                f"the processor gives {rate} Hz, and the speech tower takes {SAMPLING_RATE} Hz: use the processor that was "
                "saved with the model"
            )
        if not config.uses_text:
            return
        known, tokens = config.text_config.vocab_size, len(self.tokenizer)
        if tokens > known:
            raise ValueError(
                f"the processor's tokenizer has {tokens} tokens and the model's text tower knows {known}: they belong to "
                "different checkpoints"
            )
        if self.tokenizer.pad_token is None:
            raise ValueError(
                "the processor's tokenizer has no padding token: its tokenizer_config.json is missing, or it belongs to "
                "another checkpoint"
            )
        if tokens < known / 2:  # without tokenizer.json, transformers makes a tokenizer of the special tokens alone
            raise ValueError(
                f"the processor's tokenizer has only {tokens} tokens and the model's text tower knows {known}: files of the "
                "tokenizer are missing, or it belongs to another checkpoint"
            )
        if getattr(config, "pooled_tokens", "all") == "current" and "token_type_ids" not in self.tokenizer.model_input_names:
            raise ValueError(
                'pooled_tokens="current" needs token_type_ids to find the current turn, and the tokenizer '
                f'{type(self.tokenizer).__name__} gives none: use pooled_tokens="all", or a text tower with token types'
            )
        positions = getattr(config.text_config, "max_position_embeddings", self.max_text_length)
        if self.max_text_length > positions:
            raise ValueError(
                f"the processor's max_text_length is {self.max_text_length}, and the text tower has {positions} positions: "
                "lower it"
            )

    @property
    def model_input_names(self) -> list[str]:
        # Both parts call their mask attention_mask; the model has one of each.
        return ["input_values", "input_values_mask", *self.tokenizer.model_input_names]

    def __call__(self, audio: Any = None, text: Any = None, history: Any = None, **kwargs) -> BatchFeature:
        r"""
        Process one utterance or several into one padded batch.

        Args:
            audio: One clip in any form that `load_audio` takes, or a list of clips. An array is always one clip.
            text (`str` or `list[str]`): The current turn of every utterance. An empty text becomes its special tokens alone.
            history (`list[str]` or `list[list[str]]`):
                Earlier turns of the dialog, oldest first. Tuples, arrays and columns of strings are taken as lists are.
                Turns that are `None` or of which the tokenizer leaves nothing are left out.
            sampling_rate (`int`): Rate in Hz of clips that are arrays or lists of samples.
            return_tensors (`str`): `"pt"` or `"np"`. Without it, the batch has lists.
            padding (`bool` or `str`, defaults to `True`):
                `True` or `"longest"` pads to the longest utterance of the batch. `"max_length"` pads texts to `max_length`
                tokens, without it to the processor's `max_text_length`. `False` pads nothing: [`LemerProcessor.pad`] or
                `DataCollatorWithPadding(processor)` can do it later. The answers are the same with any padding.
            max_length (`int`): Tokens that a text may have in this call, at most the processor's `max_text_length`. It is
                cut as there.
            truncation: `True`, which changes nothing: texts are always cut.
            pad_to_multiple_of (`int`):
                Number of samples of which the padded length is a multiple. The answers stay the same, and a GPU, which plans
                its convolutions for every length anew, meets fewer lengths. The scripts use `GPU_MULTIPLE` on a GPU.
            audio_kwargs (`dict`): The same options for clips, counted in samples: `{"padding": "max_length", "max_length":
                160_000}` pads clips to ten seconds, and `"truncation": True` beside it cuts longer ones there.
            text_kwargs (`dict`): The same options for texts, counted in tokens.

        Returns:
            `BatchFeature` with `input_values` and `input_values_mask` (B, S) for audio, and with `input_ids`,
            `attention_mask` and, for BERT, `token_type_ids` (B, T) for text. A mask is 1 at real samples and tokens.

        Raises:
            TypeError: there is no such option.
            ValueError: the numbers of clips, texts and histories differ, or one of them is not of a form named here.
        """
        clips = None if audio is None else _as_batch_of_clips(audio)
        texts, histories = _as_batch_of_texts(text, history)
        if clips is None and texts is None:
            raise ValueError("got neither audio nor text: give at least one")
        if clips is not None and texts is not None and len(clips) != len(texts):
            raise ValueError(f"got {len(clips)} clips and {len(texts)} texts: give one of each for every utterance")
        of_clips, of_texts = read_options(kwargs, clips is not None, texts is not None)
        data = {}
        if clips is not None:
            data.update(self._process_clips(clips, of_clips))
        if texts is not None:
            data.update(self._process_texts(texts, histories, of_texts))
        return _as_batch(data, of_clips.return_tensors or of_texts.return_tensors)

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        r"""
        Pad rows that were processed before, one by one or with `padding=False`, into one batch.

        `DataCollatorWithPadding(processor)` calls this.

        Args:
            encoded_inputs: A list of rows, or a dict of columns. A row has what the processor returned for it, with or
                without masks. Other numbers, such as `labels`, are put into the batch as they are.
            padding, max_length, pad_to_multiple_of, return_tensors: As in a call.

        Raises:
            ValueError: the rows do not have the same columns, or one of them is no column of numbers.
        """
        options = Options(padding, max_length, pad_to_multiple_of=pad_to_multiple_of)
        rows = as_features(encoded_inputs)
        data: dict[str, Any] = {
            name: stack([row[name] for row in rows], name) for name in rows[0] if name not in CLIPS + TOKENS
        }
        if "input_values" in rows[0]:
            clips = [vector(row["input_values"], "input_values") for row in rows]
            masks = [
                vector(row.get("input_values_mask", np.ones(len(clip))), "input_values_mask")
                for row, clip in zip(rows, clips, strict=True)
            ]
            clips = [clip[mask.astype(bool)] for clip, mask in zip(clips, masks, strict=True)]
            data.update(self._pad_clips(clips, options))
        if "input_ids" in rows[0]:
            tokens = [{name: vector(row[name], name).tolist() for name in TOKENS if name in row} for row in rows]
            data.update(self._pad_tokens(tokens, options))
        return _as_batch(data, return_tensors)

    def _process_clips(self, clips: list, options: Options) -> dict:
        rate, sampling_rate = self.feature_extractor.sampling_rate, options.sampling_rate
        samples = []
        for index, clip in enumerate(clips):
            if sampling_rate is None and not knows_its_rate(clip):
                logger.warning_once(
                    f"LemerProcessor got samples without sampling_rate and takes them as {rate} Hz: pass sampling_rate"
                )
            try:
                samples.append(load_audio(clip, sampling_rate, rate, self.max_audio_seconds))
            except ValueError as error:
                raise ValueError(f"audio {index} of {len(clips)}: {error}") from error
            seconds = len(samples[-1]) / rate
            if seconds > self.max_audio_seconds:
                raise ValueError(
                    f"audio {index} of {len(clips)} has {seconds:.1f} s, above max_audio_seconds={self.max_audio_seconds:g}"
                    ": cut it into utterances, or raise the processor's limit"
                )
        samples = [join_spans(clip, self.heard_spans(clip)) for clip in samples]
        if options.truncation and options.max_length:
            samples = [clip[: options.max_length] for clip in samples]
        return self._pad_clips(normalised(self.feature_extractor, samples), options)

    def _pad_clips(self, clips: list[np.ndarray], options: Options) -> dict:
        """Normalised clips (N,) -> `input_values` and `input_values_mask`, lists of rows where nothing is padded."""
        if options.padding is None:
            return {"input_values": list(clips), "input_values_mask": [np.ones(len(clip), np.int64) for clip in clips]}
        least = options.max_length if options.padding == "max_length" else 0
        return pad_samples(clips, self.feature_extractor.padding_value, options.pad_to_multiple_of, least or 0)

    def heard_spans(self, samples: np.ndarray) -> list[tuple[int, int]]:
        """First sample and the one after the last of every part of a clip (N,) that is left where `max_silence` cuts it."""
        if self.max_silence is None:
            return [(0, len(samples))]
        return heard_spans(samples, self.feature_extractor.sampling_rate, self.max_silence)

    def has_words(self, text: str) -> bool:
        """Whether the tokenizer leaves a token of a text; of zero-width and control characters alone BERT's leaves none."""
        if any(character.isalnum() for character in text):  # no tokenizer drops a letter or a digit, and this is much faster
            return True
        return len(tokenize(self.tokenizer, [text], add_special_tokens=False)["input_ids"][0]) > 0

    def _process_texts(self, texts: list[str], histories: list[list[str]], options: Options) -> dict:
        """Encode every text behind the turns of its history, as many as there is room for, and pad the rows, (B, T)."""
        tokenizer = self.tokenizer
        limit = min(self.max_text_length, tokenizer.model_max_length, options.max_length or self.max_text_length)
        # The tokens that the current turn leaves of the limit are for the history. It is left out if that is not even one.
        room = limit - tokenizer.num_special_tokens_to_add(pair=True)
        lengths = [len(tokens) for tokens in tokenize(tokenizer, texts, add_special_tokens=False)["input_ids"]]
        spoken = []
        for turns in histories:
            newest = []
            for turn in reversed(turns):
                if len(newest) == self.max_history:
                    break
                if turn.strip() and self.has_words(turn):
                    newest.append(turn)
            spoken.append(" ".join(reversed(newest)))
        alone = [index for index, length in enumerate(lengths) if not spoken[index] or length >= room]
        with_history = sorted(set(range(len(texts))) - set(alone))
        rows: dict[int, dict[str, list[int]]] = {}
        if alone:
            encoded = encode(tokenizer, [texts[index] for index in alone], limit=limit)
            rows.update(zip(alone, encoded, strict=True))
        if with_history:
            pairs = [spoken[index] for index in with_history], [texts[index] for index in with_history]
            rows.update(zip(with_history, encode(tokenizer, *pairs, limit=limit), strict=True))
        for row in rows.values():
            del row["special_tokens_mask"]
        return self._pad_tokens([rows[index] for index in range(len(texts))], options)

    def _pad_tokens(self, rows: list[dict[str, list[int]]], options: Options) -> dict:
        """Encoded texts -> a batch (B, T), lists of rows where nothing is padded."""
        if options.padding is None:
            return {name: [row[name] for row in rows] for name in rows[0]}
        padding, length = options.padding, options.max_length or self.max_text_length
        loaded = self.tokenizer.init_kwargs  # as transformers' processors do, one that was loaded to pad so does it here too
        if loaded.get("padding") == "max_length" and options.max_length is None:
            padding, length = "max_length", loaded.get("max_length") or length
        most = self.tokenizer.model_max_length
        if padding == "max_length" and length > most:
            raise ValueError(f"max_length={length} is above the {most} tokens that the tokenizer is for: lower it")
        return dict(
            self.tokenizer.pad(
                rows,
                padding=padding,
                max_length=length if padding == "max_length" else None,
                pad_to_multiple_of=options.pad_to_multiple_of,
                return_tensors="np",
            )
        )


def _missing_files(checkpoint, location: dict) -> list[str]:
    """Which files of a processor a checkpoint that has a model lacks; none where it has no model."""
    location = {name: location[name] for name in LOCATION if location.get(name) is not None}

    def has(*names: str) -> bool:
        quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
        try:
            return any(cached_file(checkpoint, name, **location, **quiet) is not None for name in names)
        except OSError:  # there is no such checkpoint
            return False

    if not has(CONFIG_NAME):
        return []
    settings, tokenizer = ("processor_config.json", "preprocessor_config.json"), ("tokenizer.json", "tokenizer_config.json")
    return [files[0] for files in (settings, tokenizer) if not has(*files)]


def _as_batch(data: dict, return_tensors: str | None) -> BatchFeature:
    """Columns as tensors, or as lists where none are asked for."""
    ragged = [name for name, rows in data.items() if isinstance(rows, list) and len({len(row) for row in rows}) > 1]
    if ragged and return_tensors is not None:
        raise ValueError(
            f"padding=False leaves rows of different lengths ({', '.join(ragged)}), which are no tensor: give padding=True, "
            "or no return_tensors"
        )
    if return_tensors is None:
        data = {name: [row.tolist() if hasattr(row, "tolist") else row for row in rows] for name, rows in data.items()}
    else:
        data = {name: np.asarray(rows) for name, rows in data.items()}
    return BatchFeature(data, tensor_type=return_tensors)


def _as_batch_of_clips(audio) -> list:
    """The clips of a batch from one clip or a list of clips; a list of numbers is one clip."""
    if isinstance(audio, (list, tuple)) and not (audio and isinstance(audio[0], Real)):
        if not audio:
            raise ValueError("got an empty list of audio")
        if any(clip is None for clip in audio):
            raise ValueError("some utterances of the batch have audio and some have none: process them separately")
        return list(audio)
    return [audio]


def _as_list(values) -> list | None:
    """The items of a list, tuple, array or column; `None` for a text, a dict or what has no items."""
    scalar = isinstance(values, (str, bytes, dict)) or not isinstance(values, Iterable)
    return None if scalar or getattr(values, "ndim", 1) == 0 else list(values)


def _as_batch_of_texts(text, history) -> tuple[list[str] | None, list[list[str]]]:
    """The texts of a batch, `None` where there are none, and the earlier turns of each text, checked."""
    texts = [text] if isinstance(text, str) else _as_list(text)
    if text is None or (texts and all(value is None for value in texts)):
        if history is not None and _as_list(history) != []:
            raise ValueError("got history without the current text: history only goes before a text")
        return None, []
    if not texts or not all(isinstance(value, str) for value in texts):
        raise ValueError(
            f"text must be a string or a list of strings, got {text!r:.80}; where only some utterances of a batch have "
            "words, process them separately"
        )
    histories: list = [history] if isinstance(text, str) else [None] * len(texts)
    if not isinstance(text, str) and history is not None:
        histories = _as_list(history) or histories
    if len(histories) != len(texts):
        raise ValueError(f"got {len(texts)} texts and {len(histories)} histories: give one list of turns for each text")
    checked = []
    for given in histories:
        turns = [] if given is None else _as_list(given)
        if turns is None or not all(turn is None or isinstance(turn, str) for turn in turns):
            raise ValueError(f"history must be a list of turns for each text, each a string, got {given!r:.80}")
        checked.append([turn for turn in turns if turn is not None])
    for value in [*texts, *(turn for turns in checked for turn in turns)]:
        check_text(value)
    return texts, checked


LemerProcessor.register_for_auto_class()

__all__ = ["LemerProcessor", "check_text", "encode", "tokenize"]
