"""Label embeddings: key words and key frames of every class -> the rows of L_t and L_s (paper, sections 2.1 and 2.2)."""
