"""transformers' ProcessorTesterMixin on the processor."""

import unittest
from unittest.mock import patch

from tests.test_processing_common import ProcessorTesterMixin
from tiny import tiny_tokenizer
from transformers import Wav2Vec2FeatureExtractor

from lemer import LemerProcessor


class LemerProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = LemerProcessor

    def setUp(self):
        # Else saving, which copies our code then, leaves an auto_map in the saved object that a loaded one has not.
        self.enterContext(patch.object(LemerProcessor, "_auto_class", None))

    @staticmethod
    def prepare_processor_dict():
        return {"max_history": 3, "max_text_length": 40, "max_audio_seconds": 20.0}

    @classmethod
    def _setup_feature_extractor(cls):
        # As of a tower with group norm. With a mask the extractor would call it attention_mask, which is that of the tokens.
        return Wav2Vec2FeatureExtractor(return_attention_mask=False)

    @classmethod
    def _setup_tokenizer(cls):
        return tiny_tokenizer()
