"""Data: from sources of recordings and texts to batches of tensors."""
