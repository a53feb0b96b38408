"""The review page and the try-out page (extra `web`)."""
