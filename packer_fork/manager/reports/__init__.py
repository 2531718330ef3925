"""Reports over the history of a state: statistics for people, metrics for Prometheus."""
