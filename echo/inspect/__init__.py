"""Inspecting what a model attends to in a recording."""
