"""Programs that made reference values: they need what tests do not, and are no tests."""

collect_ignore_glob = ["*_fits.py", "*_clusters.py"]
