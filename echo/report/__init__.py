"""The pages that show a result or a data set: HTML files that need no network."""
