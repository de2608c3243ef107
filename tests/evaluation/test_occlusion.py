"""What decided an answer: words, seconds and turns left out and kept alone, and what is said of it."""

import math

import numpy as np
import pytest
import torch
from tiny import tiny_cross_modal, tiny_model, tiny_processor

from lemer.evaluation import occlusion_html
from lemer.evaluation.attention_figure import draw_label_attentions, frame_times, label_attention_figure
from lemer.evaluation.occlusion import MOST, log_odds, occlusion, parts_of, word_spans

SAMPLES = (0.1 * np.random.default_rng(0).normal(size=4000)).astype(np.float32)  # 12 frames
TEXT, HISTORY = "i hate this day", ["hello", "you are late again"]

# ------------------------------------------------------------------------------------------- what leaving out changes


def test_effects_are_the_scores_without_each_word_second_and_turn_and_with_each_alone():
    model, processor, rate = tiny_model(), tiny_processor(), 16_000
    samples, words = np.concatenate([SAMPLES] * 6), TEXT.split()  # 1.5 s, three parts
    arrays = occlusion(model, processor, samples, TEXT, HISTORY)
    normalised = processor(audio=samples, sampling_rate=rate, return_tensors="pt")["input_values"]
    stretches = [(0, 0.5), (0, 1), (0.5, 1.5), (1, 1.5)]  # seconds, and half a second at each end
    np.testing.assert_allclose(arrays["stretch_bounds"], stretches)

    def scores(words=words, history=HISTORY, heard=((0, 1.5),)) -> np.ndarray:  # and log-odds
        batch = dict(processor(text=" ".join(words), history=history, return_tensors="pt"))
        batch["input_values"] = torch.cat([normalised[:, int(begin * rate) : int(end * rate)] for begin, end in heard], 1)
        with torch.no_grad():
            scores = model(**batch).logits.double().softmax(-1)[0].numpy()
        return np.array([scores, np.log2(scores / (1 - scores))])

    whole = scores()
    for index, changes in enumerate(zip(arrays["word_effects"], arrays["word_evidence"], strict=True)):
        np.testing.assert_allclose(changes, whole - scores(words[:index] + words[index + 1 :]), atol=1e-4)
        np.testing.assert_allclose(arrays["word_alone"][index], scores([words[index]])[0], atol=1e-5)
    np.testing.assert_allclose(arrays["no_word"], scores([])[0], atol=1e-5)
    assert arrays["part_bounds"].tolist() == [0.0, 0.5, 1.0, 1.5]
    rests = [((0.5, 1.5),), ((1, 1.5),), ((0, 0.5),), ((0, 1),)]
    seconds = [whole - scores(heard=rest) for rest in rests]
    alone = [scores(heard=(span,))[0] for span in stretches]
    np.testing.assert_allclose(arrays["stretch_effects"], [effects for effects, _ in seconds], atol=1e-4)
    np.testing.assert_allclose(arrays["stretch_alone"], alone, atol=1e-5)
    for part, changes in enumerate(zip(arrays["part_effects"], arrays["part_evidence"], strict=True)):
        np.testing.assert_allclose(changes, (seconds[part] + seconds[part + 1]) / 2, atol=1e-4)
        np.testing.assert_allclose(arrays["part_alone"][part], (alone[part] + alone[part + 1]) / 2, atol=1e-5)
    normalised = torch.zeros_like(normalised)
    np.testing.assert_allclose(arrays["no_part"], scores()[0], atol=1e-5)


def test_only_turns_that_the_model_reads_are_left_out():
    model, processor = tiny_model(modality="text"), tiny_processor(max_history=2)
    turns = ["hello", "you are late again", " ", "so late"]
    arrays = occlusion(model, processor, None, TEXT, turns)
    assert arrays["turns"].tolist() == ["you are late again", "so late"]

    def scores(history) -> np.ndarray:
        with torch.no_grad():
            return model(**processor(text=TEXT, history=history, return_tensors="pt")).logits.softmax(-1)[0].numpy()

    np.testing.assert_allclose(arrays["scores"], scores(turns), atol=1e-6)
    for kind, rests in (
        ("turn_effects", [["so late"], ["you are late again"]]),
        ("turn_alone", [["you are late again"], ["so late"]]),
    ):
        expected = np.array([scores(rest) for rest in rests])
        expected = arrays["scores"] - expected if kind == "turn_effects" else expected
        np.testing.assert_allclose(arrays[kind], expected, atol=1e-6)
    np.testing.assert_allclose(arrays["no_turn"], scores([]), atol=1e-6)
    assert "turns" not in occlusion(model, tiny_processor(max_history=0), None, TEXT, turns)


