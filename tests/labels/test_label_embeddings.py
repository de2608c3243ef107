"""Key words, key frames and label embeddings: TF-IDF by hand, codes of the stock quantizer, slow loops, a tiny release."""

import math

import numpy as np
import pytest
import torch
from releases import COMMON_WORDS, WORDS, write_release
from tiny import SPEECH, perturb, seeded, tiny_model, tiny_processor, tiny_tokenizer
from transformers import Wav2Vec2ConformerConfig, Wav2Vec2ConformerForPreTraining

from lemer import LemerModel
from lemer.corpora.iemocap import load_iemocap
from lemer.labels.descriptions import best_terms, class_tfidf, is_function_word, key_codes, key_words, name_words
from lemer.labels.label_embeddings import _warn_of_labels_alike, build_label_embeddings, format_cosines, label_cosines
from lemer.labels_lemer import frame_codes, semantic_label_embeddings, tonal_label_embeddings

NAMES = ("ang", "hap", "neu", "sad")
LENGTHS = (3000, 1700, 400)


# ------------------------------------------------------------------------------------------------------------ TF-IDF


def test_class_tfidf_by_hand():
    # Rates (n + 0.5) / (total + 1): 0.7 and 0.1 for the first term, 0.1 and 0.1 for the second.
    scores = class_tfidf(np.array([[3, 0], [0, 0]]), np.array([4, 4]))
    assert scores == pytest.approx(np.array([[math.log(4) * math.log(2 / (0.8 / 0.7)), 0.0], [0.0, 0.0]]))


def test_a_term_equally_common_everywhere_has_no_score():
    scores = class_tfidf(np.array([[5], [5], [5]]), np.array([9, 9, 9]))
    assert scores == pytest.approx(0.0, abs=1e-12)


def test_scores_compare_rates_and_not_counts():
    scores = class_tfidf(np.array([[9], [10]]), np.array([9, 100]))
    assert scores[0, 0] > 0 == scores[1, 0]


def test_best_terms_are_in_the_order_of_scores_with_ties_in_the_order_of_terms():
    assert best_terms(np.array([[0.1, 0.5, 0.0, 0.5, 0.3]]), 3) == [[1, 3, 4]]


def test_terms_without_a_score_are_never_chosen():
    assert best_terms(np.array([[0.0, 0.2], [0.0, 0.0]]), 2) == [[1], []]


# --------------------------------------------------------------------------------------------------------- key words


def planted_texts() -> tuple[list[str], list[int]]:
    """Ten texts a class of common words, and one word of the class's own in each."""
    rng = np.random.default_rng(0)
    texts, labels = [], []
    for label, planted in enumerate(("fury", "smile", "table", "tears")):
        for _ in range(10):
            texts.append(" ".join([*rng.choice(["went", "home", "the", "you", "is"], 5), planted]))
            labels.append(label)
    return texts, labels


def test_a_planted_word_is_its_classs_first_key_word():
    found = key_words(*planted_texts(), NAMES)
    assert [found[name][0] for name in NAMES] == ["fury", "smile", "table", "tears"]


@pytest.mark.parametrize("word", ["the", "it's", "don't", "we'll", "i’m", "uh", "you", "ain't"])
def test_function_words_are_known(word):
    assert is_function_word(word)


@pytest.mark.parametrize(
    "word", ["cry", "fire", "serious", "hate", "love", "sincere", "never", "nothing", "alone", "please", "no"]
)
def test_words_that_tell_emotions_are_no_function_words(word):
    assert not is_function_word(word)


def test_function_words_of_one_class_alone_stay_out():
    found = key_words(["you don't hate", "oh great", "paper", "lost"], range(4), NAMES)
    assert found == {"ang": ["hate"], "hap": ["great"], "neu": ["paper"], "sad": ["lost"]}


