"""Names and default settings that the options of the scripts need; importing them loads nothing else."""

# What the scripts take in the place of a speech checkpoint: towers of random weights, see small_towers.py. The size of
# log-mel-base is that of the paper's tower.
SMALL_SPEECH_TOWERS = ("small", "small-log-mel", "log-mel-base")

# Settings of fine-tuning: the paper's where it names them, and what towers of random weights need instead.
FINE_TUNING = {
    "published": {
        "speech_lr": 1e-6,  # paper
        "text_lr": 5e-6,  # paper
        "new_lr": 1e-4,
        "warmup_steps": 8000,  # paper
        "epochs": 50,
        "freeze_feature_encoder": True,
    },
    "small": {
        "speech_lr": 1e-3,
        "text_lr": 1e-3,
        "new_lr": 1e-3,
        "warmup_steps": 50,
        "epochs": 25,
        "freeze_feature_encoder": False,
    },
}

# Where a training logs: log.jsonl alone, or that and trackers of accelerate.
LOG_ALONE = "jsonl"
TRACKERS = (LOG_ALONE, "tensorboard", "trackio", "wandb", "mlflow")

# Seconds that are left of a silence in every recording, see `LemerProcessor`; chosen on the demo corpus of seed 1.
MAX_SILENCE = 0.06

# Settings of the second stage, which the paper does not give. Those of small towers were chosen on session 4 of the demo
# corpus of seed 1.
SECOND_STAGE = {
    "published": {
        "epochs": 20,
        "batch_size": 16,
        "learning_rate": 5e-5,
        "warmup_share": 0.1,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "mask_probability": 0.65,
        "mask_length": 10,
        "negatives": 100,
        "diversity_loss_weight": 0.1,
        "gumbel_start": 0.5,
        "gumbel_end": 0.5,
        "freeze_feature_encoder": False,
        "freeze_quantizer": False,
        "max_seconds": 15.0,
        "max_silence": MAX_SILENCE,
    },
}
# A codebook of random weights tells frames apart as well as a random projection does, and is a steadier target than one that
# is being learned from a few hundred recordings.
SECOND_STAGE["small"] = {
    **SECOND_STAGE["published"],
    "epochs": 25,
    "learning_rate": 1e-3,
    "mask_probability": 0.5,
    "negatives": 30,
    "freeze_quantizer": True,
}
SECOND_STAGE["small-log-mel"] = {**SECOND_STAGE["small"], "mask_length": 5}  # frames of 40 ms instead of 20
# Of the paper's size, and not tried: the rate at which wav2vec 2.0 BASE was pre-trained.
SECOND_STAGE["log-mel-base"] = {**SECOND_STAGE["published"], "learning_rate": 5e-4, "mask_length": 5}
SECOND_STAGE_HELP = {
    "epochs": "passes over the training sessions",
    "batch_size": "utterances of a batch, of all processes together",
    "learning_rate": "highest learning rate of AdamW, reached after the warm-up; it then falls linearly to 0",
    "warmup_share": "share of the updates that warm up, from 0 to 1",
    "weight_decay": "weight decay of AdamW",
    "max_grad_norm": "clip gradients to this norm",
    "mask_probability": "share of frames that the masked spans would cover if they did not overlap",
    "mask_length": "length of a masked span, in frames",
    "negatives": "distractors of each masked frame",
    "diversity_loss_weight": "weight of the loss that spreads the use of the codes",
    "gumbel_start": "temperature of the Gumbel softmax over the codes at the first update",
    "gumbel_end": "the same at the last update; it falls by the same factor in every update",
    "freeze_feature_encoder": "keep the CNN encoder as it is",
    "freeze_quantizer": "keep the code of every frame as it is: codebook, CNN encoder and its norm",
    "max_seconds": "cut longer utterances to this many seconds",
    "max_silence": "cut longer silences to this many seconds; a large number leaves them as they are",
}


def second_stage_defaults(speech_model: str) -> dict:
    """Settings of the second stage of a tower: of a small one by its name, otherwise those of published towers."""
    return SECOND_STAGE.get(speech_model, SECOND_STAGE["published"])
