"""Which of transformers' common tests do not apply here, each with its reason; those that it skips by itself say theirs."""

IN_TOWERS = "hidden states and self-attentions are in the towers' outputs, as in CLIPModel: test_modeling, test_cross_modal"
NO_TOKENS = "a speech model has no token embeddings"
BOOLEAN = "it subtracts outputs, and token_mask and frame_mask are boolean: test_modeling, test_cross_modal"
NO_OPTIONS = "LemerProcessor takes no options of its parts, so that every call makes the inputs of training: test_processing"

MODELS = {
    "test_attention_outputs": IN_TOWERS,
    "test_hidden_states_output": IN_TOWERS,
    "test_retain_grad_hidden_states_attentions": IN_TOWERS,
    "test_problem_types": "an utterance has one label, every other problem_type is refused: test_configuration",
    "test_load_with_mismatched_shapes": "it ends with ids as the first argument, which is input_values here: test_modeling, "
    "test_cross_modal",
}
SPEECH_MODELS = {
    **MODELS,
    "test_model_get_set_embeddings": NO_TOKENS,
    "test_resize_tokens_embeddings": NO_TOKENS,
}
WITH_MASKS = {"test_model_outputs_equivalence": BOOLEAN}  # of every model that returns one

PROCESSOR = {
    "test_call_arguments_not_in_processor_kwargs": "sampling_rate and return_tensors are all that may be passed, so by name",
    "test_flat_kwarg_applied_when_modality_dict_lacks_it": NO_OPTIONS,
    "test_kwargs_overrides_default_subprocessor_kwargs_2_audio": NO_OPTIONS,
    "test_overlapping_text_image_kwargs_handling_2_audio": NO_OPTIONS,
    "test_structured_kwargs_nested_from_dict_2_audio": NO_OPTIONS,
    "test_subprocessor_defaults_preserved_by_kwargs_2_audio": NO_OPTIONS,
    "test_unstructured_kwargs_2_audio": NO_OPTIONS,
    "test_unstructured_kwargs_batched_2_audio": NO_OPTIONS,
    "test_subprocessor_defaults_3_audio": "the samples' mask is input_values_mask, attention_mask is that of the tokens",
}
