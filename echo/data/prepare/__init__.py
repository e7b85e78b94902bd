"""Preparing training data from raw data, without a model."""
