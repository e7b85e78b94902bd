"""Formats that data sets are written in, a module each."""
