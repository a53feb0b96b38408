"""Other annotation formats, to COCO and back. Knows no model and imports no torch;
`table.py` lists the formats.
"""
