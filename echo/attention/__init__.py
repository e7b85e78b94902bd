"""The attention: span, focus and window of each form, and the settings that choose among them."""
