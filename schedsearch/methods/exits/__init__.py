"""Exits that depend on the images: by uncertainty, by similarity, and their static twins."""