def test_a_word_of_few_dialogs_is_the_topic_of_these_and_no_key_word():
    texts = [*["cougars win now"] * 30, *[f"horrible day {number}" for number in range(70)], *["great"] * 80]
    labels, dialogs = [0] * 100 + [1] * 80, [*["d1", "d2", "d3"] * 10, *(f"d{number}" for number in range(4, 154))]
    assert key_words(texts, labels, ("ang", "hap"), 3)["ang"] == ["day", "horrible", "cougars"]
    assert key_words(texts, labels, ("ang", "hap"), 3, dialogs)["ang"] == ["day", "horrible"]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_there_are_k_key_words_where_there_are_enough(k):
    texts = ["hate stop furious", "great love laugh", "table paper number", "cry lost gone"]
    assert {len(found) for found in key_words(texts, range(4), NAMES, k).values()} == {k}


def test_a_word_counts_once_in_a_text():
    texts = ["shout shout shout shout", "stop it", "stop now", "stop", "great"]
    assert key_words(texts, [0, 0, 0, 0, 1], ("ang", "hap"), 1)["ang"] == ["stop"]


@pytest.mark.parametrize(
    ("texts", "labels", "k", "message"),
    [
        (["hate", "great"], [0, 1], 0, "at least 1, got 0"),
        (["hate", "stop"], [0, 0], 9, "label hap"),
        (["... !", "?"], [0, 1], 9, "hold no word"),
        (["hate", "the"], [0, 1], 9, "texts of hap"),
    ],
)
def test_key_words_that_cannot_be_found_are_an_error(texts, labels, k, message):
    with pytest.raises(ValueError, match=message):
        key_words(texts, labels, ("ang", "hap"), k)


def test_random_labels_that_are_not_trained_are_drawn_and_differ():
    model = tiny_model(modality="speech")
    model.tonal_label_embeddings.zero_()
    build_label_embeddings(model, tiny_processor(), None, tonal="random")
    assert model.untrained == [] and len(model.tonal_label_embeddings.unique()) == 40


@pytest.mark.parametrize("centering", ["none", "labels"])
def test_cosines_of_labels_by_hand_and_a_warning_where_they_are_alike(centering, caplog):
    model = tiny_model(modality="speech", label_centering=centering)
    shared = torch.arange(10.0)
    model.tonal_label_embeddings.copy_(shared + torch.eye(10)[:4])
    labels = model.tonal_label_embeddings - (model.tonal_label_embeddings.mean(0) if centering == "labels" else 0)
    expected = [[float(a @ b / a.norm() / b.norm()) for b in labels] for a in labels]
    cosines = label_cosines(model)
    np.testing.assert_allclose(cosines["tonal"], expected, atol=1e-4)
    assert f"ang-hap {cosines['tonal'][0][1]:.3f}" in format_cosines(cosines, list(NAMES))
    _warn_of_labels_alike(model)
    assert ("6 of 6 pairs of tonal labels" in caplog.text) == (centering == "none")


def test_semantic_label_embeddings_are_means_over_word_pieces_without_special_tokens():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    words = {"ang": ["hate", "furious"], "hap": ["great"], "neu": ["table", "day", "you"], "sad": ["zz"]}
    got = semantic_label_embeddings(model.text_model, tokenizer, words, NAMES)
    for name, row in zip(NAMES, got.double(), strict=True):
        pieces = tokenizer.tokenize(" ".join(words[name]))
        ids = tokenizer.convert_tokens_to_ids(["[CLS]", *pieces, "[SEP]"])
        hidden = model.text_model(torch.tensor([ids])).last_hidden_state[0].double()
        expected = sum(hidden[position] for position in range(1, 1 + len(pieces))) / len(pieces)
        torch.testing.assert_close(row, expected, rtol=1e-5, atol=1e-6)


def test_label_embeddings_follow_the_order_of_the_classes_and_not_of_the_words():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    words = {"sad": ["late"], "neu": ["day"], "hap": ["great"], "ang": ["hate"]}
    turned = dict(reversed(words.items()))
    one, other = (semantic_label_embeddings(model.text_model, tokenizer, each, NAMES) for each in (words, turned))
    assert torch.equal(one, other)


