"""Real images: training data and reference of FID."""
