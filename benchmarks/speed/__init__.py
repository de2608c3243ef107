"""The speed table: what LE-MER costs next to its two towers, transformers' own classes and SpeechBrain's classifier."""
