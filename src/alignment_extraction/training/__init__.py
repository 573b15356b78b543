"""The controlled study's data and models: corpus, base, SFT, RL, GGUF."""
