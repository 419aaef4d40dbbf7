"""Facts about networks as tables and pictures."""
