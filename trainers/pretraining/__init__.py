"""Pretrains small backbones and extractors; each module is a command of its own."""
