"""Settings for the tests of the search."""

import pytest

pytest.register_assert_rewrite("starts", "whole_runs")  # or their assertions say nothing
