"""Pure functions on masks: sample, paste, decode, encode, box, IoU. No canvas of objects × H × W anywhere.

Shape letters as in `structures`. A *crop* is a tight bitmap and the place of its upper left pixel.
"""

from __future__ import annotations
