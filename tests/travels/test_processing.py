"""LemerProcessor: every form of audio, what is refused, laws of the history, batches, saving."""

import io
import random
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import WORDS, tiny_config, tiny_processor, tiny_tokenizer
from transformers import AutoProcessor, Wav2Vec2FeatureExtractor
from transformers.tokenization_utils_base import TruncationStrategy

from lemer import LemerProcessor
from lemer.audio_lemer import load_audio
from lemer.padding_lemer import pad_clips
from lemer.processing_lemer import newest_turns

RATE = 16_000  # Hz
# Multiples of 2 ** -15, so that 16-bit files hold them exactly; twice as wide in stereo, whose mean is taken.
SAMPLES = (np.random.default_rng(0).integers(-8000, 8000, 1600) / 32768).astype(np.float32)
STEREO = np.stack([SAMPLES * 1.5, SAMPLES * 0.5])  # (2, N)


class Decoder:
    """What a torchcodec decoder looks like from outside: channels first, and its own rate."""

    def get_all_samples(self):
        return SimpleNamespace(data=torch.from_numpy(STEREO), sample_rate=RATE)


def wav_bytes(samples=SAMPLES, rate: int = RATE, file_format: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=file_format, subtype="PCM_16")
    return file.getvalue()


@pytest.fixture(scope="module")
def wav(tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "clip.wav"
    path.write_bytes(wav_bytes())
    return path


# ------------------------------------------------------------------------------------------------- every form of audio

FORMS = {
    "path as text": str,
    "Path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "flac": lambda _: wav_bytes(file_format="FLAC"),
    "dict of array": lambda _: {"array": SAMPLES, "sampling_rate": RATE, "path": None},
    "dict of path": lambda path: {"path": str(path), "bytes": None},
    "dict of bytes": lambda path: {"path": "elsewhere.wav", "bytes": path.read_bytes()},
    "dict of path alone": lambda path: {"path": path},
    "float32": lambda _: SAMPLES,
    "float64": lambda _: SAMPLES.astype(np.float64),
    "int16": lambda _: (SAMPLES * 32768).astype(np.int16),
    "int32": lambda _: (SAMPLES.astype(np.float64) * 2**31).astype(np.int32),
    "tensor": lambda _: torch.from_numpy(SAMPLES),
    "tensor that requires grad": lambda _: torch.from_numpy(SAMPLES.copy()).requires_grad_(),
    "int16 tensor": lambda _: torch.from_numpy((SAMPLES * 32768).astype(np.int16)),
    "list": lambda _: SAMPLES.tolist(),
    "mono (1, N)": lambda _: SAMPLES[None],
    "mono (N, 1)": lambda _: SAMPLES[:, None],
    "stereo (2, N)": lambda _: STEREO,
    "stereo (N, 2)": lambda _: STEREO.T,
    "stereo tensor": lambda _: torch.from_numpy(STEREO),
    "stereo int16": lambda _: (STEREO * 32768).round().astype(np.int16),
    "decoder": lambda _: Decoder(),
    "strided": lambda _: np.repeat(SAMPLES, 2)[::2],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_audio_gives_the_same_samples(wav, form):
    samples = load_audio(FORMS[form](wav))
    np.testing.assert_allclose(samples, SAMPLES, atol=2**-15 if form == "stereo int16" else 1e-7)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_audio_becomes_one_row_of_the_batch(wav, form):
    batch = tiny_processor()(audio=FORMS[form](wav), sampling_rate=RATE, return_tensors="pt")
    assert batch["input_values"].shape == batch["input_values_mask"].shape == (1, len(SAMPLES))


def test_bfloat16_tensors_are_taken():
    assert load_audio(torch.zeros(100, dtype=torch.bfloat16)).dtype == np.float32


def test_samples_at_the_rate_asked_for_are_unchanged():
    assert np.array_equal(load_audio(SAMPLES, RATE), SAMPLES)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_resampling_keeps_the_duration(rate):
    clip = np.sin(np.arange(rate) / 50).astype(np.float32)
    assert abs(len(load_audio(clip, rate)) - RATE) <= 1


def test_resampling_keeps_a_tone():
    times = [np.arange(rate) / rate for rate in (44_100, RATE)]
    clip, expected = (np.sin(2 * np.pi * 440 * time).astype(np.float32) for time in times)
    np.testing.assert_allclose(load_audio(clip, 44_100)[1000:-1000], expected[1000:-1000], atol=1e-3)


@pytest.mark.parametrize("make", [lambda clip: wav_bytes(clip, 8000), lambda clip: {"array": clip, "sampling_rate": 8000}])
def test_a_form_that_knows_its_rate_is_brought_to_the_target(make):
    assert len(load_audio(make(SAMPLES))) == 2 * len(SAMPLES)


def test_one_sample_at_a_higher_rate_is_one_sample():
    assert len(load_audio([0.5], 48_000)) == 1


def test_audio_is_normalised_per_utterance():
    values = tiny_processor()(audio=[SAMPLES * 3 + 0.1], sampling_rate=RATE, return_tensors="np")["input_values"]
    np.testing.assert_allclose([values.mean(), values.std()], [0.0, 1.0], atol=1e-3)


# --------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.array([0.1, np.nan, np.inf], np.float32), "2 of 3 samples are NaN or infinite"),
        (np.array([], np.float32), "no samples"),
        (np.zeros((0, 2), np.float32), "no samples"),
        (wav_bytes(SAMPLES[:0]), "no samples"),
        (b"no sound at all", "cannot be read as audio"),
        (b"", "cannot be read as audio"),
        (np.zeros(100, np.int64), "got int64"),
        (np.zeros(100, np.uint8), "got uint8"),
        (np.zeros((16, 100), np.float32), "16 channels"),
        (np.zeros((2, 3, 100), np.float32), r"shape \(2, 3, 100\)"),
        (np.float32(0.5), r"shape \(\)"),
        ({"array": SAMPLES}, "needs 'sampling_rate'"),
        ({"path": None, "bytes": None}, r"keys \['bytes', 'path'\]"),
        ({}, "'bytes' or 'path'"),
    ],
)
def test_audio_that_cannot_be_used_is_refused(audio, message):
    with pytest.raises(ValueError, match=message):
        load_audio(audio)


