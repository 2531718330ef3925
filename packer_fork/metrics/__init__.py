"""What is measured of states, for Prometheus."""
