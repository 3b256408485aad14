"""What people see: the live view, the final table and pictures."""
