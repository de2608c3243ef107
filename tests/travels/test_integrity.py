"""A checkpoint that is not whole gives no answers: files deleted, changed or swapped, and tensors dropped or replaced."""

import json

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from tiny import WORDS, tiny_batch, tiny_cross_modal, tiny_model, tiny_processor
from transformers import AutoConfig

from lemer import LemerModel, LemerPipeline, LemerProcessor, predict
from lemer.integrity_lemer import not_finite

DATA_FILES = ("config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "tokenizer_config.json")
CLIP = np.random.default_rng(0).normal(0, 0.1, 6000).astype(np.float32)
INPUT = {"audio": {"array": CLIP, "sampling_rate": 16_000}, "text": "you are so late again"}
BUILDERS = {"lemer": tiny_model, "cross_modal": tiny_cross_modal}


def save(folder, model=None):
    """A whole checkpoint in the folder."""
    (model or tiny_model()).save_pretrained(folder)
    tiny_processor(words=("again", *WORDS, *(f"word{i}" for i in range(40)))).save_pretrained(folder)
    return folder


@pytest.fixture
def checkpoint(tmp_path):
    return save(tmp_path / "checkpoint")


def answer(folder, model_class=LemerModel):
    pipe = LemerPipeline(model_class.from_pretrained(folder), LemerProcessor.from_pretrained(folder), device="cpu")
    return pipe(INPUT)


def edit_json(path, change):
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))


def without_checksums(folder):
    """As a version without checksums would have saved it."""
    edit_json(folder / "config.json", lambda fields: fields.pop("checksums"))
    return folder


def edit_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("name", BUILDERS)
def test_a_whole_checkpoint_answers(tmp_path, name):
    model = BUILDERS[name]()
    folder = save(tmp_path, model)
    opened = type(model).from_pretrained(folder)
    assert opened.damage == [] and opened.config.checksums is None
    assert answer(folder, type(model))
    listed = json.loads((folder / "config.json").read_text())["checksums"]["files"]
    assert set(listed) == set(DATA_FILES[1:])


def test_the_order_of_saving_does_not_matter(tmp_path):
    tiny_processor().save_pretrained(tmp_path)
    tiny_model().save_pretrained(tmp_path)
    assert set(json.loads((tmp_path / "config.json").read_text())["checksums"]["files"]) == set(DATA_FILES[1:])


@pytest.mark.parametrize("name", DATA_FILES)
def test_a_deleted_file_is_refused(checkpoint, name):
    (checkpoint / name).unlink()
    with pytest.raises((OSError, ValueError, RuntimeError)):
        answer(checkpoint)


@pytest.mark.parametrize("part", [0.1, 0.4, 0.7, 0.97])
@pytest.mark.parametrize("name", DATA_FILES[1:])
def test_a_changed_byte_is_refused(checkpoint, name, part):
    content = bytearray((checkpoint / name).read_bytes())
    content[int(part * len(content))] ^= 1
    (checkpoint / name).write_bytes(content)
    with pytest.raises(Exception):  # noqa: B017  some bytes leave no file that can be opened
        answer(checkpoint)


def test_a_changed_configuration_is_refused_by_name(checkpoint):
    edit_json(checkpoint / "config.json", lambda fields: fields["text_config"].update(num_attention_heads=4))
    with pytest.raises(ValueError, match=r"config\.json was changed"):
        answer(checkpoint)


@pytest.mark.parametrize("name", ["classifier.weight", "cross_attention.weight", "tonal_label_embeddings"])
def test_a_missing_tensor_is_refused_in_an_old_checkpoint_too(checkpoint, name):
    edit_tensors(without_checksums(checkpoint), lambda tensors: tensors.pop(name))
    with pytest.raises(ValueError, match=name):
        answer(checkpoint)


def test_a_missing_tower_is_refused_in_an_old_checkpoint_too(checkpoint):
    def drop(tensors):
        for name in [name for name in tensors if name.startswith("speech_model.")]:
            del tensors[name]

    edit_tensors(without_checksums(checkpoint), drop)
    with pytest.raises(ValueError, match=r"weights lack speech_model\..* more"):
        answer(checkpoint)


