"""Other annotation formats. `registry` holds their converters; it loads NumPy."""

FORMATS = (
    *("yolo", "voc", "cvat", "label-studio", "labelme", "via", "supervisely"),
    *("datumaro", "coco-panoptic", "lvis", "objects365", "open-images", "visual-genome"),
    *("to-coco", "to-yolo", "to-voc", "to-cvat", "to-label-studio"),
)
"""What `convert` accepts as FORMAT, for a shell that completes it."""
