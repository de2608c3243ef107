"""Labels set from words and recordings: embeddings by hand, what stays of the others, files, remote code, bad input."""

import numpy as np
import pytest
import torch
from strangers import run_stranger
from tiny import tiny_batch, tiny_model, tiny_processor

from lemer import LemerModel

OLD = ["ang", "hap", "neu", "sad"]
WORDS = {"proud": ["great", "we", "won"]}
CLIPS = [np.sin(np.arange(n, dtype=np.float32) / 7) for n in (3000, 1700)]
RATE = 16_000
RECORDINGS = {"proud": [{"array": clip, "sampling_rate": RATE} for clip in CLIPS]}
PROCESSOR = tiny_processor()
LOGITS = ("text_label_logits", "speech_label_logits")


def answers(model) -> dict[str, torch.Tensor]:
    batch = tiny_batch(modality=model.config.modality)
    with torch.no_grad():
        out = model(**batch)
    return {name: out[name] for name in ("logits", *LOGITS) if out.get(name) is not None}


def with_proud(model: LemerModel, labels=(*OLD, "proud")) -> LemerModel:
    model.set_labels(labels, words=WORDS, recordings=RECORDINGS, processor=PROCESSOR)
    return model


def test_a_label_of_words_is_the_mean_of_its_word_pieces():
    model = with_proud(tiny_model())
    tokenizer = PROCESSOR.tokenizer
    ids = [tokenizer.cls_token_id, *tokenizer.convert_tokens_to_ids(WORDS["proud"]), tokenizer.sep_token_id]
    hidden = model.text_model(torch.tensor([ids])).last_hidden_state[0]
    torch.testing.assert_close(model.semantic_label_embeddings[4], (hidden[1] + hidden[2] + hidden[3]) / 3)


@pytest.mark.parametrize("space", ["projected", "codebook"])
def test_a_label_of_recordings_is_the_mean_code_vector_of_all_their_frames(space):
    model = with_proud(tiny_model(speech_label_space=space, speech={"codevector_dim": 16}))
    tower, quantizer = model.speech_model, model.speech_quantizer
    chosen, codes = [], []
    for clip in CLIPS:
        values = PROCESSOR(audio=clip, sampling_rate=RATE, return_tensors="pt")["input_values"]
        features = tower.feature_projection.layer_norm(tower.feature_extractor(values).transpose(1, 2))[0]
        for scores in quantizer.weight_proj(features):
            one, other = scores[:6].argmax().item(), scores[6:].argmax().item()
            chosen.append(torch.cat([quantizer.codevectors[0, one], quantizer.codevectors[0, 6 + other]]))
            codes.append((one, other))
    expected = torch.stack(chosen).mean(0)
    if space == "projected":
        expected = model.speech_code_projection(expected)
    torch.testing.assert_close(model.tonal_label_embeddings[4], expected, rtol=1e-5, atol=1e-6)
    counts = [codes.count(tuple(code)) for code in model.config.label_codes["proud"]]
    assert counts == sorted(counts, reverse=True) and sum(counts) == len(codes)


@pytest.mark.parametrize("variant", ["multimodal", "text", "speech"])
def test_adding_a_label_leaves_the_logits_of_the_others(variant):
    model = tiny_model(modality=variant)
    before = answers(model)
    words = WORDS if variant != "speech" else None
    model.set_labels([*OLD, "proud"], words, RECORDINGS if variant != "text" else None, PROCESSOR)
    after = answers(model)
    for name in set(LOGITS) & set(before):
        assert torch.equal(after[name][:, :4], before[name]) and after[name][:, 4].any()
    assert after["logits"].shape == (3, 5)


def test_a_permutation_of_labels_permutes_all_logits():
    model = with_proud(tiny_model())
    before = answers(model)
    order = [3, 4, 0, 2, 1]
    model.set_labels([[*OLD, "proud"][index] for index in order])
    for name, logits in answers(model).items():
        torch.testing.assert_close(logits, before[name][:, order])


def test_the_order_of_labels_does_not_change_what_describes_them():
    last, first = (with_proud(tiny_model(), labels) for labels in ([*OLD, "proud"], ["proud", *OLD]))
    for name in ("semantic_label_embeddings", "tonal_label_embeddings"):
        assert torch.equal(getattr(last, name).roll(1, 0), getattr(first, name))


def test_dropped_labels_leave_the_classifier_of_the_kept_ones():
    model = tiny_model()
    before = answers(model)
    model.set_labels(["sad", "ang"])
    assert model.untrained == [] and model.config.id2label == {0: "sad", 1: "ang"}
    for name, logits in answers(model).items():
        torch.testing.assert_close(logits, before[name][:, [3, 0]])


def test_a_new_label_makes_the_whole_classifier_new():
    model = with_proud(tiny_model())
    assert model.untrained == ["classifier"]
    assert model.classifier.out_features == 5 and not model.classifier.bias.any() and model.classifier.weight.std() > 0.01


def test_the_configuration_names_and_describes_the_labels():
    codes = {name: [[index, 0]] for index, name in enumerate(OLD)}
    model = tiny_model(label_words={name: [name] for name in OLD}, label_codes=codes)
    config = with_proud(model, ["proud", "sad"]).config
    assert config.id2label == {0: "proud", 1: "sad"} and config.label2id == {"proud": 0, "sad": 1}
    assert config.num_labels == 2 and config.label_words == {"proud": WORDS["proud"], "sad": ["sad"]}
    assert config.label_codes["sad"] == [[3, 0]] and set(config.label_codes) == {"proud", "sad"}


