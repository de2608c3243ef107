"""LemerPipeline after `set_labels` with a new label: the branch whose labels are described answers alone."""

import numpy as np
import pytest
from tiny import tiny_model, tiny_processor

from lemer import LemerPipeline, pipeline_lemer

RATE = 16_000  # Hz
NOISE = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)
CLIP, TEXT = NOISE[:6000], "you are so late again"


def audio(samples) -> dict:
    return {"array": samples, "sampling_rate": RATE}


BOTH = {"audio": audio(CLIP), "text": TEXT}


@pytest.mark.parametrize(
    ("modality", "described", "answers", "missing"),
    [
        ("multimodal", "words", "text", {"audio": audio(CLIP)}),
        ("multimodal", "recordings", "speech", {"text": TEXT}),
        ("text", "words", "text", None),
        ("speech", "recordings", "speech", None),
    ],
)
def test_after_set_labels_the_branch_that_knows_the_labels_answers_alone(modality, described, answers, missing, caplog):
    pipe = LemerPipeline(tiny_model(modality=modality), tiny_processor(), device="cpu")
    examples = {"proud": ["great day"] if described == "words" else [audio(NOISE)]}
    pipe.model.set_labels(["ang", "proud"], **{described: examples}, processor=pipe.processor)
    assert pipe.model.untrained
    opened = LemerPipeline(pipe.model, pipe.processor, device="cpu")
    pipeline_lemer.logger.warning_once.cache_clear()
    answer = opened(BOTH)
    assert f"the {answers} branch answers alone" in caplog.text and "only their order counts" in caplog.text
    assert {one["modality"] for one in answer} == {answers} and {one["label"] for one in answer} == {"ang", "proud"}
    inputs = {"audio": CLIP, "sampling_rate": RATE} if answers == "speech" else {"text": TEXT}
    cosines = pipe.model(**pipe.processor(**inputs, return_tensors="pt"))[f"{answers}_label_logits"][0]
    expected = dict(zip(["ang", "proud"], cosines.softmax(-1).tolist(), strict=True))
    assert {one["label"]: one["score"] for one in answer} == pytest.approx(expected, abs=1e-6)
    if missing:
        with pytest.raises(ValueError, match="cannot answer from .* alone: .*label_embeddings are not trained or set"):
            opened(missing)


def test_new_labels_drawn_at_random_answer_nothing():
    model = tiny_model(train_label_embeddings=True)
    model.set_labels(["ang", "proud"], words={"proud": ["great"]}, processor=tiny_processor())
    with pytest.raises(ValueError, match="are not trained"):
        LemerPipeline(model, tiny_processor(), device="cpu")