def test_a_tensor_without_a_place_is_refused(checkpoint):
    edit_tensors(without_checksums(checkpoint), lambda tensors: tensors.update(stray=torch.ones(2)))
    with pytest.raises(ValueError, match="no place for stray"):
        answer(checkpoint)


def test_replaced_tensors_are_refused(checkpoint):
    generator = torch.Generator().manual_seed(0)
    names = sorted(load_file(checkpoint / "model.safetensors"))
    for index in torch.randperm(len(names), generator=generator)[:3].tolist():
        edit_tensors(checkpoint, lambda tensors, name=names[index]: tensors[name].add_(1))
        with pytest.raises(ValueError, match=r"model\.safetensors is not the file that was saved"):
            answer(checkpoint)
        edit_tensors(checkpoint, lambda tensors, name=names[index]: tensors[name].add_(-1))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_refused(checkpoint, value):
    edit_tensors(without_checksums(checkpoint), lambda tensors: tensors["classifier.weight"][0].fill_(value))
    with pytest.raises(ValueError, match=r"NaN or infinity stands in classifier\.weight"):
        answer(checkpoint)


def test_not_finite_names_parameters_and_buffers():
    model = tiny_model()
    assert not_finite(model) == []
    with torch.no_grad():
        model.semantic_label_embeddings[0, 0] = float("nan")
        model.classifier.bias[1] = float("-inf")
    assert sorted(not_finite(model)) == ["classifier.bias", "semantic_label_embeddings"]


def test_a_score_that_is_no_number_is_an_error():
    pipe = LemerPipeline(tiny_model(), tiny_processor(), device="cpu")
    with torch.no_grad():
        pipe.model.classifier.bias[0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        pipe(INPUT)


def test_a_swapped_processor_is_refused(checkpoint, tmp_path):
    tiny_processor(words=("other", *WORDS, *(f"word{i}" for i in range(40)))).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "tokenizer.json").replace(checkpoint / "tokenizer.json")
    with pytest.raises(ValueError, match=r"tokenizer\.json is not the file that was saved"):
        answer(checkpoint)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_an_old_checkpoint_without_its_tokenizer_is_refused(checkpoint, name):
    (without_checksums(checkpoint) / name).unlink()
    with pytest.raises((OSError, ValueError)):
        answer(checkpoint)


def test_an_old_checkpoint_opens_and_answers_the_same(checkpoint):
    expected = answer(checkpoint)
    assert answer(without_checksums(checkpoint)) == expected


def test_labels_may_be_renamed(checkpoint):
    names = ["anger", "joy", "calm", "grief"]
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    edit_json(checkpoint / "config.json", lambda fields: fields.update(labels))
    assert {part["label"] for part in answer(checkpoint)} == set(names)
    config = AutoConfig.from_pretrained(checkpoint)
    config.id2label = dict(enumerate(reversed(names)))
    config.label2id = {name: index for index, name in config.id2label.items()}
    config.save_pretrained(checkpoint)
    assert json.loads((checkpoint / "config.json").read_text())["checksums"]
    assert answer(checkpoint)


def test_other_settings_of_the_processor_can_be_saved(checkpoint):
    processor = LemerProcessor.from_pretrained(checkpoint)
    processor.max_history = 3
    processor.save_pretrained(checkpoint)
    assert answer(checkpoint)


def test_saving_and_loading_again_stays_whole(checkpoint, tmp_path):
    expected = answer(checkpoint)
    for number in range(2):
        model, processor = LemerModel.from_pretrained(checkpoint), LemerProcessor.from_pretrained(checkpoint)
        checkpoint = tmp_path / str(number)
        model.save_pretrained(checkpoint)
        processor.save_pretrained(checkpoint)
    assert answer(checkpoint) == expected