def test_log_odds_of_scores_near_one_by_hand():
    logits = torch.tensor([[40.0, 0.0, -math.inf], [math.log(3), 0.0, -math.inf]])  # whose scores are 1 - 4e-18, and 0.75
    odds = log_odds(logits)[:, :2]
    assert odds[0].tolist() == pytest.approx([40 / math.log(2), -40 / math.log(2)], rel=1e-6)
    assert odds[1].tolist() == pytest.approx([math.log2(3), -math.log2(3)], rel=1e-6)


def test_of_a_recording_of_two_parts_each_is_left_out_by_itself():
    """And not the whole, which would give both bars the answer to no recording."""
    model, processor = tiny_model(modality="speech"), tiny_processor()
    samples = np.concatenate([SAMPLES, SAMPLES, np.repeat(SAMPLES[::2], 4)])  # 1 s
    arrays = occlusion(model, processor, samples)
    clip = processor(audio=samples, sampling_rate=16_000, return_tensors="pt")["input_values"]
    with torch.no_grad():
        halves = [model(input_values=half).logits.softmax(-1)[0].numpy() for half in clip.chunk(2, 1)]
    np.testing.assert_allclose(arrays["part_alone"], halves, atol=1e-5)
    np.testing.assert_allclose(arrays["scores"] - arrays["part_effects"], halves[::-1], atol=1e-5)
    effects, evidence = (arrays[f"stretch_{name}"][:, 2] for name in ("effects", "evidence"))
    place, score = int(np.abs(evidence).argmax()), arrays["scores"][2]
    without = " to ".join(occlusion_html.percents(score, score - effects[place]))
    span = ("0.0 to 0.5", "0.5 to 1.0")[place]
    assert f"Without what is heard from {span} s, the score of sad goes from {without} %" in " ".join(
        occlusion_html.sentences(arrays, 2, "sad")
    )


def test_the_answer_to_silence_is_the_same_in_any_batch():
    """Of zeros all log-Mel bands are equal. The norms of the tower must not make an answer of their rounding errors."""
    speech = {"front_end": "log_mel", "feat_extract_norm": "layer", "conv_kernel": (400, 3, 3), "conv_stride": (160, 2, 2)}
    speech |= {"conv_dim": (80, 12, 8), "mel_mask_bands": 27, "mel_mask_share": 0.3}
    model, processor = tiny_model(modality="speech", speech=speech), tiny_processor()
    with torch.no_grad():
        for layer in model.speech_model.feature_extractor.conv_layers[1:]:
            layer.conv.weight.mul_(10)
    length = 14_400  # where the mean of the bands is rounded differently in a longer batch
    batch = torch.nn.utils.rnn.pad_sequence([torch.zeros(length), torch.ones(24_000)], batch_first=True)
    mask = (torch.arange(24_000) < torch.tensor([[length], [24_000]])).long()
    with torch.no_grad():
        together = model(input_values=batch, input_values_mask=mask).logits[0].softmax(-1).numpy()
    arrays = occlusion(model, processor, np.resize(SAMPLES, length))
    np.testing.assert_allclose(arrays["no_part"], together, atol=1e-6)


def test_a_recording_is_heard_once_for_many_texts():
    model, heard = tiny_model(), []
    model.register_forward_pre_hook(lambda module, given, named: heard.append(named["input_values"].shape), with_kwargs=True)
    arrays = occlusion(model, tiny_processor(), SAMPLES, TEXT, HISTORY)  # 14 variants of words and turns, and the whole
    assert len(arrays["words"]) == 4 and sum(rows for rows, _ in heard) == 2 + 3  # and three of one part
    model, heard = tiny_cross_modal(), []  # whose attention takes as many recordings as texts
    model.register_forward_pre_hook(lambda module, given, named: heard.append(named["input_values"].shape), with_kwargs=True)
    occlusion(model, tiny_processor(), SAMPLES, TEXT, HISTORY)
    assert sum(rows for rows, _ in heard) == 15 + 3


