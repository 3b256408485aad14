"""``python -m schedsearch``."""

from schedsearch.cli.main import entry_point

if __name__ == "__main__":
    entry_point()
