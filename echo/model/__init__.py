"""The model: encoder, decoder, generation and the geometry of its frames."""
