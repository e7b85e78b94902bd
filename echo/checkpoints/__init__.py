"""Checkpoints: loading, saving, checking, converting, averaging and describing them."""
