"""Reading and writing any file safely: atomic writes, strict JSON and YAML, located errors."""