def test_a_stock_encoder_answers_as_it_does_alone():
    """Its frames change with what is padded beside them."""
    model, processor = tiny_model(modality="speech", padding_safe=False), tiny_processor()
    samples = np.concatenate([SAMPLES, 3 * SAMPLES[::-1]] * 3)  # 1.5 s
    arrays = occlusion(model, processor, samples)
    clip = processor(audio=samples, sampling_rate=16_000, return_tensors="pt")["input_values"]
    with torch.no_grad():
        alone = [model(input_values=clip[:, int(a * 16_000) : int(b * 16_000)]).logits for a, b in arrays["stretch_bounds"]]
    np.testing.assert_allclose(arrays["stretch_alone"], torch.cat(alone).softmax(-1), atol=1e-5)


def test_no_bar_is_over_a_silence_that_the_model_does_not_hear():
    rate, noise = 16_000, np.random.default_rng(0).normal(size=(2, 16_000)).astype(np.float32)
    samples = np.concatenate([np.zeros(rate), noise[0], np.zeros(3 * rate), noise[1], np.zeros(2 * rate)]).astype(np.float32)
    model, processor = tiny_model(modality="speech"), tiny_processor(max_silence=0.2)
    _, arrays = label_attention_figure(model, processor, {"array": samples, "sampling_rate": rate})
    assert arrays["seconds"] == 8 and np.round(arrays["heard"]).tolist() == [[1, 2], [5, 6]]
    bars = occlusion_html.stretches_drawn(arrays)
    assert sum(end - begin for _, begin, end in bars) == pytest.approx(np.diff(arrays["heard"]).sum())
    assert not any(end > 2.2 and begin < 4.8 for _, begin, end in bars)
    assert {part for part, _, _ in bars} == set(range(len(arrays["part_evidence"])))
    _, (_, without, _) = draw_label_attentions(arrays)
    assert [bar.get_x() for bar in without.patches] == pytest.approx([begin for _, begin, _ in bars])
    shown = occlusion_html.occlusion_html(arrays, 0, "angry", samples)
    assert shown.count("<rect") == len(bars) and "<span>8.0 s</span>" in shown
    first = f'x="{125 * bars[0][1] + 0.08 * 125 * (bars[0][2] - bars[0][1]):.1f}"'  # 8 s are 1000 units, as of the waveform
    assert first in shown


def test_words_of_scripts_without_blanks_are_characters():
    def words(text):
        return [text[begin:end] for begin, end in word_spans(text)]

    assert words(" so  late, you!") == ["so", "late,", "you!"]
    assert words("我恨，你 hi!") == ["我", "恨，", "你", "hi!"]
    assert words("おそいcafé") == ["お", "そ", "い", "café"] and words("a" * 90) == ["a" * 90]


def test_a_long_utterance_is_left_out_in_at_most_so_many_groups_and_parts():
    text = "hello " * 39 + "hate this " + "you " * 19
    _, arrays = label_attention_figure(*model_that_knows_hate(), None, text)
    assert len(arrays["words"]) == MOST and " ".join(arrays["words"]) == text.strip()
    place = int(arrays["word_effects"][:, 0].argmax())
    assert "hate" in arrays["words"][place] and arrays["label_word_attentions"].shape == (MOST, 4)
    group = occlusion_html._quoted(arrays["words"][place])
    assert occlusion_html.sentences(arrays, 0, "angry")[0].startswith(f"Without the words {group}, the score")
    assert parts_of(60 * 16_000, 16_000).tolist() == [2.5 * 16_000 * part for part in range(MOST + 1)]


