"""Exact planning on measured tables: error tables, dynamic programming, surrogates."""
