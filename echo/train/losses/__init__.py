"""The terms of what training minimises, a file for each; `registry` lists them."""
