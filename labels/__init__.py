"""Find the key words and key frames of every class and make label embeddings from them (paper, sections 2.1 and 2.2)."""
