"""Aligning long recordings with texts of them, and cutting both into rows to train on."""
