"""Exit adapters of a run folder, and the check whether fine-tunes start from them."""
