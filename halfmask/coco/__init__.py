"""The COCO file format: read, check, index, write. Knows no network and imports no torch."""
