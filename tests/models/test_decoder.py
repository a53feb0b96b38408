"""The decoders: sizes, and that no map drowns another."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from halfmask.models.box_segmenter.decoder import Decoder, HourglassDecoder

CHANNELS = {2: 3, 4: 5, 8: 7, 16: 11}


def maps(side: int = 32, scale: dict[int, float] | None = None) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(0)
    out = {
        s: torch.randn(4, c, side // s, side // s, generator=generator) for s, c in CHANNELS.items()
    }
    return {s: m * (scale or {}).get(s, 1.0) for s, m in out.items()}


@pytest.mark.parametrize(("widths", "stride"), [([8], 8), ([8, 6], 4), ([8, 6, 4], 2)])
def test_it_climbs_as_many_strides_as_it_has_widths(widths: list[int], stride: int) -> None:
    decoder = Decoder(CHANNELS, widths)
    assert (decoder.stride, decoder.out_channels) == (stride, widths[-1])
    assert decoder(maps()).shape == (4, widths[-1], 32 // stride, 32 // stride)


def test_the_size_of_an_encoder_s_numbers_does_not_matter() -> None:
    torch.manual_seed(0)
    decoder = Decoder(CHANNELS, [8, 6, 4])
    plain, loud = decoder(maps()), decoder(maps(scale={2: 100.0, 8: 30.0}))
    assert torch.allclose(plain, loud, atol=1e-3)


def test_every_map_reaches_the_result() -> None:
    torch.manual_seed(0)
    given = {s: m.requires_grad_() for s, m in maps().items()}
    Decoder(CHANNELS, [8, 6, 4])(given).square().sum().backward()
    assert all(m.grad is not None and bool((m.grad != 0).any()) for m in given.values())


def test_an_hourglass_on_top_of_the_encoder() -> None:
    torch.manual_seed(0)
    decoder = HourglassDecoder(CHANNELS, 8, 32)
    given = {s: m.requires_grad_() for s, m in maps().items()}
    out = decoder(given)
    assert (decoder.stride, decoder.out_channels) == (2, 8)
    assert out.shape == (4, 8, 16, 16)
    out.square().sum().backward()
    reached = {s: m.grad is not None and bool((m.grad != 0).any()) for s, m in given.items()}
    assert reached == {2: False, 4: True, 8: True, 16: True}, "the finest map is only a size"
