"""Search spaces that ship; ``schedsearch run NAME`` finds them here."""
