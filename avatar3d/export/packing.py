"""Rectangles into a square: a skyline packer (the bottom-left heuristic of Jylänki 2010)."""

from __future__ import annotations


def pack(sizes: list[tuple[int, int]], side: int) -> list[tuple[int, int]] | None:
    """Upper left corners (x, y) of rectangles (width, height) that do not overlap in a square of `side`.

    None when they do not fit. Higher rectangles are placed first; each goes where its lower edge is highest up.
    """
    skyline = [(0, side, 0)]  # (start, end, depth): nothing is free above depth there
    places = [(0, 0)] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i][1], -sizes[i][0], i)):
        width, height = sizes[index]
        spot = _spot(skyline, width, side)
        if spot is None or spot[0] + height > side:
            return None
        y, x = spot
        places[index] = (x, y)
        skyline = _raised(skyline, x, x + width, y + height)
    return places


def _spot(skyline: list[tuple[int, int, int]], width: int, side: int) -> tuple[int, int] | None:
    """(y, x) of the highest free place of this width, the leftmost of equal ones."""
    best = None
    for start, _, _ in skyline:
        if start + width > side:
            break
        y = max(depth for s, e, depth in skyline if s < start + width and e > start)
        if best is None or (y, start) < best:
            best = (y, start)
    return best


def _raised(skyline: list[tuple[int, int, int]], left: int, right: int, depth: int) -> list[tuple[int, int, int]]:
    """The skyline with the stretch from left to right filled down to `depth`."""
    pieces = [(left, right, depth)]
    for start, end, d in skyline:
        if start < left:
            pieces.append((start, min(end, left), d))
        if end > right:
            pieces.append((max(start, right), end, d))
    return sorted(p for p in pieces if p[0] < p[1])
