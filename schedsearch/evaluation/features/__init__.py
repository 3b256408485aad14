"""Feature extractors: images -> features."""
