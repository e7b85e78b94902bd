"""Evaluating: decoding, error rates, and comparisons of models with their intervals."""
