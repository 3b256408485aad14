"""What runs inside a worker process: a job in, an outcome out."""
