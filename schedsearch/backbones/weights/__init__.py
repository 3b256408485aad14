"""Weight files: reads, recognises, checks and converts them.

Everything about the content of a weights file belongs here; finding the file on disk is in
``config/checkpoint_paths.py``. Read first: ``checkpoint.py`` (strict loading and saving), then
``weight_files.py`` (accepted formats).
"""