@pytest.mark.parametrize("rate", [0, -16_000])
def test_an_impossible_rate_is_refused(rate):
    with pytest.raises(ValueError, match=f"got {rate}"):
        load_audio(SAMPLES, rate)


def test_a_text_file_is_refused_by_name(tmp_path):
    (tmp_path / "words.wav").write_text("these are words")
    with pytest.raises(ValueError, match="words.wav cannot be read as audio"):
        load_audio(tmp_path / "words.wav")


@pytest.mark.parametrize(("name", "message"), [("gone.wav", "no audio file .*gone.wav"), ("", "that is a folder")])
def test_a_missing_file_and_a_folder_are_not_found(tmp_path, name, message):
    with pytest.raises(FileNotFoundError, match=message):
        load_audio(str(tmp_path / name))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "neither audio nor text"),
        ({"audio": []}, "empty list of audio"),
        ({"audio": [SAMPLES, None]}, "some utterances of the batch have audio and some have none"),
        ({"text": []}, "string or a list of strings"),
        ({"text": ["hello", None]}, "string or a list of strings"),
        ({"text": 3}, "got 3"),
        ({"text": [["hello"]]}, "string or a list of strings"),
        ({"audio": [SAMPLES, SAMPLES], "text": ["hello"]}, "2 clips and 1 texts"),
        ({"audio": SAMPLES, "text": ["hello", "you"]}, "1 clips and 2 texts"),
        ({"text": ["hello", "you"], "history": [["so"]]}, "2 texts and 1 histories"),
        ({"audio": SAMPLES, "history": ["hello"]}, "history without the current text"),
        ({"text": "hello", "history": "so late"}, "got 'so late'"),
        ({"text": ["hello"], "history": ["so late"]}, "got 'so late'"),
        ({"text": "hello", "history": ["so", 3]}, "each a string"),
        ({"audio": [SAMPLES, b"text"]}, "audio 1 of 2: .*cannot be read"),
    ],
)
def test_inputs_that_do_not_fit_together_are_refused(inputs, message):
    with pytest.raises(ValueError, match=message):
        tiny_processor()(**inputs, sampling_rate=RATE)


