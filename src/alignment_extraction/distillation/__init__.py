"""Distillation: students trained on extracted data, held against students of the original."""