def test_a_saved_checkpoint_has_the_permissions_that_the_umask_says(checkpoint, tmp_path):
    (tmp_path / "usual").touch()
    assert {path.stat().st_mode for path in checkpoint.iterdir()} == {(tmp_path / "usual").stat().st_mode}


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_saving_again_makes_nothing_whole(checkpoint, tmp_path, name):
    (checkpoint / "tokenizer.json").write_text((checkpoint / "tokenizer.json").read_text() + "\n")
    edit_tensors(checkpoint, lambda tensors: tensors["classifier.weight"].add_(1))
    for number in range(2):
        model, processor = LemerModel.from_pretrained(checkpoint), LemerProcessor.from_pretrained(checkpoint)
        checkpoint = tmp_path / str(number)
        model.save_pretrained(checkpoint)
        processor.save_pretrained(checkpoint)
    with pytest.raises(ValueError, match=f"was not whole .*{name} is not the file that was saved"):
        answer(checkpoint)
    processor.save_pretrained(checkpoint)  # the processor alone does not either
    assert LemerModel.from_pretrained(checkpoint).damage
    model.damage, processor.damage = [], []  # somebody who knows why
    model.save_pretrained(checkpoint)
    processor.save_pretrained(checkpoint)
    assert answer(checkpoint)


def test_a_damaged_processor_is_not_made_whole_by_saving_it(checkpoint, tmp_path):
    (checkpoint / "tokenizer.json").write_text((checkpoint / "tokenizer.json").read_text() + "\n")
    LemerProcessor.from_pretrained(checkpoint).save_pretrained(checkpoint)
    with pytest.raises(ValueError, match="tokenizer.json is not the file that was saved"):
        answer(checkpoint)


@pytest.mark.parametrize("arguments", [{}, {"device_map": "cpu"}, {"dtype": torch.float16}])
def test_a_subfolder_is_compared_too(tmp_path, arguments):
    save(tmp_path / "inner")
    assert LemerModel.from_pretrained(tmp_path, subfolder="inner", **arguments).damage == []
    edit_tensors(tmp_path / "inner", lambda tensors: tensors["classifier.weight"].add_(1))
    damage = LemerModel.from_pretrained(tmp_path, subfolder="inner", **arguments).damage
    assert damage == ["model.safetensors is not the file that was saved"]


def test_half_precision_is_saved_whole(tmp_path):
    save(tmp_path, tiny_model().to(torch.bfloat16))
    model = LemerModel.from_pretrained(tmp_path)
    assert model.dtype == torch.bfloat16 and model.damage == [] and answer(tmp_path)


def test_a_sharded_checkpoint_is_checked_shard_by_shard(tmp_path):
    folder = tmp_path / "sharded"
    tiny_model().save_pretrained(folder, max_shard_size="20KB")
    assert LemerModel.from_pretrained(folder).damage == []
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    tensors = load_file(shard)
    next(iter(tensors.values())).add_(1)
    save_file(tensors, shard, metadata={"format": "pt"})
    assert LemerModel.from_pretrained(folder).damage == [f"{shard.name} is not the file that was saved"]


def test_another_dtype_and_other_labels_are_no_damage(checkpoint):
    model, info = LemerModel.from_pretrained(checkpoint, dtype=torch.bfloat16, output_loading_info=True)
    assert model.damage == [] and not any(info.values())
    model = LemerModel.from_pretrained(checkpoint, num_labels=3, ignore_mismatched_sizes=True)
    assert model.damage == [] and model.untrained


def test_a_damaged_model_warns_when_it_is_loaded(checkpoint, caplog):
    edit_tensors(checkpoint, lambda tensors: tensors["classifier.weight"].add_(1))
    model = LemerModel.from_pretrained(checkpoint)
    assert "not whole" in caplog.text and model(**tiny_batch()).logits.shape == (3, 4)


def test_predict_refuses_a_damaged_checkpoint(checkpoint, tmp_path, capsys):
    soundfile.write(tmp_path / "clip.wav", CLIP, 16_000)
    edit_tensors(checkpoint, lambda tensors: tensors["classifier.weight"].add_(1))
    assert predict.main([str(checkpoint), str(tmp_path / "clip.wav")]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "model.safetensors is not the file that was saved" in said.err.splitlines()[-1]