@pytest.mark.parametrize(
    ("settings", "message"), [({"max_history": -1}, "got -1"), ({"max_text_length": 3}, "at least 4 .*got 3")]
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny_processor(**settings)


# ---------------------------------------------------------------------------------------------------------- history

words = st.lists(st.sampled_from([*WORDS, "furious", "zz"]), max_size=12).map(" ".join)
histories = st.lists(words, max_size=6)
lengths = st.integers(4, 30)
TOKENIZER = tiny_processor().tokenizer


def ids_of(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def segments(text: str, history, **settings) -> tuple[list[int], list[int], int]:
    """Tokens of the history, tokens of the current utterance, both without special ones, and the length of all."""
    row = tiny_processor(**settings)(text=text, history=history, return_tensors="np")
    ids, types = row["input_ids"][0].tolist(), row["token_type_ids"][0].tolist()
    special = set(TOKENIZER.all_special_ids) - {TOKENIZER.unk_token_id}
    parts = [[i for i, kind in zip(ids, types, strict=True) if kind == segment and i not in special] for segment in (0, 1)]
    return (parts[0], parts[1], len(ids)) if 1 in types else ([], parts[0], len(ids))


@given(words, histories, lengths)
def test_a_text_is_never_longer_than_the_limit(text, history, limit):
    assert segments(text, history, max_text_length=limit)[2] <= limit


@given(words, histories, lengths)
def test_the_current_utterance_is_whole_while_any_history_is_left(text, history, limit):
    before, current, _ = segments(text, history, max_text_length=limit)
    assert not before or current == ids_of(text)


@given(words, histories, lengths)
def test_what_is_left_of_the_history_is_its_newest_tokens_in_order(text, history, limit):
    before, _, _ = segments(text, history, max_text_length=limit)
    spoken = ids_of(" ".join(history))
    assert before == spoken[len(spoken) - len(before) :]


@given(words, histories, lengths)
def test_history_is_cut_only_as_far_as_the_limit_asks(text, history, limit):
    before, current, length = segments(text, history, max_text_length=limit)
    assert len(before) == len(ids_of(" ".join(history))) or length == limit or len(ids_of(text)) + 3 >= limit


@given(words, lengths)
def test_a_current_utterance_that_is_too_long_is_cut_at_its_end(text, limit):
    _, current, _ = segments(text, None, max_text_length=limit)
    assert current == ids_of(text)[: limit - 2]


@given(words, histories, st.integers(0, 7))
def test_only_the_newest_turns_with_words_are_spliced(text, history, count):
    before, _, _ = segments(text, history, max_history=count, max_text_length=500)
    spoken = [turn for turn in history if turn]
    assert before == ids_of(" ".join(spoken[len(spoken) - min(count, len(spoken)) :]))


@pytest.mark.parametrize("history", [[], [""], ["  ", None, "\n"], ()])
def test_no_usable_turn_is_no_history(history):
    assert segments("hello you", history) == segments("hello you", None)


def test_with_history_the_segments_are_history_then_current():
    row = tiny_processor()(text="you won", history=["i hate", "this"], return_tensors="np")
    tokens = TOKENIZER.convert_ids_to_tokens(row["input_ids"][0])
    assert tokens == ["[CLS]", "i", "hate", "this", "[SEP]", "you", "won", "[SEP]"]


def test_segment_ids_are_0_for_history_and_1_for_the_current_utterance():
    row = tiny_processor()(text="you won", history=["i hate", "this"], return_tensors="np")
    assert row["token_type_ids"][0].tolist() == [0] * 5 + [1] * 3


def test_without_history_there_is_one_segment():
    row = tiny_processor()(text="you won")
    assert TOKENIZER.convert_ids_to_tokens(row["input_ids"][0]) == ["[CLS]", "you", "won", "[SEP]"]


def test_the_tokenizers_own_side_of_truncation_is_left_as_it_was():
    processor = tiny_processor(max_text_length=5)
    processor.tokenizer.truncation_side = "left"
    processor(text="hello you are late", history=["again"])
    assert processor.tokenizer.truncation_side == "left"


@pytest.mark.parametrize(
    "text", ["😀 hello 🙃", "你好 世界", "Привет, мир", "مرحبا", "é́" * 5, "\u200b", "", "x" * 500, "hello " * 10_000]
)
def test_any_text_is_processed_within_the_limit(text):
    batch = tiny_processor()(text=text, history=[text, text])
    assert 2 <= len(batch["input_ids"][0]) <= 150


@given(st.text(max_size=20), st.lists(st.text(max_size=20), max_size=3))
def test_any_characters_make_a_text_and_a_history(text, history):
    batch = tiny_processor(max_text_length=12)(text=text, history=history)
    assert len(batch["input_ids"][0]) == len(batch["token_type_ids"][0]) <= 12


def cut_by_the_tokenizer(text: str, turns: list[str], limit: int) -> dict[str, list[int]]:
    """A text behind its turns, which the tokenizer itself cuts to the limit."""
    tokenizer = tiny_tokenizer()
    spoken = " ".join(turn for turn in turns if turn)
    if spoken and limit - 3 - len(ids_of(text)) > 0:
        tokenizer.truncation_side = "left"
        row = tokenizer([spoken], [text], truncation="only_first", max_length=limit)
        return {name: values[0] for name, values in row.items()}
    return dict(tokenizer(text, truncation=True, max_length=limit))


@given(words, histories, lengths)
def test_texts_are_cut_as_the_tokenizer_itself_cuts_them(text, history, limit):
    row = tiny_processor(max_text_length=limit)(text=[text], history=[history])
    assert {name: values[0] for name, values in row.items()} == cut_by_the_tokenizer(text, history, limit)


def test_a_tokenizers_own_settings_change_no_text():
    processor = tiny_processor()
    expected = dict(processor(text="hello you [SEP]", history=["so late"]))
    processor.tokenizer(["hello you are", "i"], padding=True, truncation=True, max_length=3)
    assert dict(processor(text="hello you [SEP]", history=["so late"])) == expected


@pytest.mark.parametrize("name", ["[MASK]", "[SEP]", "[CLS]", "[PAD]", "[UNK]"])
def test_the_name_of_a_special_token_in_a_text_is_plain_text(name):
    row = tiny_processor()(text=f"you {name} won", history=[f"{name} hate"], return_tensors="np")
    tokens = TOKENIZER.convert_ids_to_tokens(row["input_ids"][0])
    assert tokens.count("[CLS]") == 1 and tokens.count("[SEP]") == 2 and not {"[MASK]", "[PAD]"} & set(tokens)
    assert tokens.count(name[1].lower()) == 2  # its first letter is a piece of its own


@pytest.mark.parametrize("empty", ["\u200b", "\u200b\ufeff \u00ad", "\x00\x07", " ", ""])
def test_turns_of_which_no_token_is_left_are_left_out(empty):
    processor = tiny_processor(max_history=2)
    expected = dict(processor(text="hello", history=["you won", "again"]))
    assert dict(processor(text="hello", history=["you won", empty, "again", empty, empty])) == expected
    assert dict(processor(text="hello", history=[empty])) == dict(processor(text="hello"))
    assert not processor.has_words(empty)


@pytest.mark.parametrize("text", ["a", "7", "!", "😀", "你", "\u200bhello"])
def test_a_text_with_a_token_has_words(text):
    assert tiny_processor().has_words(text) and ids_of(text)


@pytest.mark.parametrize("make", [tuple, np.array, pd.Series, lambda turns: np.array(turns, dtype=object), list])
def test_a_history_may_be_any_container(make):
    turns, none = ["i hate this", "great"], make([])
    processor = tiny_processor()
    expected = dict(processor(text="hello", history=turns))
    assert dict(processor(text="hello", history=make(turns))) == expected
    several = dict(processor(text=["hello", "you"], history=[turns, None]))
    assert dict(processor(text=make(["hello", "you"]), history=[make(turns), none])) == several
    assert dict(processor(text="hello", history=none)) == dict(processor(text="hello"))
    assert set(processor(audio=SAMPLES, sampling_rate=RATE, history=none)) == {"input_values", "input_values_mask"}
    with pytest.raises(ValueError, match="history without the current text"):
        processor(audio=SAMPLES, sampling_rate=RATE, history=make(turns))


@pytest.mark.parametrize("inputs", [{"text": "half \ud83d"}, {"text": "hello", "history": ["half \ud83d"]}])
def test_half_a_surrogate_pair_is_refused_with_its_place(inputs):
    with pytest.raises(ValueError, match="half a surrogate pair .* at position 5"):
        tiny_processor()(**inputs)


def test_a_long_history_before_a_long_text_is_encoded_once(monkeypatch):
    """With room for one token, a tokenizer that cuts makes one more encoding of every token that it cuts off."""
    processor = tiny_processor()
    text, turn = "hello " * 146, "so late again " * 3000
    calls = []
    monkeypatch.setattr(type(processor.tokenizer), "set_truncation_and_padding", lambda self, **given: calls.append(given))
    row = processor(text=text, history=[turn])
    assert row["input_ids"][0] == [2, *ids_of("again"), 3, *ids_of(text), 3]
    assert calls and {given["truncation_strategy"] for given in calls} == {TruncationStrategy.DO_NOT_TRUNCATE}


# ---------------------------------------------------------------------------------------------------------- batches


def test_a_batch_is_its_utterances_padded():
    rng = random.Random(0)
    clips = [SAMPLES[:n] for n in (1600, 500, 900)]
    texts = [" ".join(rng.choices(WORDS, k=k)) for k in (3, 8, 1)]
    turns = [["hello you"], None, ["so late again", "", "great"]]
    processor = tiny_processor(max_text_length=10)
    batch = processor(audio=clips, text=texts, history=turns, sampling_rate=RATE, return_tensors="pt")
    for row in range(3):
        one = processor(audio=clips[row], text=texts[row], history=turns[row], sampling_rate=RATE, return_tensors="pt")
        for name, mask in (("input_values", "input_values_mask"), ("input_ids", "attention_mask")):
            torch.testing.assert_close(batch[name][row, batch[mask][row].bool()], one[name][0])


@pytest.mark.parametrize("normalised", [True, False])
def test_clips_are_padded_as_the_extractor_itself_pads_them(normalised):
    extractor = Wav2Vec2FeatureExtractor(do_normalize=normalised, return_attention_mask=True)
    clips = [3 + SAMPLES[:n] for n in (1600, 1, 500, 900)]
    expected = extractor(clips, sampling_rate=RATE, padding=True, return_tensors="np")
    found = pad_clips(extractor, clips)
    np.testing.assert_array_equal(found["input_values"], expected["input_values"])
    np.testing.assert_array_equal(found["input_values_mask"], expected["attention_mask"])
    assert [values.dtype for values in found.values()] == [np.float32, np.int64]


def test_samples_are_padded_to_a_multiple_with_more_of_the_same_padding():
    inputs = {"audio": [SAMPLES[:1600], SAMPLES[:500]], "text": ["hello you", "so"], "sampling_rate": RATE}
    plain, more, same = (
        tiny_processor()(**inputs, return_tensors="np", pad_to_multiple_of=multiple) for multiple in (None, 700, 800)
    )
    for name, values in plain.items():
        expected = np.pad(values, [(0, 0), (0, 500)]) if name.startswith("input_values") else values
        np.testing.assert_array_equal(more[name], expected)
        np.testing.assert_array_equal(same[name], values)  # 1600 is a multiple already
    with pytest.raises(ValueError, match="at least 1, got 0"):
        tiny_processor()(**inputs, pad_to_multiple_of=0)


def test_a_batch_of_no_texts_at_all_is_audio_alone():
    batch = tiny_processor()(audio=[SAMPLES, SAMPLES], text=[None, None], sampling_rate=RATE)
    assert set(batch) == {"input_values", "input_values_mask"}


def test_text_alone_makes_no_audio():
    assert set(tiny_processor()(text="hello")) == {"input_ids", "attention_mask", "token_type_ids"}


def test_names_of_the_inputs_are_those_of_the_model():
    batch = tiny_processor()(audio=SAMPLES, text="hello", sampling_rate=RATE)
    assert set(batch) == set(tiny_processor().model_input_names)


def test_samples_without_a_rate_are_warned_about(caplog):
    from lemer import processing_lemer

    processing_lemer.logger.warning_once.cache_clear()
    tiny_processor()(audio=SAMPLES)
    assert "takes them as 16000 Hz" in caplog.text


@pytest.mark.parametrize(("tensors", "kind"), [("pt", torch.Tensor), ("np", np.ndarray)])
def test_return_tensors_decides_the_type(tensors, kind):
    batch = tiny_processor()(audio=SAMPLES, text="hello", sampling_rate=RATE, return_tensors=tensors)
    assert {type(value) for value in batch.values()} == {kind}


def test_without_return_tensors_there_are_lists():
    batch = tiny_processor()(audio=SAMPLES, text="hello", sampling_rate=RATE)
    assert {type(value) for value in batch.values()} == {list}


# ----------------------------------------------------------------------------------------------------------- saving


@pytest.mark.parametrize("opener", [LemerProcessor, AutoProcessor])
def test_settings_survive_save_and_load(tmp_path, opener):
    tiny_processor(max_history=3, max_text_length=77).save_pretrained(tmp_path)
    loaded = opener.from_pretrained(tmp_path)
    assert (loaded.max_history, loaded.max_text_length) == (3, 77)


def test_a_saved_processor_processes_alike(tmp_path):
    processor = tiny_processor(max_text_length=6)
    processor.save_pretrained(tmp_path)
    inputs = {"audio": SAMPLES, "text": "you won", "history": ["i hate this"], "sampling_rate": RATE}
    loaded, own = (each(**inputs, return_tensors="pt") for each in (LemerProcessor.from_pretrained(tmp_path), processor))
    assert own.keys() == loaded.keys() and all(torch.equal(own[name], loaded[name]) for name in own)


def test_default_settings_are_the_papers():
    processor = tiny_processor()
    assert (processor.max_history, processor.max_text_length) == (10, 150)


def test_refusal_of_a_rate_says_what_was_got():
    with pytest.raises(ValueError, match=re.escape("got 0")):
        tiny_processor()(audio=SAMPLES, sampling_rate=0)


def test_a_clip_above_the_limit_is_refused_with_its_length_and_the_limit():
    processor = tiny_processor()
    assert processor(audio=np.zeros(16_000 * 120, np.float32), sampling_rate=16_000)["input_values"]
    with pytest.raises(ValueError, match=r"audio 1 of 2 has 1800.0 s, above max_audio_seconds=120"):
        processor(audio=[np.zeros(16_000, np.float32), np.zeros(16_000 * 1800, np.float32)], sampling_rate=16_000)


# ---------------------------------------------------------------------------------------------- whose processor it is


def test_a_processor_of_another_vocabulary_rate_or_length_does_not_fit():
    config, processor = tiny_config(), tiny_processor()
    processor.check_fits(config)
    with pytest.raises(ValueError, match="text tower knows 20"):
        processor.check_fits(tiny_config(text={"vocab_size": 20}))
    with pytest.raises(ValueError, match="max_text_length is 150, and the text tower has 40"):
        processor.check_fits(tiny_config(text={"max_position_embeddings": 40}))
    tiny_processor().check_fits(tiny_config(modality="speech"))
    processor.tokenizer.model_input_names = ["input_ids", "attention_mask"]
    processor.check_fits(config)
    with pytest.raises(ValueError, match="needs token_type_ids .* BertTokenizer gives none"):
        processor.check_fits(tiny_config(pooled_tokens="current"))
    processor.feature_extractor.sampling_rate = 8000
    with pytest.raises(ValueError, match="gives 8000 Hz"):
        processor.check_fits(config)
    processor.check_fits(tiny_config(modality="text"))


# --------------------------------------------------------------------------------------------------- a bounded history


@given(st.lists(st.sampled_from(["you won", "late", "...", "\u200b", " ", ""]), max_size=9), st.integers(0, 4))
def test_the_newest_turns_are_read_like_the_whole_history(turns, max_history):
    processor = tiny_processor(max_history=max_history)
    kept = newest_turns(turns, max_history)
    assert kept == turns[len(turns) - len(kept) :]
    assert processor(text="hello", history=kept) == processor(text="hello", history=turns)


@given(st.lists(st.sampled_from(["you won", "late", "...", "\u200b", " "]), max_size=9), st.integers(0, 4))
def test_the_history_is_the_newest_turns_with_words(turns, max_history):
    processor = tiny_processor(max_history=max_history)
    spoken = [turn for turn in turns if turn.strip() and processor.has_words(turn)]
    spoken = spoken[len(spoken) - max_history :] if len(spoken) > max_history else spoken
    assert processor(text="hello", history=turns) == tiny_processor(max_history=99)(text="hello", history=spoken)


def test_the_newest_turns_do_not_grow_with_the_dialog():
    assert newest_turns([f"turn {number}" for number in range(2000)], 3) == ["turn 1997", "turn 1998", "turn 1999"]
