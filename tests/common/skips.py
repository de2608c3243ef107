"""Which of transformers' common tests do not apply here, each with its reason; those that it skips by itself say theirs."""

IN_TOWERS = "hidden states and self-attentions are in the towers' outputs, as in CLIPModel: test_modeling, test_cross_modal"
NO_TOKENS = "a speech model has no token embeddings"
BOOLEAN = "it subtracts outputs, and token_mask and frame_mask are boolean: test_modeling, test_cross_modal"

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