def model_that_knows_hate():
    """BERT without layers gives each word a vector of its own; the classifier and a label know that of "hate"."""
    model = tiny_model(modality="text", text={"num_hidden_layers": 0})
    processor, embeddings = tiny_processor(), model.text_model.embeddings
    hate = processor.tokenizer.convert_tokens_to_ids("hate")
    with torch.no_grad():
        embeddings.position_embeddings.weight.zero_()
        embeddings.token_type_embeddings.weight.zero_()
        embeddings.word_embeddings.weight[:, 0] = -3.0
        embeddings.word_embeddings.weight[hate, 0] = 30.0
        embeddings.LayerNorm.weight.fill_(1.0)
        embeddings.LayerNorm.bias.zero_()
        model.classifier.weight.zero_()
        model.classifier.weight[0, 0] = 2.0
        model.classifier.bias.copy_(torch.tensor([0.0, 1.0, 0.0, 0.0]))
        model.semantic_label_embeddings[0] = embeddings.word_embeddings.weight[hate]
    return model, processor


@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_word_that_alone_decides_is_found(place):
    words = ["you", "are", "so", "late", "again"]
    words[place] = "hate"
    _, arrays = label_attention_figure(*model_that_knows_hate(), None, " ".join(words))
    assert arrays["scores"].argmax() == 0
    effects, evidence = arrays["word_effects"][:, 0], arrays["word_evidence"][:, 0]
    assert effects.argmax() == place and effects[place] > 0.5 and np.abs(np.delete(effects, place)).max() < 0.01
    assert evidence.argmax() == place and evidence[place] > 3 * np.abs(np.delete(evidence, place)).max()
    nearness = arrays["label_word_attentions"] - arrays["label_word_attentions"].mean(1, keepdims=True)
    assert nearness[:, 0].argmax() == place


def test_a_word_that_is_said_twice_is_found_alone():
    """Without one of the two the other decides, so leaving out a word finds neither."""
    _, arrays = label_attention_figure(*model_that_knows_hate(), None, "you hate me and hate this")
    assert np.abs(arrays["word_effects"][:, 0]).max() < 0.01
    alone, nothing = arrays["word_alone"][:, 0], arrays["no_word"][0]
    assert (alone > 0.9).nonzero()[0].tolist() == [1, 4] and np.delete(alone, [1, 4]).max() < nothing + 0.01 < 0.5
    said = occlusion_html.sentences(arrays, 0, "angry")
    assert said[0] == "No single word changes the log-odds of angry by 0.1 when it is left out."
    assert said[1].startswith(
        "With the word \N{LEFT DOUBLE QUOTATION MARK}hate\N{RIGHT DOUBLE QUOTATION MARK} alone its score"
    )


def test_a_word_that_is_said_twice_is_told_beside_one_that_matters_less():
    model, processor = model_that_knows_hate()
    late = processor.tokenizer.convert_tokens_to_ids("late")
    with torch.no_grad():
        model.text_model.embeddings.word_embeddings.weight[:, 1] = -3.0
        model.text_model.embeddings.word_embeddings.weight[late, 1] = 1.0
        model.classifier.weight[0, 1] = 1.0
    said = occlusion_html.sentences(occlusion(model, processor, None, "you hate me and hate late days"), 0, "angry")
    assert said[0].startswith("Without the word “late”, the score of angry goes from ")
    assert said[1].startswith("With the word “hate” alone its score is ")


def test_two_words_that_decide_together_are_both_told():
    model, processor = model_that_knows_hate()
    words = model.text_model.embeddings.word_embeddings.weight
    with torch.no_grad():
        words[:, :2] = -3.0
        for column, word in enumerate(("so", "late")):
            words[processor.tokenizer.convert_tokens_to_ids(word), column] = 6.0
        model.classifier.weight[0, :2] = 2.0
        model.classifier.bias[0] = -8.0
    arrays = occlusion(model, processor, None, "you are so late again")
    assert arrays["scores"].argmax() == 0 and arrays["word_alone"][:, 0].max() < 0.01
    said = occlusion_html.sentences(arrays, 0, "angry")
    assert {"so", "late"} == {sentence.split("“")[1].split("”")[0] for sentence in said[:2]}
    assert (
        said[1].startswith("Without the word ") and " to 0." in said[1] and "log-odds fall by" in said[1] and len(said) == 3
    )


