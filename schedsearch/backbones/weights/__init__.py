"""Weight files: loading, recognising, converting and checking them."""
