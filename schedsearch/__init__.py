"""Automatic search of compute schedules for diffusion transformers."""
