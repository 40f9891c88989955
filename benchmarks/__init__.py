"""What `make bench` measures and models; `python -m benchmarks` runs it."""
