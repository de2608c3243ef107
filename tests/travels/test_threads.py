"""Several threads use one model, one processor and one pipeline, and get the answers that one thread gets."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tiny import WORDS, tiny_batch, tiny_model, tiny_processor

from lemer import LemerPipeline
from lemer.labels_lemer import frame_codes, semantic_label_embeddings

THREADS = 4
RATE = 16_000  # Hz
NOISE = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)


@pytest.fixture(autouse=True)
def threads_that_change_often():
    """A thread is stopped after every 10 microseconds, and torch computes in the thread that calls it."""
    interval, threads = sys.getswitchinterval(), torch.get_num_threads()
    sys.setswitchinterval(1e-5)
    torch.set_num_threads(1)
    yield
    sys.setswitchinterval(interval)
    torch.set_num_threads(threads)


def assert_threads_answer_as_one(calls, same, rounds: int = 5):
    """`same` compares the answer of every call in many threads with its answer in one."""
    expected = [call() for call in calls]
    order = [index for _ in range(rounds) for index in np.random.default_rng(0).permutation(len(calls))]
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda index: calls[index](), order))
    wrong = [index for index, answer in zip(order, answers, strict=True) if not same(answer, expected[index])]
    assert not wrong, f"{len(wrong)} of {len(order)} answers differ"


def same_tensors(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("position", ["relative", "rotary"])
def test_one_model_answers_batches_of_other_lengths_and_padding(position):
    model = tiny_model(speech={"position_embeddings_type": position, "max_source_positions": 4})
    sizes = [
        ((5000, 900), (9, 3)),
        ((5000, 5000), (9, 9)),
        ((700,), (2,)),
        ((3000, 8000, 400), (2, 6, 4)),
        ((9000, 1000), (3, 3)),
    ]
    batches = [tiny_batch(*size) for size in sizes]

    def call(batch):
        with torch.no_grad():
            out = model(**batch, output_hidden_states=True)
        return out.logits, out.label_frame_attentions, *out.speech_model_output.hidden_states

    # The table of positions is extended while others read it: a first call of each length may come in any thread.
    assert_threads_answer_as_one([lambda batch=batch: call(batch) for batch in batches], same_tensors, rounds=8)


@pytest.mark.parametrize("position", ["relative", "rotary"])
def test_positions_of_other_lengths_and_precisions(position):
    table = tiny_model(speech={"position_embeddings_type": position}).speech_model.encoder.embed_positions
    states = [torch.zeros(1, frames, 16, dtype=dtype) for frames in (3, 50, 7) for dtype in (torch.float32, torch.bfloat16)]

    def call(state):
        if position == "relative":
            table.pe = table.pe[:, table.pe.shape[1] // 2 :][:, :1]  # too short for any: this call and others make their own
        return (table(state),)

    assert_threads_answer_as_one([lambda state=state: call(state) for state in states], same_tensors, rounds=100)


def test_one_processor_cuts_texts_on_both_sides():
    processor = tiny_processor(max_text_length=8)
    texts = [
        {"text": " ".join(WORDS), "history": None},
        {"text": "hello you", "history": ["so late again", "i hate this great day"]},
        {"text": ["we won"] * 3, "history": [["hello"], [], list(WORDS)]},
        {"text": ["the table"] * 2 + [" ".join(WORDS[::-1])]},
    ]
    calls = [lambda text=text: processor(**text) for text in texts]
    calls.append(lambda: processor(audio=[NOISE[:500], NOISE[:90]], text=["you", "i"], sampling_rate=RATE))
    assert_threads_answer_as_one(calls, lambda one, other: dict(one) == dict(other), rounds=60)


def test_one_pipeline_answers_dialogs_batches_and_recordings():
    pipe = LemerPipeline(tiny_model(), tiny_processor(max_text_length=12), device="cpu")
    clips = [{"array": NOISE[:length], "sampling_rate": RATE} for length in (900, 3000, 8000)]
    inputs = [
        {"audio": clips[0], "text": " ".join(WORDS), "history": None},
        {"text": "hello you", "history": list(WORDS)},
        [clips[1], {"audio": clips[2], "text": "i hate this", "history": ["so late again", "great day"]}, clips[0]],
        {"turns": [{"audio": clip, "text": text} for clip, text in zip(clips, ["we won", "hello", "so"], strict=True)]},
        {"audio": clips[2], "segments": [(0, 0.1), (0.1, 0.5)]},
    ]
    calls = [lambda given=given: pipe(given, batch_size=3) for given in inputs]
    assert_threads_answer_as_one(calls, lambda one, other: one == other, rounds=8)


def test_codes_and_label_embeddings_beside_answers():
    model, processor = tiny_model(), tiny_processor(max_text_length=6)
    batches = [tiny_batch((5000, 900), (9, 3)), tiny_batch((3000,), (2,))]

    def answer(batch):
        with torch.no_grad():
            return (model(**batch).logits,)

    calls = [lambda batch=batch: answer(batch) for batch in batches]
    for batch in batches:
        speech = batch["input_values"], batch["input_values_mask"]
        calls.append(lambda speech=speech: list(map(torch.from_numpy, frame_codes(model, *speech))))
    words = {"a": ["hello", "great"], "b": ["hate"]}
    calls.append(lambda: (semantic_label_embeddings(model.text_model, processor.tokenizer, words, ["a", "b"]),))
    calls.append(lambda: tuple(processor(text=" ".join(WORDS), return_tensors="pt").values()))
    assert_threads_answer_as_one(calls, same_tensors, rounds=8)
