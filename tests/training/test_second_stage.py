"""Second-stage pre-training: masks, losses against the library's own, and the real script on a tiny corpus."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from releases import write_release
from safetensors.torch import load_file
from tiny import SPEECH, perturb, seeded
from transformers import (
    AutoConfig,
    AutoModelForPreTraining,
    Wav2Vec2Config,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerForPreTraining,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
)
from warm import run_two

import lemer.pretrain
import lemer.training.second_stage
from lemer import LemerModel
from lemer.corpora.iemocap import load_iemocap
from lemer.labels_lemer import frame_codes
from lemer.runtime.locks import hold
from lemer.speech_encoder_lemer import count_frames
from lemer.training.masked_prediction import (
    MaskedPrediction,
    contrastive_logits,
    draw_batch,
    draw_mask,
    draw_negatives,
    quantize,
    usage_perplexity,
)
from lemer.training.second_stage import (
    SpeechCollator,
    _say_memory,
    load_for_pretraining,
    second_stage,
    second_stage_settings,
)
from lemer.training.settings import SECOND_STAGE, second_stage_defaults
from lemer.training.small_towers import make_small_speech_tower

DRAWS = {"mask_probability": 0.65, "mask_length": 4, "negatives": 5}
TOWER = {**SPEECH, "mask_time_prob": 0.3, "conv_depthwise_kernel_size": 3, "num_hidden_layers": 1}


# ----------------------------------------------------------------------------------------------- masks and distractors


@given(frames=st.integers(1, 200), probability=st.floats(0.05, 1.0), length=st.integers(1, 15), seed=st.integers(0, 1000))
def test_a_mask_is_made_of_whole_spans_and_short_clips_have_none(frames, probability, length, seed):
    mask = draw_mask(frames, probability, length, np.random.default_rng(seed))
    assert mask.shape == (frames,) and mask.any() == (frames >= 4)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    assert all(end - start >= min(length, frames // 2) for start, end in edges.reshape(-1, 2))


def test_spans_cover_the_share_that_wav2vec_2_reports():
    # Section 4.2 of the wav2vec 2.0 paper: p = 0.065 of the starts and spans of 10 frames mask about 49 % of all frames.
    rng = np.random.default_rng(0)
    shares = [draw_mask(750, 0.65, 10, rng).mean() for _ in range(200)]
    assert np.mean(shares) == pytest.approx(0.49, abs=0.02)


@given(masked=st.integers(2, 60), count=st.integers(1, 30))
def test_a_distractor_is_another_masked_frame(masked, count):
    negatives = draw_negatives(masked, count, np.random.default_rng(0))
    assert negatives.shape == (masked, count) and negatives.min() >= 0 and negatives.max() < masked
    assert (negatives != np.arange(masked)[:, None]).all()


def test_every_other_frame_is_a_distractor_some_time():
    negatives = draw_negatives(4, 200, np.random.default_rng(0))
    assert [sorted(set(row.tolist())) for row in negatives] == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


def test_masks_and_distractors_stay_within_the_real_frames_of_their_utterance():
    masked, negatives = draw_batch([7, 2, 9], [30, 3, 50], 60, 0, DRAWS)
    owners = masked.nonzero()[:, 0]
    assert not masked[0, 30:].any() and not masked[1].any() and not masked[2, 50:].any()
    assert negatives.shape == (len(owners), 5)
    assert (owners[negatives] == owners[:, None]).all()


def test_draws_depend_on_utterance_and_epoch_and_not_on_the_batch():
    masked, negatives = draw_batch([7, 9], [30, 50], 50, 3, DRAWS)
    alone = draw_batch([9], [50], 50, 3, DRAWS)
    before = int(masked[0].sum())
    assert torch.equal(masked[1:], alone[0]) and torch.equal(negatives[before:] - before, alone[1])
    assert not torch.equal(draw_batch([9], [50], 50, 4, DRAWS)[0], alone[0])


# -------------------------------------------------------------------------------------------------------------- losses


def test_perplexity_of_one_code_is_one_and_of_all_codes_their_number():
    assert usage_perplexity(torch.tensor([[9.0, 0.0, 0.0], [1.0, 1.0, 1.0]])).item() == pytest.approx(1 + 3)
    assert usage_perplexity(torch.zeros(2, 3)).isfinite()


def test_contrastive_logits_by_hand():
    predicted = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 4.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 5.0], [0.0, -1.0]])
    codes = torch.tensor([[0, 1], [2, 1], [2, 1]])
    logits = contrastive_logits(predicted, targets, codes, torch.tensor([[1, 2], [2, 0], [0, 0]]), 0.5)
    inf = float("-inf")  # the second and third have the same code
    assert torch.allclose(logits, torch.tensor([[2.0, 0.0, 0.0], [2.0, inf, 0.0], [-1.6, 1.2, 1.2]]))


def pretraining_model(**changes) -> torch.nn.Module:
    config = AutoConfig.for_model(**{**TOWER, **changes})
    return perturb(seeded(lambda: AutoModelForPreTraining.from_config(config))).eval()


def waves(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, generator=generator) for length in lengths]


@pytest.mark.parametrize("sample", [False, True])
def test_quantize_is_the_librarys_quantizer(sample, monkeypatch):
    def without_noise(scores, tau, hard):
        return torch.nn.functional.one_hot(scores.argmax(-1), scores.shape[-1]).to(scores.dtype)

    monkeypatch.setattr(torch.nn.functional, "gumbel_softmax", without_noise)
    quantizer = pretraining_model().quantizer.train(sample)
    features = torch.randn(1, 40, 8, generator=torch.Generator().manual_seed(0))
    vectors, codes, perplexity, best = quantize(quantizer, features[0], sample)
    expected, expected_perplexity = quantizer(features, torch.ones(1, 40, dtype=torch.bool))
    torch.testing.assert_close(vectors, expected[0])
    torch.testing.assert_close(perplexity, expected_perplexity)
    assert best.sum(-1).tolist() == [40, 40] and codes.shape == (40, 2)


@pytest.mark.parametrize("family", ["wav2vec2-conformer", "wav2vec2"])
def test_losses_are_the_librarys_on_a_batch_without_padding(family):
    model = pretraining_model(model_type=family, num_codevectors_per_group=3)
    values = torch.stack(waves(12_000, 12_000))
    frames = count_frames(model.config, 12_000)
    masked, negatives = draw_batch([0, 1], [frames] * 2, frames, 0, DRAWS)
    positions = masked.flatten().nonzero()[:, 0]  # the library counts all frames of the batch
    theirs = torch.zeros(2, frames, 5, dtype=torch.long)
    theirs[masked] = positions[negatives]
    with torch.no_grad():
        expected = model(values, mask_time_indices=masked, sampled_negative_indices=theirs)
        prediction = MaskedPrediction(model, model.config.diversity_loss_weight).eval()
        out = prediction(values, torch.ones(2, 12_000), masked, negatives)
    for name in ("loss", "contrastive_loss", "diversity_loss"):
        torch.testing.assert_close(out[name], expected[name], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(out.code_perplexity, expected.codevector_perplexity * masked.sum())


@pytest.mark.parametrize("family", ["wav2vec2-conformer", "wav2vec2"])
@torch.no_grad()
def test_padding_and_company_change_no_loss(family):
    model = MaskedPrediction(pretraining_model(model_type=family), 0.1).eval()
    clips = waves(9000, 14_000, 5000)
    padded, mask = torch.full((3, 14_500), 7.0), torch.zeros(3, 14_500)
    for row, clip in enumerate(clips):
        padded[row, : len(clip)], mask[row, : len(clip)] = clip, 1
    counts = [count_frames(model.model.config, len(clip)) for clip in clips]
    together = model(padded, mask, *draw_batch([0, 1, 2], counts, count_frames(model.model.config, 14_500), 0, DRAWS))
    alone = [
        model(clip[None], torch.ones(1, len(clip)), *draw_batch([row], [counts[row]], counts[row], 0, DRAWS))
        for row, clip in enumerate(clips)
    ]
    torch.testing.assert_close(together.contrastive_loss, sum(out.contrastive_loss for out in alone), rtol=1e-5, atol=1e-4)
    assert together.correct == sum(out.correct for out in alone)
    assert torch.equal(together.best_codes, sum(out.best_codes for out in alone))


def test_a_batch_of_clips_too_short_to_mask_has_no_loss_and_finite_gradients():
    model = MaskedPrediction(pretraining_model(), 0.1).train()
    out = model(torch.stack(waves(800, 800)), torch.ones(2, 800), *draw_batch([0, 1], [2, 2], 2, 0, DRAWS))
    out.loss.backward()
    assert out.loss == 0
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


# ---------------------------------------------------------------------------------------------------- the real script


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("corpus") / "release", sessions=3, dialogs_per_session=1)


def write_tower(folder: Path, **changes) -> str:
    tower = seeded(lambda: Wav2Vec2ConformerForPreTraining(Wav2Vec2ConformerConfig(**{**TOWER, **changes})))
    tower.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    return write_tower(tmp_path_factory.mktemp("tower"), hidden_dropout=0.1, layerdrop=0.1)


@pytest.fixture(scope="module")
def arguments(corpus, tower, tmp_path_factory):
    cache = str(tmp_path_factory.mktemp("cache"))
    options = ["--data_dir", str(corpus), "--cache_dir", cache, "--speech_model", tower, "--folds", "2"]
    return [*options, "--epochs", "3", "--batch_size", "4", "--mask_length", "3", "--negatives", "5"]


@pytest.fixture(scope="module")
def finished(arguments, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "second_stage"
    assert lemer.pretrain.main([*arguments, "--output_dir", str(output)]) == 0
    return output


@pytest.fixture(scope="module")
def dataset(corpus, tmp_path_factory):
    rows, report = load_iemocap(corpus, cache_dir=tmp_path_factory.mktemp("cache"))
    return rows.filter(lambda label: label >= 0, input_columns="label"), report.fingerprints["all"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_the_checkpoint_is_taken_like_a_public_one(finished, tower):
    checkpoint = finished / "fold2/checkpoint"
    model = LemerModel.from_towers(str(checkpoint), None, modality="speech")
    assert model.config.keep_quantizer and model.speech_label_projection is not None
    trained, start = weights(checkpoint), weights(Path(tower))
    assert trained.keys() == start.keys()
    assert not torch.equal(trained["quantizer.codevectors"], start["quantizer.codevectors"])
    config = AutoConfig.from_pretrained(checkpoint)
    assert (config.layerdrop, config.mask_time_prob) == (0.1, 0.3)  # as they were


def test_what_is_left_says_how_it_went(finished, tower):
    log = [json.loads(line) for line in (finished / "fold2/log.jsonl").read_text().splitlines()]
    updates = [line for line in log if "loss" in line]
    results = json.loads((finished / "fold2/results.json").read_text())
    assert [line["step"] for line in updates] == list(range(1, 10)) and results["updates"] == 9
    for line in updates:
        assert line["loss"] == pytest.approx(line["contrastive_loss"] + 0.1 * line["diversity_loss"], rel=1e-4)
        assert 0 <= line["accuracy"] <= 1 and 2 <= line["code_perplexity"] <= 12
    assert results["sessions"] == [1, 3] and results["utterances"] == 12
    assert second_stage_settings(finished)["speech_model"] == tower
    assert {path.name for path in (finished / "fold2").iterdir()} <= {"checkpoint", "curve.png", "log.jsonl", "results.json"}


def test_the_session_held_out_and_the_labels_are_not_read(dataset, tower, tmp_path, monkeypatch):
    rows, fingerprint = dataset
    seen = set()

    class Spy(lemer.training.second_stage.SpeechCollator):
        def __call__(self, batch):
            assert not any("label" in row for row in batch)
            seen.update(row["session"] for row in batch)
            return super().__call__(batch)

    monkeypatch.setattr(lemer.training.second_stage, "SpeechCollator", Spy)
    settings = {**SECOND_STAGE["small"], "epochs": 1, "batch_size": 4}
    second_stage(tmp_path, rows.remove_columns("label"), 3, tower, fingerprint, settings)
    assert seen == {1, 2}


def test_the_memory_is_estimated_and_nothing_is_changed(dataset, tower, capsys):
    settings = {**SECOND_STAGE["small"], **DRAWS, "batch_size": 4}
    model, _ = load_for_pretraining(tower, settings)
    before, drawn = {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.get_rng_state()
    collator = SpeechCollator(Wav2Vec2FeatureExtractor.from_pretrained(tower), max_seconds=5)
    _say_memory(model, collator, dataset[0], 3, settings, Accelerator(cpu=True))
    assert "second stage 3, memory: about" in (said := capsys.readouterr().out)
    assert "batches of 4 utterances of up to" in said and "activations" in said
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_batches_of_a_gpu_differ_in_padding_alone(dataset, tower, tmp_path, monkeypatch):
    widths, losses = [], []

    class Spy(lemer.training.second_stage.SpeechCollator):
        def __call__(self, batch):
            made = super().__call__(batch)
            widths.append(made["input_values"].shape[1])
            return made

    monkeypatch.setattr(lemer.training.second_stage, "SpeechCollator", Spy)
    settings = {**SECOND_STAGE["small"], "epochs": 1, "batch_size": 4}
    for multiple in (None, 4000):
        monkeypatch.setattr(lemer.training.second_stage, "PAD_TO_MULTIPLE_OF", multiple)
        second_stage(tmp_path / str(multiple), dataset[0], 3, tower, dataset[1], settings)
        losses.append([json.loads(line) for line in (tmp_path / f"{multiple}/fold3/log.jsonl").read_text().splitlines()])
    half = len(widths) // 2
    assert widths[half:] == [-(-width // 4000) * 4000 for width in widths[:half]] != widths[:half]
    # Dropout and the codebook's noise are drawn for more frames, so nothing but their number of updates is the same.
    assert [line["step"] for line in losses[0]] == [line["step"] for line in losses[1]]
    assert all(np.isfinite(line["loss"]) for line in losses[1] if "loss" in line)


def test_what_is_finished_is_left_alone(finished, dataset, tower):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("fold2/**/*.*")}
    assert second_stage(finished, dataset[0], 2, tower, dataset[1]) == finished / "fold2/checkpoint"
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("fold2/**/*.*")}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"speech_model": "another"}, "speech_model was .*, is 'another'"),
        ({"corpus_fingerprint": "0"}, "corpus_fingerprint"),
        ({"settings": {"epochs": 9}}, "settings"),
    ],
)
def test_a_second_stage_of_something_else_is_refused(changed, message, finished, dataset, tower):
    given = {"speech_model": tower, "corpus_fingerprint": dataset[1], **changed}
    with pytest.raises(ValueError, match=message):
        second_stage(finished, dataset[0], 2, **given)


def test_a_tower_that_has_seen_the_session_held_out_is_refused(finished, dataset, tmp_path):
    trained = next(int(path.parent.name.removeprefix("fold")) for path in finished.glob("fold*/checkpoint"))
    tower = str(finished / f"fold{trained}/checkpoint")
    with pytest.raises(ValueError, match=f"for fold {trained}, and so on what fold {trained % 3 + 1} is tested on"):
        second_stage(tmp_path / "stage", dataset[0], trained % 3 + 1, tower, dataset[1])
    assert not (tmp_path / "stage").exists()


def test_an_interrupted_run_ends_like_an_undisturbed_one(finished, arguments, tmp_path, monkeypatch):
    draw, calls = lemer.training.second_stage.draw_batch, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) in (5, 11):  # within the second epoch, and within the third
            raise KeyboardInterrupt
        return draw(*args)

    monkeypatch.setattr(lemer.training.second_stage, "draw_batch", interrupted)
    monkeypatch.setattr(lemer.training.second_stage, "_say_memory", lambda *arguments: None)  # it draws too
    for _ in range(2):
        assert lemer.pretrain.main([*arguments, "--output_dir", str(tmp_path)]) == 130
        torch.manual_seed(99)
    assert lemer.pretrain.main([*arguments, "--output_dir", str(tmp_path)]) == 0
    assert len(calls) == 5 + 6 + 3
    for name in ("checkpoint/model.safetensors", "log.jsonl"):
        assert (tmp_path / "fold2" / name).read_bytes() == (finished / "fold2" / name).read_bytes()


def test_a_run_interrupted_within_an_epoch_goes_on_from_there(finished, arguments, tmp_path, monkeypatch):
    draw, calls = lemer.training.second_stage.draw_batch, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 6:  # at the last batch of the second epoch
            raise KeyboardInterrupt
        return draw(*args)

    monkeypatch.setattr(lemer.training.second_stage, "draw_batch", interrupted)
    monkeypatch.setattr(lemer.training.second_stage, "_say_memory", lambda *arguments: None)  # it draws too
    monkeypatch.setattr(lemer.training.second_stage, "STATE_STEPS", 1)
    assert lemer.pretrain.main([*arguments, "--output_dir", str(tmp_path)]) == 130
    torch.manual_seed(99)
    assert lemer.pretrain.main([*arguments, "--output_dir", str(tmp_path)]) == 0
    assert len(calls) == 6 + 4
    for name in ("checkpoint/model.safetensors", "log.jsonl"):
        assert (tmp_path / "fold2" / name).read_bytes() == (finished / "fold2" / name).read_bytes()


@pytest.mark.parametrize("name", ["small", "small-log-mel"])
def test_the_same_command_gives_the_same_tower(name, dataset, tmp_path):
    settings = {**second_stage_defaults(name), "epochs": 1, "batch_size": 4}
    towers = []
    for folder in ("first", "second"):
        torch.seed()  # what is drawn before a run must not matter
        towers.append(weights(second_stage(tmp_path / folder, dataset[0], 1, name, dataset[1], settings)))
    assert towers[0].keys() == towers[1].keys()
    assert all(torch.equal(towers[0][weight], towers[1][weight]) for weight in towers[0])


def test_while_another_run_makes_it_this_one_waits_and_takes_the_result(finished, dataset, tower, tmp_path):
    answers = []
    (tmp_path / "protocol.json").write_bytes((finished / "protocol.json").read_bytes())
    with hold(tmp_path / "fold2"):
        waiting = threading.Thread(target=lambda: answers.append(second_stage(tmp_path, dataset[0], 2, tower, dataset[1])))
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive() and not (tmp_path / "fold2").exists()
        (tmp_path / "fold2/checkpoint").mkdir(parents=True)
    waiting.join(60)
    assert answers == [tmp_path / "fold2/checkpoint"] and not list(answers[0].iterdir())


def test_two_processes_train_like_one(arguments, tmp_path, tower):
    # Best codes instead of sampled ones, and no dropout: nothing random but the masks.
    start = write_tower(tmp_path / "tower")
    options = [*arguments, "--speech_model", start, "--freeze_quantizer", "--epochs", "2"]
    assert lemer.pretrain.main([*options, "--output_dir", str(tmp_path / "one")]) == 0
    assert run_two("lemer.pretrain", [*options, "--output_dir", str(tmp_path / "two")]) == [0, 0]
    logs = [(tmp_path / run / "fold2/log.jsonl").read_text().splitlines() for run in ("one", "two")]
    one, two = ([line for line in map(json.loads, log) if "loss" in line] for log in logs)
    assert len(one) == len(two) == 6
    for name in ("contrastive_loss", "accuracy", "learning_rate"):
        np.testing.assert_allclose([line[name] for line in one], [line[name] for line in two], rtol=1e-4)


def test_frozen_codes_stay_as_they_are(arguments, tower, tmp_path):
    output = tmp_path / "frozen"
    assert lemer.pretrain.main([*arguments, "--freeze_quantizer", "--output_dir", str(output)]) == 0
    values = torch.stack(waves(9000, 9000))
    one, two = (
        frame_codes(LemerModel.from_towers(str(path), None, modality="speech"), values)
        for path in (tower, output / "fold2/checkpoint")
    )
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    trained, start = weights(output / "fold2/checkpoint"), weights(Path(tower))
    moved = {name for name in start if not torch.equal(trained[name], start[name])}
    assert {"project_q.weight", "project_hid.weight"} <= moved and not {n for n in moved if n.startswith("quantizer")}


def test_a_frozen_cnn_encoder_stays_as_it_is(arguments, tower, tmp_path):
    assert lemer.pretrain.main([*arguments, "--freeze_feature_encoder", "--output_dir", str(tmp_path)]) == 0
    trained, start = weights(tmp_path / "fold2/checkpoint"), weights(Path(tower))
    moved = {name for name in start if not torch.equal(trained[name], start[name])}
    assert not {name for name in moved if "feature_extractor" in name} and "quantizer.codevectors" in moved


@pytest.mark.parametrize("name", ["small", "small-log-mel"])
def test_a_small_tower_needs_no_checkpoint_and_keeps_its_spec_augment(name, dataset, tmp_path):
    settings = {**second_stage_defaults(name), "epochs": 1, "batch_size": 4}
    checkpoint = second_stage(tmp_path, dataset[0], 1, name, dataset[1], settings)
    new = make_small_speech_tower(tmp_path / "new", name=name)
    before, after = (AutoConfig.from_pretrained(path) for path in (new, checkpoint))
    for setting in ("mask_time_prob", "mel_mask_bands", "mel_mask_share"):
        assert getattr(after, setting, None) == getattr(before, setting, None)
    LemerModel.from_towers(str(checkpoint), None, modality="speech")


def test_a_collapsed_codebook_stops(arguments, tmp_path, capsys):
    start = write_tower(tmp_path / "tower")
    model = Wav2Vec2ConformerForPreTraining.from_pretrained(start)
    model.quantizer.weight_proj.weight.data.zero_()
    model.quantizer.weight_proj.bias.data[[0, 6]] = 9.0
    model.save_pretrained(start)
    options = ["--speech_model", start, "--freeze_quantizer", "--output_dir", str(tmp_path / "run")]
    assert lemer.pretrain.main([*arguments, *options]) == 1
    assert "codebook has collapsed, 2.0 of 12 codes" in capsys.readouterr().err
    assert not (tmp_path / "run/fold2/checkpoint").exists()


def test_a_loss_that_is_not_finite_stops_with_the_ids(arguments, tmp_path, capsys):
    options = ["--output_dir", str(tmp_path), "--learning_rate", "1e37", "--warmup_share", "0", "--max_grad_norm", "1e30"]
    assert lemer.pretrain.main([*arguments, *options]) == 1
    error = capsys.readouterr().err
    assert "loss is not finite" in error and "Ses0" in error


def test_a_tower_without_a_quantizer_is_refused(arguments, tmp_path, capsys):
    start = tmp_path / "ctc"
    settings = {name: value for name, value in TOWER.items() if name != "model_type"}
    Wav2Vec2ForCTC(Wav2Vec2Config(**settings, vocab_size=5)).save_pretrained(start)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(start)
    options = [*arguments, "--speech_model", str(start), "--output_dir", str(tmp_path / "run")]
    assert lemer.pretrain.main(options) == 1
    assert "no trained quantizer" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--epochs", "0"), ("--learning_rate", "0"), ("--weight_decay", "-1")])
def test_a_setting_that_cannot_be_is_refused(option, value, arguments, tmp_path):
    with pytest.raises(SystemExit):
        lemer.pretrain.main([*arguments, "--output_dir", str(tmp_path / "run"), option, value])
    assert not (tmp_path / "run").exists()


def test_an_unknown_fold_is_refused(arguments, tmp_path, capsys):
    assert lemer.pretrain.main([*arguments, "--output_dir", str(tmp_path / "run"), "--folds", "7"]) == 1
    assert "sessions [1, 2, 3]" in capsys.readouterr().err