def test_a_label_described_anew_keeps_its_classifier():
    model = tiny_model()
    classifier, tonal = model.classifier.weight.clone(), model.tonal_label_embeddings.clone()
    semantic = model.semantic_label_embeddings.clone()
    model.set_labels(OLD, words={"hap": ["great"]}, processor=PROCESSOR)
    assert torch.equal(model.classifier.weight, classifier) and torch.equal(model.tonal_label_embeddings, tonal)
    changed = (model.semantic_label_embeddings != semantic).any(1).tolist()
    assert changed == [False, True, False, False] and model.config.label_words["hap"] == ["great"]


@pytest.mark.parametrize(
    ("given", "field", "branch"),
    [
        ({"words": WORDS}, "tonal_label_embeddings", "speech branch cannot answer for proud"),
        ({"recordings": RECORDINGS}, "semantic_label_embeddings", "text branch cannot answer for proud"),
    ],
)
def test_the_branch_that_cannot_answer_is_named(given, field, branch, caplog):
    model = tiny_model()
    model.set_labels([*OLD, "proud"], **given, processor=PROCESSOR)
    assert branch in caplog.text and not getattr(model, field)[4].any()
    assert model.untrained == ["classifier", field]


def test_labels_made_of_words_alone_serve_both_branches_in_the_semantic_space():
    model = tiny_model(speech_label_space="semantic")
    model.set_labels([*OLD, "proud"], words=WORDS, processor=PROCESSOR)
    assert torch.equal(model.tonal_label_embeddings[4], model.semantic_label_embeddings[4])
    with pytest.raises(ValueError, match="by words alone"):
        model.set_labels([*OLD, "proud"], recordings=RECORDINGS, processor=PROCESSOR)


def test_trained_label_embeddings_stay_parameters_and_train():
    model = tiny_model(train_label_embeddings=True)
    model.set_labels([*OLD, "proud"], words=WORDS, processor=PROCESSOR)
    assert dict(model.named_parameters()).keys() >= {"semantic_label_embeddings", "tonal_label_embeddings"}
    assert model.untrained == ["classifier"] and model.tonal_label_embeddings[4].any()  # drawn
    model.train()(**tiny_batch(labels=True)).loss.backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in (model.tonal_label_embeddings, model.classifier.weight))


def test_one_optimiser_step_trains_the_new_classifier():
    model = with_proud(tiny_model()).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(**tiny_batch(labels=True)).loss.backward()
    optimizer.step()
    assert model.untrained == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_model_comes_back_with_its_labels(dtype, tmp_path):
    model = with_proud(tiny_model().to(dtype))
    model.save_pretrained(tmp_path)
    loaded = LemerModel.from_pretrained(tmp_path, dtype=dtype)
    assert loaded.config.id2label == model.config.id2label and loaded.config.label_words == model.config.label_words
    assert loaded.untrained == ["classifier"] and loaded.dtype == dtype
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in loaded.state_dict().items())


STRANGER = """
import sys
sys.modules["lemer"] = sys.modules["sklearn"] = None  # an import of either would raise
import numpy as np
from transformers import AutoModelForAudioClassification, AutoProcessor

folder = sys.argv[1]
model = AutoModelForAudioClassification.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
clip = {"array": np.sin(np.arange(3000, dtype=np.float32) / 7), "sampling_rate": 16_000}
model.set_labels(["proud", "sad"], words={"proud": ["great"]}, recordings={"proud": [clip]}, processor=processor)
out = model(**processor(audio=clip, text="we won", return_tensors="pt"))
assert out.text_label_logits.shape == out.speech_label_logits.shape == (1, 2)
model.save_pretrained(folder + "/again")
again = AutoModelForAudioClassification.from_pretrained(folder + "/again", trust_remote_code=True)
assert again.config.label2id == {"proud": 0, "sad": 1} and again.untrained == ["classifier"]
print("as it should be")
"""


def test_a_checkpoint_sets_labels_by_its_remote_code_alone(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    PROCESSOR.save_pretrained(tmp_path)
    stranger = run_stranger(STRANGER, [tmp_path], tmp_path)
    assert stranger.stdout.strip() == "as it should be", stranger.stderr


@pytest.mark.parametrize(
    ("variant", "arguments", "message"),
    [
        ({}, {"labels": [*OLD, "proud"]}, "nothing describes the new labels .'proud'."),
        ({}, {"labels": ["ang"]}, "at least two different names"),
        ({}, {"labels": ["ang", "ang"]}, "at least two different names"),
        ({}, {"labels": OLD, "words": WORDS}, "words describes .'proud'., which labels="),
        ({}, {"labels": [*OLD, "proud"], "words": {"proud": "great"}}, "must be a list"),
        ({}, {"labels": [*OLD, "proud"], "words": {"proud": [""]}}, "none of them empty"),
        ({}, {"labels": [*OLD, "proud"], "recordings": {"proud": []}}, "at least one example"),
        ({}, {"labels": [*OLD, "proud"], "words": WORDS, "processor": None}, "give processor="),
        ({}, {"labels": [*OLD, "proud"], "recordings": {"proud": [np.zeros(0, np.float32)]}}, "no samples"),
        ({"keep_quantizer": False}, {"labels": [*OLD, "proud"], "recordings": RECORDINGS}, "no quantizer"),
        ({"modality": "speech"}, {"labels": [*OLD, "proud"], "words": WORDS}, "no text tower"),
        ({"modality": "text"}, {"labels": [*OLD, "proud"], "recordings": RECORDINGS}, "no speech tower"),
        ({"use_label_embeddings": False, "fusion": "cross"}, {"labels": OLD}, "no label embeddings"),
    ],
)
def test_bad_input_is_a_clear_error_and_changes_nothing(variant, arguments, message):
    model = tiny_model(**variant)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        model.set_labels(**{"processor": PROCESSOR, **arguments})
    assert list(model.config.id2label.values()) == OLD
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
