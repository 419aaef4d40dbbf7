"""What training keeps for the way back: counted per module, and less of it."""
