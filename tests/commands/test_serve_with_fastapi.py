"""The example with FastAPI answers many clients at once as the pipeline answers each alone; skipped where it is absent."""

import io
import queue
import runpy
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny import tiny_model, tiny_processor

import lemer
from lemer import LemerPipeline

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")
testclient = pytest.importorskip("starlette.testclient")

SERVICE = runpy.run_path(str(Path(lemer.__file__).parent / "examples" / "serve_with_fastapi.py"))
BATCH = 4


def wav(samples: int) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
    soundfile.write(file, noise, 16_000, format="WAV", subtype="FLOAT")
    return file.getvalue()


REQUESTS = [
    {"text": "you won", "history": ["hello", "we are late"]},
    {"audio": wav(3000)},
    {"audio": wav(5000), "text": "this is great"},
    {"audio": wav(20_000)},  # five windows
    {"text": "so late again"},
]


@pytest.fixture(scope="module")
def pipe():
    return LemerPipeline(tiny_model(), tiny_processor(), device="cpu", window_seconds=0.25)


@pytest.fixture
def held(pipe, monkeypatch):
    """The pipeline, which answers no batch before `go`, and tells when one `began` and how large all `sizes` were."""
    pipe.go, pipe.began, pipe.sizes, forward = threading.Event(), threading.Event(), [], pipe.forward

    def wait_and_forward(batch):
        pipe.sizes.append(len(batch))
        pipe.began.set()
        assert pipe.go.wait(20)
        return forward(batch)

    monkeypatch.setattr(pipe, "forward", wait_and_forward)
    yield pipe
    pipe.go.set()


def same(answers, expected) -> bool:
    """Whether answers have the same labels, in the same order, and the same scores up to rounding."""
    if isinstance(expected, dict):
        return set(answers) == set(expected) and all(same(answers[name], expected[name]) for name in expected)
    if isinstance(expected, list):
        return len(answers) == len(expected) and all(map(same, answers, expected))
    return answers == (pytest.approx(expected, abs=1e-6) if isinstance(expected, float) else expected)


def post(client, request: dict):
    files = {"audio": request["audio"]} if "audio" in request else None
    return client.post("/emotions", data={name: request[name] for name in request if name != "audio"}, files=files)


def test_clients_at_once_get_the_answers_of_the_pipeline_alone(pipe):
    alone = [pipe(request) for request in REQUESTS]
    with testclient.TestClient(SERVICE["make_app"](pipe, BATCH)) as client, ThreadPoolExecutor(10) as clients:
        answers = list(clients.map(lambda request: post(client, request), REQUESTS * 4))
    assert all(answer.status_code == 200 for answer in answers)
    assert all(same(answer.json(), expected) for answer, expected in zip(answers, alone * 4, strict=True))
    assert len(alone[3]) == 5 and alone[2][0]["modality"] == "multimodal"


def test_what_waits_is_answered_in_one_batch_and_in_turn(held):
    batcher = SERVICE["Batcher"](held, BATCH)
    first = batcher.submit({"text": "hello"})
    assert held.began.wait(20)
    windows, *others = [batcher.submit(request) for request in (REQUESTS[3], REQUESTS[0], REQUESTS[4])]
    held.go.set()
    # The recording has five windows, which fill a batch; the texts are none of their length, and come before the last one.
    assert len(windows.result(20)) == 5 and all(len(other.result(20)) == 4 for other in (first, *others))
    assert held.sizes == [1, 4, 2, 1]


def test_a_long_recording_does_not_keep_short_ones_of_its_length_waiting(held):
    batcher = SERVICE["Batcher"](held, BATCH)
    batcher.submit({"text": "hello"})
    assert held.began.wait(20)
    answers = [batcher.submit(request) for request in (REQUESTS[3], {"audio": wav(3900)}, {"audio": wav(4000)})]
    held.go.set()
    assert [len(answer.result(20)) for answer in answers] == [5, 4, 4]
    assert held.sizes == [1, 4, 3]  # two windows and the others, then the other windows


