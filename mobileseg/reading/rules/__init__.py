"""What consumers ask of a file; `targets.py` is the table."""
