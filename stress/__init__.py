"""Stress suite, chaos runs and benchmarks."""
