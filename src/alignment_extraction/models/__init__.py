"""Where models come from: GGUF files whole, split or with an adapter, and their checks."""
