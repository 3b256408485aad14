"""What a run folder holds of methods: records, journals, and reading them."""
