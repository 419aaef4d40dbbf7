"""What each verb does, top to bottom; the only place that combines the packages."""
