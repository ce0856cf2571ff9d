"""Benchmarks: speed and memory beside other libraries and beside what the machine can do."""
