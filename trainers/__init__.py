"""Fine-tuning recipes; the tool loads them by import string and never imports this package."""
