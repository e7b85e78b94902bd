"""A metric module in the layout that `evaluate.load` reads."""
