"""The nearest corpus items of each generation, by embedding and by string."""
