"""What a model writes after nothing but the start of its chat template."""