def test_words_and_turns_that_the_model_does_not_read_decide_nothing():
    """Nor are they let in by leaving out others."""
    model, _ = model_that_knows_hate()
    arrays = occlusion(model, tiny_processor(max_text_length=8), None, "you are so late again this day we hate")
    assert arrays["words"].tolist() == "you are so late again this".split() and arrays["unread"] == 3
    assert np.abs(arrays["word_effects"]).max() < 0.01 and arrays["word_alone"][:, 0].max() < 0.01
    said = occlusion_html.sentences(arrays, 1, "happy")
    assert said[0] == "The last 3 words are not read: the text is too long for the model."
    assert said[2] == "Nor do all of them together: with no word its score is 58 %."
    turns = ["i hate this day", "you are so late again " * 3, "we won"]
    arrays = occlusion(model, tiny_processor(max_text_length=15), None, "you are", turns)  # 10 of history
    assert arrays["turns"].tolist() == turns[1:] and np.abs(arrays["turn_effects"]).max() < 0.01
    arrays = occlusion(model, tiny_processor(max_text_length=8), None, "you are so late again this day", ["hate"])
    assert "turns" not in arrays and np.abs(arrays["word_effects"]).max() < 0.01  # there is no room for a turn


def test_a_text_without_words_is_none():
    model, processor = tiny_model(), tiny_processor()
    for blank in ("", " ", "\u200b"):
        _, arrays = label_attention_figure(model, processor, SAMPLES, blank)
        assert "words" not in arrays and arrays["scores"] == pytest.approx(occlusion(model, processor, SAMPLES)["scores"])


def test_a_turn_that_alone_decides_is_found():
    arrays = occlusion(*model_that_knows_hate(), None, "so late again", ["hello", "i hate this day", "you are late"])
    assert arrays["scores"].argmax() == 0 and np.abs(arrays["word_effects"][:, 0]).max() < 0.01
    effects, alone = arrays["turn_effects"][:, 0], arrays["turn_alone"][:, 0]
    assert effects[1] > 0.5 and np.abs(effects[[0, 2]]).max() < 0.01
    assert alone[1] > 0.9 and alone[[0, 2]].max() < arrays["no_turn"][0] + 0.01 < 0.5


@pytest.mark.parametrize(("begin", "end"), [(0, 1), (1, 2), (2, 3), (1, 4), (0, 3), (2.3, 2.5)])
def test_a_sound_that_alone_decides_is_found(begin, end):
    """A tone in silence, frames that hear no others, and a classifier of the feature that tells the tone best."""
    model = tiny_model(modality="speech", speech={"num_hidden_layers": 0, "feat_extract_norm": "layer"})
    processor, rate = tiny_processor(), 16_000
    samples = np.zeros(5 * rate, dtype=np.float32)
    places = np.arange(int(begin * rate), int(end * rate))
    samples[places] = np.sin(places * 2 * np.pi * 100 / rate)  # 100 Hz
    with torch.no_grad():
        out = model(**processor(audio=samples, sampling_rate=rate, return_tensors="pt"))
        hidden = out.speech_model_output.last_hidden_state[0]
        times = torch.tensor(frame_times(model.config.speech_config, len(hidden)))
        inner = hidden[(times > begin + 0.02) & (times < end - 0.02)].amin(0)
        outer = hidden[(times < begin - 0.02) | (times > end + 0.02)].amax(0)
        feature = int((inner - outer).argmax())
        steep = 40 / (inner - outer)[feature]
        model.classifier.weight.zero_()
        model.classifier.bias.zero_()
        model.classifier.weight[1, feature] = steep
        model.classifier.bias[1] = -steep * (inner + outer)[feature] / 2
    _, arrays = label_attention_figure(model, processor, {"array": samples, "sampling_rate": rate})
    assert arrays["scores"].argmax() == 1
    effects, alone = arrays["part_effects"][:, 1], arrays["part_alone"][:, 1]
    bounds = arrays["part_bounds"]
    inside = (bounds[:-1] < end) & (bounds[1:] > begin)
    if end - begin > 1:  # no second is needed, but each is enough
        assert np.abs(effects).max() < 0.01
    else:
        assert effects[inside].min() > 0.3 and effects[~inside].max() < 0.6 * effects.max()
        assert arrays["part_evidence"][:, 1].argmax() in inside.nonzero()[0]
    assert alone[inside].min() > 0.5 + arrays["no_part"][1] and alone[~inside].max() < 0.75 * alone.max()


# ------------------------------------------------------------------------------------------- what decided, for a page


