"""The requests and answers of the try-out page."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from halfmask.web.schema.base import Box, CategoryItem, Segmented, Strict


class ModelBoxRequest(Strict):
    """Asks the try-out page's model for a mask; label 0 means no class."""

    box: Box
    label: Annotated[int, Field(ge=0, le=1 << 20)] = 0


class DetectRequest(Strict):
    """Asks for the objects of at least this confidence."""

    least: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.5


class Found(BaseModel):
    """The objects that a model found."""

    items: list[Segmented]


class ModelView(BaseModel):
    """The try-out page's model."""

    name: str
    categories: list[CategoryItem]
    can_detect: bool
    version: str


class PhotoView(BaseModel):
    """An uploaded photograph, turned as its EXIF orientation says."""

    photo: str
    width: int
    height: int
