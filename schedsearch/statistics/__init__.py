"""How sure a result is: intervals, comparisons, membership of the front, rank agreement."""