@pytest.mark.parametrize("train", [False, True])
def test_label_embeddings_are_made_without_dropout_and_the_mode_is_put_back(train):
    model, tokenizer = tiny_model(text={"hidden_dropout_prob": 0.5}).train(train), tiny_tokenizer()
    words = {name: ["hate", "day"] for name in NAMES}
    one, other = (semantic_label_embeddings(model.text_model, tokenizer, words, NAMES) for _ in range(2))
    assert torch.equal(one, other) and model.training is train


# -------------------------------------------------------------------------------------------------------- key frames


def padded(clips) -> dict[str, torch.Tensor]:
    mask = torch.arange(max(map(len, clips))) < torch.tensor([len(clip) for clip in clips])[:, None]
    return {"input_values": torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), "input_values_mask": mask.long()}


@pytest.fixture(scope="module")
def clips():
    return [torch.randn(length, generator=torch.Generator().manual_seed(length)) for length in LENGTHS]


@pytest.fixture(scope="module", params=["group", "layer"])
def pre_trained(request, tmp_path_factory):
    """The stock pre-training model, and a LemerModel made of it."""
    folder = tmp_path_factory.mktemp("speech") / request.param
    settings = {**SPEECH, "feat_extract_norm": request.param}
    settings.pop("model_type")
    stock = perturb(seeded(lambda: Wav2Vec2ConformerForPreTraining(Wav2Vec2ConformerConfig(**settings)))).eval()
    stock.save_pretrained(folder)
    return stock, LemerModel.from_towers(str(folder), None, modality="speech")


@torch.no_grad()
def stock_features(stock, clip) -> torch.Tensor:
    return stock.wav2vec2_conformer(clip[None]).extract_features


def test_frame_codes_are_the_stock_quantizers_argmax(pre_trained, clips):
    stock, model = pre_trained
    for clip, codes in zip(clips, frame_codes(model, **padded(clips)), strict=True):
        scores = stock.quantizer.weight_proj(stock_features(stock, clip))[0]
        expected = [[scores[f, 6 * g : 6 * g + 6].argmax().item() for g in range(2)] for f in range(len(scores))]
        assert codes.tolist() == expected


def test_code_vectors_of_the_codes_are_what_the_stock_quantizer_returns(pre_trained, clips):
    stock, model = pre_trained
    (codes,) = frame_codes(model, clips[0][None])
    expected, _ = stock.quantizer(stock_features(stock, clips[0]))
    codebook = stock.quantizer.codevectors[0].view(2, 6, 6)
    got = torch.stack([torch.cat([codebook[g, code[g]] for g in range(2)]) for code in codes])
    torch.testing.assert_close(got, expected[0])


def test_codes_of_the_test_clips_differ_within_a_clip(pre_trained, clips):
    (codes,) = frame_codes(pre_trained[1], clips[0][None])
    assert len(np.unique(codes, axis=0)) > 1


def test_padding_has_no_codes(pre_trained, clips):
    alone = [frame_codes(pre_trained[1], clip[None])[0] for clip in clips]
    assert all(map(np.array_equal, frame_codes(pre_trained[1], **padded(clips)), alone))


def test_the_order_of_a_batch_changes_no_code(pre_trained, clips):
    turned = frame_codes(pre_trained[1], **padded(clips[::-1]))[::-1]
    assert all(map(np.array_equal, frame_codes(pre_trained[1], **padded(clips)), turned))


def test_codes_are_those_of_evaluation_and_the_mode_is_put_back(pre_trained, clips):
    model = pre_trained[1]
    expected = frame_codes(model, **padded(clips))
    got = frame_codes(model.train(), **padded(clips))
    was_training = model.training
    model.eval()
    assert was_training and all(map(np.array_equal, got, expected))


