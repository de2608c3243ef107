"""transformers' ModelTesterMixin and ConfigTester on both papers' models, with both modalities and with one."""

import unittest
from unittest.mock import patch

from skips import MODELS, SPEECH_MODELS, WITH_MASKS
from tests.test_configuration_common import ConfigTester
from tests.test_modeling_common import ModelTesterMixin
from tiny import tiny_batch, tiny_config, tiny_towers
from transformers.models.auto import modeling_auto

from lemer import CrossModalConfig, CrossModalModel, LemerModel


class ModelTester:
    """What the mixin asks for: a small configuration, a batch for it, and the sizes of both."""

    batch_size, seq_length, num_hidden_layers, is_training = 3, 9, 2, True

    def __init__(self, get_config):
        self.get_config = get_config

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        return config, tiny_batch(modality=config.modality)


class LemerCommonTest(ModelTesterMixin):
    model_class, modality, skips = LemerModel, "multimodal", MODELS
    additional_model_inputs = ("input_ids",)
    _is_composite = True
    test_can_init_all_missing_weights_before_2023 = True  # files that do not begin with a year count as older

    def make_config(self):
        return tiny_config(modality=self.modality)

    def listed_in(self, mapping: str):
        """For a while transformers has our class among its own: by these lists it tells what a model is for."""
        return patch.dict(
            getattr(modeling_auto, mapping), {self.model_class.config_class.model_type: self.model_class.__name__}
        )

    def setUp(self):
        if self._testMethodName in self.skips:
            self.skipTest(self.skips[self._testMethodName])
        self.model_tester = ModelTester(self.make_config)
        self.all_model_classes = (self.model_class,)
        self.enterContext(self.listed_in("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES"))
        if self._testMethodName.startswith("test_eager_matches_sdpa"):
            # Those compare logits where the name of the class says that it classifies, and else hidden states.
            name = f"{self.model_class.__name__}ForClassification"
            self.all_model_classes = (type(name, (self.model_class,), {"__module__": self.model_class.__module__}),)

    def test_config(self):
        config_class = self.model_class.config_class
        ConfigTester(self, config_class, has_text_modality=False, modality=self.modality).run_common_tests()

    def test_model_forward_default_config_values(self):
        with self.listed_in("MODEL_MAPPING_NAMES"):
            super().test_model_forward_default_config_values()


class CrossModalCommonTest(LemerCommonTest):
    model_class = CrossModalModel

    def make_config(self):
        sizes = {"hidden_size": 12, "num_attention_heads": 2}
        return CrossModalConfig(**tiny_towers(self.modality), modality=self.modality, **sizes)


class LemerTest(LemerCommonTest, unittest.TestCase):
    skips = MODELS | WITH_MASKS


class LemerSpeechTest(LemerCommonTest, unittest.TestCase):
    modality, skips = "speech", SPEECH_MODELS | WITH_MASKS


class LemerTextTest(LemerCommonTest, unittest.TestCase):
    modality, skips = "text", MODELS | WITH_MASKS


class CrossModalTest(CrossModalCommonTest, unittest.TestCase):
    skips = MODELS | WITH_MASKS


class CrossModalSpeechTest(CrossModalCommonTest, unittest.TestCase):
    modality, skips = "speech", SPEECH_MODELS | WITH_MASKS


class CrossModalTextTest(CrossModalCommonTest, unittest.TestCase):
    modality = "text"
