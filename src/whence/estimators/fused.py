"""First-order scores on a GPU: masks are drawn where they are multiplied, and never written to memory.

    out[i, j] = Σ_u (b_i(u) − q) · G[u, j]

with b_i the mask of instance i (``whence.masks``, the same bits), G in bfloat16, sums in float32. A program makes one tile of the
result. For each block of 128 units it draws Philox words in registers and turns them into the left factor of a matrix product,
one word at a time, so that a bit costs a shift and a conversion. Since Σ_u q·G[u, j] is the same for all instances it is
subtracted at the end, and bits, which bfloat16 holds exactly, are all that is multiplied.

Triton is optional: it comes with builds of torch for CUDA. Its interpreter runs the same kernel on a CPU (TRITON_INTERPRET=1),
which is how the tests know that the bits are the same where there is no GPU.
"""

from __future__ import annotations

from typing import Any

import torch

try:
    import triton
    import triton.language as tl
except ImportError:  # no Triton: ``available`` says so
    triton = None

__all__ = ["available", "mask_product"]

_ROWS, _COLUMNS = 128, 128  # of a tile


def available(device: torch.device) -> bool:
    """Whether masks can be drawn and multiplied in one kernel on a device."""
    if triton is None:
        return False
    return device.type == "cuda" or bool(triton.knobs.runtime.interpret)


def mask_product(ids: torch.Tensor, matrix: torch.Tensor, key: tuple[int, int], keep: float) -> torch.Tensor:
    """(masks − q) times a matrix.

    Args:
        ids: int64 [R].
        matrix: bfloat16 [D, M] on the same device.
        key: of the layer; keep: q, as ``exact_keep`` gives it; units are drawn independently.

    Returns:
        float32 [R, M].
    """
    (count, (units, columns)) = len(ids), matrix.shape
    result = torch.empty(count, columns, dtype=torch.float32, device=matrix.device)
    shift = (keep * matrix.float().sum(0)).contiguous()
    low, high = (ids & 0xFFFFFFFF), (ids >> 32) & 0xFFFFFFFF
    words = [_signed(part) for part in (low, high)]
    grid = (triton.cdiv(count, _ROWS), triton.cdiv(columns, _COLUMNS))
    _kernel[grid](
        *words, matrix, shift, result, count, columns, units, *map(_signed_word, key),
        round(keep * 65536), matrix.stride(0), result.stride(0), halves=keep == 0.5, rows=_ROWS, width=_COLUMNS,
        kind=tl.float32 if triton.knobs.runtime.interpret else tl.bfloat16,  # the interpreter's products of bfloat16 are wrong
    )  # fmt: skip
    return result


def _signed(words: torch.Tensor) -> torch.Tensor:
    """Words of 32 bits, 0 … 2³² − 1, as int32 of the same bits."""
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def _signed_word(word: int) -> int:
    return word - 2**32 if word >= 2**31 else word


def _jit(function: Any) -> Any:
    return function if triton is None else triton.jit(function)


@_jit
def _philox(c0, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Philox4x32-10 of counters (c0, 0, c2, c3), uint32."""
    c1 = c0 * 0
    for _ in tl.static_range(10):
        h0, h1 = tl.umulhi(c0, 0xD2511F53), tl.umulhi(c2, 0xCD9E8D57)
        l0, l1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0 = h1 ^ c1 ^ k0
        c2 = h0 ^ c3 ^ k1
        c1 = l1
        c3 = l0
        k0 = k0 + 0x9E3779B9
        k1 = k1 + 0xBB67AE85
    return c0, c1, c2, c3


@_jit
def _kernel(  # type: ignore[no-untyped-def]
            low, high, matrix, shift, result, count, columns, units, k0, k1, threshold, matrix_row, result_row,
            halves: tl.constexpr, rows: tl.constexpr, width: tl.constexpr, kind: tl.constexpr):  # fmt: skip
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    column = tl.program_id(1) * width + tl.arange(0, width)
    inside = column[None, :] < columns
    i0 = tl.load(low + row, row < count, 0).to(tl.uint32, bitcast=True)[:, None]
    i1 = tl.load(high + row, row < count, 0).to(tl.uint32, bitcast=True)[:, None]
    k0, k1 = k0.to(tl.uint32), k1.to(tl.uint32)
    total = tl.zeros((rows, width), tl.float32)
    if halves:  # one call gives 128 units: unit u is bit u mod 32 of word u // 32
        bit = tl.arange(0, 32)
        for block in range(tl.cdiv(units, 128)):
            words = _philox(i0 * 0 + block, i0, i1, k0, k1)
            for w in tl.static_range(4):
                unit = block * 128 + w * 32 + bit
                kept = ((words[w] >> bit.to(tl.uint32)[None, :]) & 1).to(tl.float32).to(kind)
                some = tl.load(
                    matrix + unit[:, None] * matrix_row + column[None, :], (unit[:, None] < units) & inside, 0.0
                )
                total = tl.dot(kept, some.to(kind), total)
    else:  # one call gives 8 units: unit u is half u mod 2 of word (u mod 8) // 2 of block u // 8; 16 blocks at a time
        piece = tl.arange(0, 16)
        for block in range(tl.cdiv(units, 128)):
            number = block * 16 + piece
            words = _philox(
                i0 * 0 + number.to(tl.uint32)[None, :],
                i0 + number.to(tl.uint32)[None, :] * 0,
                i1 + number.to(tl.uint32)[None, :] * 0,
                k0,
                k1,
            )
            for h in tl.static_range(8):
                unit = number * 8 + h
                drawn = (words[h // 2] >> (16 * (h % 2))) & 0xFFFF
                kept = (drawn < threshold).to(tl.float32).to(kind)
                some = tl.load(
                    matrix + unit[:, None] * matrix_row + column[None, :], (unit[:, None] < units) & inside, 0.0
                )
                total = tl.dot(kept, some.to(kind), total)
    total -= tl.load(shift + column, column < columns, 0.0)[None, :]
    place = row.to(tl.int64)[:, None] * result_row + column[None, :]
    tl.store(result + place, total, (row[:, None] < count) & inside)
