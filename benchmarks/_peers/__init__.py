"""The same model fitted in other ways: what the benchmarks compare with."""