def planted_codes():
    """Utterances of common codes, with one code of the class's own in every third frame."""
    rng = np.random.default_rng(0)
    for utterance in range(40):
        frames = rng.integers(10, 14, (30, 2))
        frames[::3] = (utterance % 4, 7)
        yield utterance % 4, frames


def test_a_planted_code_is_its_classs_first_key_code():
    found = key_codes(planted_codes(), NAMES, 3)
    assert [found[name][0] for name in NAMES] == [[0, 7], [1, 7], [2, 7], [3, 7]]


def test_key_codes_do_not_depend_on_the_order_of_utterances():
    utterances = list(planted_codes())
    assert key_codes(utterances[::-1], NAMES) == key_codes(utterances, NAMES)


@pytest.mark.parametrize("k", [1, 2])
def test_there_are_at_most_k_key_codes(k):
    assert max(len(found) for found in key_codes(planted_codes(), NAMES, k).values()) == k


@pytest.mark.parametrize(
    ("codes", "k", "message"),
    [
        ([(0, np.array([[0, 0]])), (1, np.array([[1, 1]]))], 0, "at least 1, got 0"),
        ([(0, np.array([[0, 0]]))], 9, "label hap"),
        ([(0, np.array([[0, 0]])), (1, np.empty((0, 2), int))], 9, "label hap"),
        ([(0, np.array([[0, 0]])), (1, np.array([[0, 0]]))], 9, "more common in ang, hap"),
    ],
)
def test_key_codes_that_cannot_be_found_are_an_error(codes, k, message):
    with pytest.raises(ValueError, match=message):
        key_codes(codes, ("ang", "hap"), k)


