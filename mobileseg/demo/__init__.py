"""A page that runs a file in the browser: its runtime, who may open it, what it may send back."""
