"""Networks with early exits."""
