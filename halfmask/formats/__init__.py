"""Other annotation formats, to COCO and from COCO. Nothing here imports torch."""
