"""Corpora: the built-in ones, and those mixed or streamed from sources."""
