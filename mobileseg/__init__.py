"""mobileseg takes a segmentation network to a phone."""

__version__ = "0.1.0"
