"""The COCO file format: read, check, index, write. Imports no torch."""
