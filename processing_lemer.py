"""Speech, words and earlier turns -> one padded batch.

This file travels with every checkpoint.
"""

import os
from collections.abc import Sequence
from numbers import Real

import numpy as np
from transformers import BatchFeature, ProcessorMixin
from transformers.utils import logging

from .audio_lemer import SAMPLING_RATE, load_audio
from .integrity_lemer import PROCESSOR_FILES, write_checksums

logger = logging.get_logger(__name__)


def pad_clips(feature_extractor, clips: list[np.ndarray], pad_to_multiple_of: int | None = None) -> dict[str, np.ndarray]:
    """
    Clips (N,) at the extractor's rate -> what it makes of them, padded on the right: `input_values` (B, S) and
    `input_values_mask` (B, S), with S a multiple of `pad_to_multiple_of`.

    It normalises each clip alone. By itself it would copy and normalise the padding too, which takes several times as long.
    """
    rate = feature_extractor.sampling_rate
    clips = feature_extractor(clips, sampling_rate=rate, padding=False, return_attention_mask=False)["input_values"]
    multiple = pad_to_multiple_of or 1
    shape = (len(clips), -(-max(map(len, clips)) // multiple) * multiple)
    values, mask = np.full(shape, feature_extractor.padding_value, dtype=np.float32), np.zeros(shape, dtype=np.int32)
    for row, clip in enumerate(clips):
        values[row, : len(clip)], mask[row, : len(clip)] = clip, 1
    return {"input_values": values, "input_values_mask": mask}


class LemerProcessor(ProcessorMixin):
    r"""
    Brings speech to 16 kHz mono, normalised per utterance, and splices the earlier turns before the current one (paper,
    section 3.1): `[CLS] oldest ... newest [SEP] current [SEP]`, or `[CLS] current [SEP]` where there are none.

    Args:
        feature_extractor: The speech tower's `Wav2Vec2FeatureExtractor`.
        tokenizer: The text tower's tokenizer.
        max_history (`int`, defaults to 10): Number of earlier turns spliced in, the newest ones; 0 for none.
        max_text_length (`int`, defaults to 150):
            Tokens a text may have, special ones counted. The oldest history is cut first, token by token; only a current
            utterance that is longer by itself is cut, at its end.
        max_audio_seconds (`float`, defaults to 120):
            Longest clip taken. The speech tower's memory grows with the square of it, and an utterance is not that long.
    """

    def __init__(
        self,
        feature_extractor=None,
        tokenizer=None,
        max_history: int = 10,
        max_text_length: int = 150,
        max_audio_seconds: float = 120.0,
        **kwargs,
    ):
        if max_history < 0:
            raise ValueError(f"max_history must be at least 0, got {max_history}")
        if max_text_length < 4:
            raise ValueError(f"max_text_length must be at least 4 (three special tokens and a word), got {max_text_length}")
        if not max_audio_seconds > 0:
            raise ValueError(f"max_audio_seconds must be above 0, got {max_audio_seconds}")
        self.max_audio_seconds = max_audio_seconds
        self.max_history = max_history
        self.max_text_length = max_text_length
        super().__init__(feature_extractor, tokenizer, **kwargs)

    def save_pretrained(self, save_directory, push_to_hub: bool = False, **kwargs):
        """As in transformers; the `config.json` of a model in the folder gets the new files' checksums."""
        files = super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        write_checksums(save_directory, PROCESSOR_FILES)
        return files

    def check_fits(self, config) -> None:
        """
        Raise a `ValueError` if a model of this configuration cannot have been trained with this processor: another sampling
        rate, more tokens than the text tower knows, or longer texts than it has positions for.
        """
        rate = self.feature_extractor.sampling_rate
        if config.uses_speech and rate != SAMPLING_RATE:
            raise ValueError(f"the processor gives {rate} Hz, and speech towers hear {SAMPLING_RATE}: use the model's own")
        if not config.uses_text:
            return
        known, tokens = config.text_config.vocab_size, len(self.tokenizer)
        if tokens > known:
            raise ValueError(
                f"the processor's tokenizer has {tokens} tokens and the model's text tower knows {known}: they belong to "
                "different checkpoints"
            )
        if tokens < known / 2:  # without tokenizer.json, transformers makes a tokenizer of the special tokens alone
            raise ValueError(
                f"the processor's tokenizer has only {tokens} tokens and the model's text tower knows {known}: files of the "
                "tokenizer are missing, or it belongs to another checkpoint"
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

    def __call__(
        self,
        audio=None,
        text=None,
        history=None,
        sampling_rate=None,
        return_tensors=None,
        padding=None,
        pad_to_multiple_of=None,
        **kwargs,
    ):
        r"""
        One utterance or a batch of them -> one padded batch.

        Args:
            audio: One clip in any form of [`load_audio`], or a list of them. A bare array is always one clip.
            text (`str` or `list[str]`): The current utterance.
            history (`list[str]` or `list[list[str]]`): Earlier turns of the dialog, oldest first.
            sampling_rate (`int`): Rate of bare samples in Hz, for all of them.
            return_tensors (`str`): `"pt"` or `"np"`; without it, lists.
            padding: `True` or `"longest"` may be said; a batch is padded to its longest in any case.
            pad_to_multiple_of (`int`):
                Number of samples to a multiple of which a batch is padded. Answers stay the same; a GPU, which plans its
                convolutions anew for every length, meets fewer lengths. The scripts pad to `GPU_MULTIPLE` there.

        Returns:
            `BatchFeature` with `input_values` and `input_values_mask` (B, S) where there is audio, `input_ids`,
            `attention_mask` and, for BERT, `token_type_ids` (B, T) where there is text. A mask is 1 where it is real.

        Raises:
            ValueError: counts of clips and texts differ, or anything else that would change the answer silently.
        """
        if padding not in (None, True, "longest"):
            raise ValueError(f"padding={padding!r}: a batch is always padded to its longest, padding=True")
        if pad_to_multiple_of is not None and pad_to_multiple_of < 1:
            raise ValueError(f"pad_to_multiple_of must be a number of samples, at least 1, got {pad_to_multiple_of}")
        if kwargs:
            raise TypeError(
                f"LemerProcessor takes no {', '.join(sorted(kwargs))}: max_history, max_text_length and "
                "max_audio_seconds are settings of the processor"
            )
        clips = None if audio is None else self._as_batch_of_clips(audio)
        texts, histories = self._as_batch_of_texts(text, history)
        if clips is None and texts is None:
            raise ValueError("got neither audio nor text: give at least one")
        if clips is not None and texts is not None and len(clips) != len(texts):
            raise ValueError(f"got {len(clips)} clips and {len(texts)} texts: give one of each for every utterance")
        data = {}
        if clips is not None:
            data.update(self._process_clips(clips, sampling_rate, pad_to_multiple_of))
        if texts is not None:
            data.update(self._process_texts(texts, histories))
        if return_tensors is None:
            data = {name: values.tolist() for name, values in data.items()}
        return BatchFeature(data, tensor_type=return_tensors)

    @staticmethod
    def _as_batch_of_clips(audio) -> list:
        if isinstance(audio, (list, tuple)) and not (audio and isinstance(audio[0], Real)):
            if not audio:
                raise ValueError("got an empty list of audio")
            if any(clip is None for clip in audio):
                raise ValueError("some utterances of the batch have audio and some have none: process them separately")
            return list(audio)
        return [audio]

    def _as_batch_of_texts(self, text, history) -> tuple[list[str] | None, list[list[str]] | None]:
        if text is None or (isinstance(text, (list, tuple)) and text and all(one is None for one in text)):
            if history:
                raise ValueError("got history without the current text: history only goes before a text")
            return None, None
        single = isinstance(text, str)
        texts = [text] if single else text
        if not isinstance(texts, Sequence) or not len(texts) or not all(isinstance(one, str) for one in texts):
            raise ValueError(
                f"text must be a string or a list of strings, got {text!r:.80}; where only some utterances of a batch have "
                "words, process them separately"
            )
        histories = [history or []] if single else (history or [[]] * len(texts))
        if len(histories) != len(texts):
            raise ValueError(f"got {len(texts)} texts and {len(histories)} histories: give one list of turns for each text")
        histories = [turns or [] for turns in histories]
        for turns in histories:
            if isinstance(turns, str) or not all(turn is None or isinstance(turn, str) for turn in turns):
                raise ValueError(f"history must be a list of turns for each text, each a string, got {turns!r:.80}")
        return list(texts), histories

    def _process_clips(self, clips: list, sampling_rate: int | None, pad_to_multiple_of: int | None) -> dict:
        rate = self.feature_extractor.sampling_rate
        samples = []
        for index, clip in enumerate(clips):
            bare = not isinstance(clip, (dict, str, os.PathLike, bytes, bytearray)) and not hasattr(clip, "get_all_samples")
            if bare and sampling_rate is None:
                logger.warning_once(
                    f"LemerProcessor got samples without sampling_rate and takes them as {rate} Hz: pass sampling_rate"
                )
            try:
                samples.append(load_audio(clip, sampling_rate, rate))
            except ValueError as error:
                raise ValueError(f"audio {index} of {len(clips)}: {error}") from error
            seconds = len(samples[-1]) / rate
            if seconds > self.max_audio_seconds:
                raise ValueError(
                    f"audio {index} of {len(clips)} has {seconds:.1f} s, above max_audio_seconds={self.max_audio_seconds:g}"
                    ": cut it into utterances, or raise the processor's limit"
                )
        return pad_clips(self.feature_extractor, samples, pad_to_multiple_of)

    def _process_texts(self, texts: list[str], histories: list[list[str]]) -> dict:
        tokenizer = self.tokenizer
        limit = min(self.max_text_length, tokenizer.model_max_length)
        # What the current utterance leaves of the limit belongs to the history; without room for a token there is none.
        current = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        room = [limit - tokenizer.num_special_tokens_to_add(pair=True) - len(tokens) for tokens in current]
        side = tokenizer.truncation_side
        rows = []
        try:
            for one, turns, tokens_left in zip(texts, histories, room, strict=True):
                turns = [turn for turn in turns if turn and turn.strip()]
                turns = turns[-self.max_history :] if self.max_history else []
                if turns and tokens_left > 0:
                    tokenizer.truncation_side = "left"
                    # As a batch of one: a lone empty string would count as no second segment.
                    pair = tokenizer([" ".join(turns)], [one], truncation="only_first", max_length=limit)
                    rows.append({name: values[0] for name, values in pair.items()})
                else:
                    tokenizer.truncation_side = "right"
                    rows.append(tokenizer(one, truncation=True, max_length=limit))
        finally:
            tokenizer.truncation_side = side
        return dict(tokenizer.pad(rows, padding=True, return_tensors="np"))


LemerProcessor.register_for_auto_class()

__all__ = ["LemerProcessor", "pad_clips"]
