"""The Optuna study: asks for schedules, tells results, survives crashes."""
