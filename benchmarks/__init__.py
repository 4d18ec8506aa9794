"""What it costs to be governed: whole processes against no proxy, in one interleaved run.

`python -m benchmarks [--quick]`. Absolute figures are of this machine; what is judged are ratios and differences taken
in the same run.
"""
