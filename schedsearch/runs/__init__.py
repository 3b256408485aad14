"""What lies in a run folder, and reading it. No Optuna, no Ray; torch only in export."""