@pytest.mark.parametrize("space", ["projected", "codebook"])
def test_tonal_label_embeddings_are_means_of_code_vectors(space):
    model = tiny_model(speech_label_space=space, speech={"codevector_dim": 16})
    codes = {"ang": [[0, 1], [5, 5], [0, 3]], "hap": [[2, 2]], "neu": [[4, 0], [1, 1]], "sad": [[3, 3]]}
    codebook = model.speech_quantizer.codevectors[0].detach().double()  # first group's 6 vectors, then the second's
    got = tonal_label_embeddings(model, codes, NAMES)
    for name, row in zip(NAMES, got.double(), strict=True):
        expected = sum(torch.cat([codebook[a], codebook[6 + b]]) for a, b in codes[name]) / len(codes[name])
        if space == "projected":
            project = model.speech_code_projection
            expected = project.weight.detach().double() @ expected + project.bias.detach().double()
        torch.testing.assert_close(row, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("call", [lambda m: frame_codes(m, torch.ones(1, 400)), lambda m: tonal_label_embeddings(m, {}, [])])
def test_a_model_without_quantizer_has_no_codes(call):
    with pytest.raises(ValueError, match="no quantizer"):
        call(tiny_model(modality="speech", keep_quantizer=False))


# --------------------------------------------------------------------------------------------------- a tiny release


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("iemocap")
    dataset, _ = load_iemocap(write_release(folder / "release", sessions=2), cache_dir=folder / "cache")
    return dataset.filter(lambda label: label >= 0, input_columns="label", load_from_cache_file=False)


@pytest.fixture(scope="module")
def processor():
    return tiny_processor([*COMMON_WORDS, *(word for words in WORDS.values() for word in words)])


def build(model, processor, release, **settings):
    build_label_embeddings(model, processor, release, **{"words": 3, "codes": 4, "progress": False, **settings})
    return model


@pytest.fixture(scope="module")
def built(release, processor):
    return build(tiny_model(), processor, release)


def test_key_words_of_a_release_are_its_classes_words(built):
    planted = {**WORDS, "hap": WORDS["hap"] + WORDS["exc"]}
    assert all(set(built.config.label_words[name]) <= set(planted[name]) for name in NAMES)


def test_build_sets_the_semantic_buffer_from_the_configs_words(built, processor):
    expected = semantic_label_embeddings(built.text_model, processor.tokenizer, built.config.label_words, NAMES)
    assert torch.equal(built.semantic_label_embeddings, expected)


def test_build_sets_the_tonal_buffer_from_the_configs_codes(built):
    assert torch.equal(built.tonal_label_embeddings, tonal_label_embeddings(built, built.config.label_codes, NAMES))


def test_built_embeddings_tell_the_classes_apart(built):
    for rows in (built.semantic_label_embeddings, built.tonal_label_embeddings):
        assert torch.pdist(rows).min() > 1e-3


def test_size_of_the_batches_of_the_pass_changes_no_code(built, processor, release):
    other = build(tiny_model(), processor, release, batch_size=3)
    assert other.config.label_codes == built.config.label_codes


def test_built_words_and_codes_survive_save_and_load(built, tmp_path):
    built.save_pretrained(tmp_path)
    loaded = LemerModel.from_pretrained(tmp_path).config
    assert (loaded.label_words, loaded.label_codes) == (built.config.label_words, built.config.label_codes)


@pytest.mark.parametrize(("modality", "filled", "other"), [("speech", "codes", "words"), ("text", "words", "codes")])
def test_a_unimodal_model_gets_its_own_modalitys_labels_alone(release, processor, modality, filled, other):
    config = build(tiny_model(modality=modality), processor, release).config
    assert getattr(config, f"label_{filled}") is not None and getattr(config, f"label_{other}") is None


def test_trained_label_embeddings_may_start_from_the_built_ones(built, release, processor):
    model = build(tiny_model(train_label_embeddings=True), processor, release)
    assert torch.equal(model.tonal_label_embeddings, built.tonal_label_embeddings)


def test_labels_may_be_described_by_their_names(release, processor):
    model = build(tiny_model(modality="text"), processor, release, semantic="names")
    assert model.config.label_words == {"ang": ["angry"], "hap": ["happy"], "neu": ["neutral"], "sad": ["sad"]}
    expected = semantic_label_embeddings(model.text_model, processor.tokenizer, model.config.label_words, NAMES)
    assert torch.equal(model.semantic_label_embeddings, expected)


def test_names_that_are_no_abbreviations_are_taken_word_by_word():
    assert name_words(["pleasant_surprise", "Anger"]) == {"pleasant_surprise": ["pleasant", "surprise"], "Anger": ["Anger"]}


def test_random_labels_stay_as_they_were_drawn(release, processor):
    model, drawn = tiny_model(train_label_embeddings=True), tiny_model(train_label_embeddings=True)
    build(model, processor, release, semantic="random", tonal="random")
    assert torch.equal(model.semantic_label_embeddings, drawn.semantic_label_embeddings)
    assert torch.equal(model.tonal_label_embeddings, drawn.tonal_label_embeddings)
    assert model.config.label_words is None and model.config.label_codes is None


def test_tonal_labels_may_be_the_semantic_ones_of_a_bert_that_is_not_kept(release, processor, tmp_path):
    bert = tiny_model(modality="text").text_model
    bert.save_pretrained(tmp_path)
    semantic = {"modality": "speech", "speech_label_space": "semantic", "semantic_size": bert.config.hidden_size}
    model = build(tiny_model(**semantic), processor, release, tonal="semantic", text_tower=str(tmp_path))
    expected = semantic_label_embeddings(bert, processor.tokenizer, model.config.label_words, NAMES)
    assert model.text_model is None
    torch.testing.assert_close(model.tonal_label_embeddings, expected)


def test_tonal_labels_of_another_space_than_the_models_are_refused(release, processor):
    with pytest.raises(ValueError, match="do not fit speech_label_space='projected'"):
        build(tiny_model(), processor, release, tonal="semantic")


def test_an_unknown_description_of_labels_names_the_choices(release, processor):
    with pytest.raises(ValueError, match="key_words, names, random, got 'tfidf'"):
        build(tiny_model(), processor, release, semantic="tfidf")
