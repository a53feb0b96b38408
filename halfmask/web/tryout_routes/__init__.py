"""Routes of the try-out page beside uploads and masks: sample photographs, downloads."""
