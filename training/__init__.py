"""Training: what a fold starts from, batches, one loop, states that survive a kill, the second stage of pre-training."""
