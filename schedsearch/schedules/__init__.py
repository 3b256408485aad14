"""Exit schedules: the type, its search space, presets, schedule files."""
