"""Settings for the tests of the search."""

import pytest

pytest.register_assert_rewrite("whole_runs")  # or its assertions would fail without a word
