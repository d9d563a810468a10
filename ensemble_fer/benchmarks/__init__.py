"""Measurements that ``docs/benchmarks.md`` shows, each with one command that makes them again."""
