"""Support for all other packages, which knows nothing of speech."""
