"""The page that shows a result: one HTML file, which needs no network."""