def test_on_a_cpu_a_batch_has_like_lengths_and_those_that_wait_come_next(held):
    batcher = SERVICE["Batcher"](held, BATCH)
    batcher.submit({"text": "hello"})
    assert held.began.wait(20)
    lengths = (3000, 1000, 2900, 1200, 3500, 2000, 3600)
    batches, forward = [], held.forward

    def note(batch):
        batches.append([0 if piece["audio"] is None else len(piece["audio"]) for piece in batch])
        return forward(batch)

    held.forward = note
    answers = [batcher.submit({"audio": wav(samples)}) for samples in lengths]
    held.go.set()
    assert all(answer.result(20) for answer in answers)
    assert batches == [[3000, 2900, 3500, 2000], [1000, 1200], [3600]]
    batcher.unlike = float("inf")  # as on a GPU
    held.go.clear()
    held.began.clear()
    answers = [batcher.submit({"text": "hello"})]
    assert held.began.wait(20)
    batches.clear()
    answers += [batcher.submit({"audio": wav(samples)}) for samples in lengths]
    held.go.set()
    assert all(answer.result(20) for answer in answers) and batches == [list(lengths[:4]), list(lengths[4:])]


def test_a_batch_has_a_limit_of_speech_with_its_padding(held):
    batcher = SERVICE["Batcher"](held, BATCH)
    batcher.most_samples = 3 * 4000
    batcher.submit({"text": "hello"})
    assert held.began.wait(20)
    answers = [batcher.submit({"audio": wav(samples)}) for samples in (4000,) * 4]
    held.go.set()
    assert all(answer.result(20) for answer in answers) and held.sizes == [1, 3, 1]


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        ({}, 422, "got neither audio nor words"),
        ({"text": "  "}, 422, "got neither audio nor words"),
        ({"audio": b"no recording"}, 422, "cannot be"),
        ({"audio": b"x" * 2000}, 413, "send at most 1000"),
    ],
)
def test_a_request_that_cannot_be_answered_is_told_why_and_the_next_one_is_answered(
    pipe, monkeypatch, request_, status, reason
):
    if status == 413:
        monkeypatch.setitem(SERVICE["make_app"].__globals__, "MOST_BYTES", 1000)
    with testclient.TestClient(SERVICE["make_app"](pipe, BATCH)) as client:
        refused = post(client, request_)
        assert refused.status_code == status and reason in str(refused.json()["detail"])
        assert same(post(client, REQUESTS[0]).json(), pipe(REQUESTS[0]))


def test_one_that_fails_in_the_model_does_not_take_the_thread_with_it(pipe, monkeypatch):
    batcher, forward = SERVICE["Batcher"](pipe, BATCH), pipe.forward

    def fail(batch):
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(pipe, "forward", fail)
    with pytest.raises(RuntimeError, match="the device is gone"):
        batcher.submit(REQUESTS[3]).result(20)  # and its other windows are not tried
    monkeypatch.setattr(pipe, "forward", lambda batch: [{**forward(batch)[0], "logits": torch.full((4,), torch.nan)}])
    with pytest.raises(ValueError, match="not finite"):
        batcher.submit({"text": "hello"}).result(20)
    monkeypatch.setattr(pipe, "forward", forward)
    assert same(batcher.submit(REQUESTS[0]).result(20), pipe(REQUESTS[0]))


def test_a_client_that_left_is_not_answered_and_too_many_are_turned_away(held, monkeypatch):
    monkeypatch.setitem(SERVICE["Batcher"].__init__.__globals__, "MOST_WAITING", 2)
    batcher = SERVICE["Batcher"](held, BATCH)
    first = batcher.submit({"text": "hello"})
    assert held.began.wait(20)
    left, stays = batcher.submit({"text": "you won"}), batcher.submit({"text": "so late"})
    assert left.cancel()
    with pytest.raises(queue.Full):
        batcher.submit({"text": "again"})
    held.go.set()
    assert len(first.result(20)) == len(stays.result(20)) == 4 and held.sizes == [1, 1]
