"""The demo: its server, and its page in headless Chromium."""