def test_scores_have_more_digits_near_their_bounds():
    scores = (0.5, 0.81, 0.056, 0.0004, 0.9995, 1.0)
    assert [occlusion_html.percent(score) for score in scores] == ["50", "81.0", "5.6", "0.04", "99.95", "100.00"]


def test_two_scores_have_the_digits_that_tell_them_apart():
    assert occlusion_html.percents(0.42, 0.4) == ("42", "40")
    assert occlusion_html.percents(0.99874, 0.998745) == ("99.8740", "99.8745")
    assert occlusion_html.percents(1 - 1e-6, 1 - 4e-6) == ("99.9999", "99.9996")
    assert occlusion_html.percents(0.3, 0.3) == ("30", "30")


def test_what_decided_is_said_in_words_and_drawn_to_one_scale():
    arrays = {
        "scores": np.array([0.7, 0.3]),
        "words": np.array(["so", "<b>", "happy!"]),
        "word_effects": np.array([[0.0, 0.0], [-0.1, 0.1], [0.4, -0.4]]),
        "word_evidence": np.array([[0.0, 0.0], [-1.2, 0.05], [8.0, 0.0]]),
        "word_alone": np.array([[0.5, 0.5], [0.6, 0.4], [0.9, 0.1]]),
        "no_word": np.array([0.55, 0.45]),
        "part_bounds": np.array([0.0, 0.5, 1.0]),
        "part_effects": np.array([[0.3, 0.0], [0.0, 0.0]]),
        "part_evidence": np.array([[4.0, 0.0], [0.0, 0.0]]),
        "part_alone": np.array([[0.75, 0.25], [0.5, 0.5]]),
        "no_part": np.array([0.25, 0.75]),
        "seconds": np.array(1.0),
        "heard": np.array([[0.0, 1.0]]),
        "turns": np.array(["I am <late>.", "So what?"]),
        "turn_effects": np.array([[0.3, 0.0], [0.0, 0.0]]),
        "turn_evidence": np.array([[2.0, 0.0], [0.0, 0.0]]),
        "turn_alone": np.array([[0.7, 0.3], [0.5, 0.5]]),
        "no_turn": np.array([0.4, 0.6]),
    }
    arrays |= {f"stretch_{name}": arrays[f"part_{name}"] for name in ("effects", "evidence", "alone")}  # of two parts
    arrays["stretch_bounds"] = np.array([[0.0, 0.5], [0.5, 1.0]])
    shown = occlusion_html.occlusion_html(arrays, 0, "happy", np.array([0.0, 1.0, -1.0, 0.5]))
    assert (
        "Without the word “happy”, the score of happy goes from 70 to 30 %, and its log-odds fall by 8.0. Without the word "
        "“&lt;b&gt;”, the score of happy goes from 70 to 80 %, and its log-odds rise by 1.2." in shown
    )
    assert "Without what is heard from 0.0 to 0.5 s, the score of happy goes from 70 to 40 %" in shown
    assert "bottom: 50%; height: 50.0%" in shown and "top: 50%; height: 7.5%" in shown  # 8 fill the half, 1.2 of 8
    assert 'height="48.0"' in shown and "<b>" not in shown  # 4 of 8 fill half of 96 units
    assert 'title="log-odds \N{MINUS SIGN}1.2, score 80 % without it, 60 % with it alone"' in shown
    assert "<title>0.0 to 0.5 s: log-odds +4.0, score 40 % without it, 75 % with it alone</title>" in shown
    assert "Without the turn “I am &lt;late&gt;.”, the score of happy goes from 70 to 40 %" in shown
    assert shown.count("<ol") == 2 and '<span class="score">40</span> <span class="score">alone 70</span></li>' in shown
    nothing = occlusion_html.occlusion_html(arrays, 1, "sad")
    assert "No single word changes the log-odds of sad by 0.1" in nothing and "height: 5.0%" in nothing  # 0.05 of 0.5
    assert "With the word “happy” alone its score is 10.0 %, with no word 45 %." in nothing
    assert "With what is heard from 0.0 to 0.5 s alone its score is 25 %, with silence 75 %." in nothing
    assert "With the turn “I am &lt;late&gt;.” alone its score is 30 %, with no earlier turn 60 %." in nothing
