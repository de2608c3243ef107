"""Training: options, batches, the loop and its states, fine-tuning, and the second stage of pre-training."""
