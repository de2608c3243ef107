"""Options of a processor's call as users of transformers give them, and padding later."""

import numpy as np
import pytest
import torch
from tiny import tiny_processor
from transformers import DataCollatorWithPadding

RATE = 16_000  # Hz
SAMPLES = np.random.default_rng(0).normal(0, 0.1, 1600).astype(np.float32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 1}, "takes no images: the options"),
        ({"max_text_lenght": 9}, "takes no max_text_lenght"),
        ({"return_tensor": "pt"}, "Did you mean 'return_tensors'"),
        ({"text_kwargs": {"stride": 2}}, "takes no stride in text_kwargs"),
        ({"text_kwargs": "longest"}, "text_kwargs must be a dict"),
        ({"padding": "shortest"}, "padding must be True, .* got 'shortest'"),
        ({"padding": True, "text_kwargs": {"padding": False}}, "padding was given two times"),
        ({"truncation": False}, "always cut"),
        ({"max_length": 0}, "at least 1, got 0"),
        ({"max_length": 513, "padding": "max_length"}, "above the 512 tokens"),
        ({"audio_kwargs": {"padding": "max_length"}}, "needs 'max_length' beside it"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_by_name(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        tiny_processor()(text="hello", **options)


def test_tokens_are_not_counted_where_there_are_clips_alone():
    with pytest.raises(ValueError, match="padding='max_length' counts tokens"):
        tiny_processor()(audio=SAMPLES, sampling_rate=RATE, padding="max_length")


@pytest.mark.parametrize("padding", [None, True, "longest"])
def test_padding_to_the_longest_may_be_said(padding):
    said = tiny_processor()(text=["hello you", "so"], padding=padding, return_tensors="np")
    silent = tiny_processor()(text=["hello you", "so"], return_tensors="np")
    assert all(np.array_equal(said[name], silent[name]) for name in silent) and set(said) == set(silent)


def test_padding_to_a_length_adds_padding_alone():
    """Texts to a number of tokens, clips to a number of samples; longer ones are cut where that is asked for."""
    inputs = {"audio": [SAMPLES, SAMPLES[:500]], "text": ["hello you", "so"], "sampling_rate": RATE, "return_tensors": "np"}
    plain = tiny_processor()(**inputs)
    padded = tiny_processor()(**inputs, padding="max_length", max_length=9)
    np.testing.assert_array_equal(padded["input_values"], plain["input_values"])
    assert padded["input_ids"].shape == (2, 9) and not padded["input_ids"][:, 4:].any()
    assert tiny_processor(max_text_length=7)(**inputs, padding="max_length")["input_ids"].shape == (2, 7)
    in_samples = {"padding": "max_length", "max_length": 2000}
    longer = tiny_processor()(**inputs, audio_kwargs=in_samples)
    for name in ("input_values", "input_values_mask"):
        np.testing.assert_array_equal(longer[name], np.pad(plain[name], [(0, 0), (0, 400)]))
    cut = tiny_processor()(**inputs, audio_kwargs={"truncation": True, "max_length": 500})
    expected = tiny_processor()(**{**inputs, "audio": [SAMPLES[:500]] * 2})
    np.testing.assert_array_equal(cut["input_values"], expected["input_values"])


def test_a_maximum_for_one_call_cuts_as_the_setting_does():
    inputs = {"text": "hello you are so late again", "history": ["i hate this"]}
    assert dict(tiny_processor()(**inputs, max_length=7)) == dict(tiny_processor(max_text_length=7)(**inputs))
    assert dict(tiny_processor(max_text_length=6)(**inputs, max_length=9)) == dict(
        tiny_processor(max_text_length=6)(**inputs)
    )


ROWS = [{"audio": SAMPLES, "text": "hello you are late"}, {"audio": SAMPLES[:500], "text": "so"}]


@pytest.mark.parametrize("form", ["rows", "rows of batches", "columns"])
def test_rows_that_are_padded_later_are_the_batch(form):
    processor = tiny_processor()
    batch = processor(**{name: [row[name] for row in ROWS] for name in ROWS[0]}, sampling_rate=RATE, return_tensors="pt")
    batches = [dict(processor(**row, sampling_rate=RATE)) for row in ROWS]
    rows = [{name: values[0] for name, values in one.items()} for one in batches]
    both = processor(**{name: [row[name] for row in ROWS] for name in ROWS[0]}, sampling_rate=RATE, padding=False)
    assert [len(values) for values in both["input_values"]] == [1600, 500]
    given = {"rows": rows, "rows of batches": batches, "columns": dict(both)}[form]
    padded = processor.pad(given, return_tensors="pt")
    assert set(padded) == set(batch)
    for name in batch:
        torch.testing.assert_close(padded[name], batch[name])


def test_the_padding_collator_of_transformers_takes_the_processor():
    processor = tiny_processor()
    rows = [
        {**{name: values[0] for name, values in processor(**row, sampling_rate=RATE).items()}, "label": 2} for row in ROWS
    ]
    del rows[0]["input_values_mask"], rows[1]["input_values_mask"]
    batch = DataCollatorWithPadding(processor)(rows)
    assert batch["labels"].tolist() == [2, 2] and batch["input_values_mask"].sum(1).tolist() == [1600, 500]
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 6)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        ([{"input_ids": [1]}, {"input_values": [0.1]}], "row 1 to pad and row 0 do not both have input_ids, input_values"),
        ([{"input_ids": [1], "id": "a"}], "column id cannot be put into a batch, got 'a'"),
        ([{"input_ids": []}], "must be a list of numbers"),
    ],
)
def test_rows_that_are_no_batch_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        tiny_processor().pad(rows)


def test_rows_of_different_lengths_are_no_tensor():
    with pytest.raises(ValueError, match="padding=False leaves rows of different lengths"):
        tiny_processor()(text=["hello you", "so"], padding=False, return_tensors="np")
