"""Draws gray faces from numbers: what the muscles do, who it is, how the camera stands.

All faces of a batch are drawn at once. Each feature is a soft-edged mask computed from the distance to a
curve in the coordinates of the face, and is painted over what is there. The muscles are the action units
of Ekman and Friesen's Facial Action Coding System (1978), each 0 (relaxed) to about 1 (fully contracted).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

SIDE = 48

MUSCLES = (
    "inner_raise",  # AU1, inner brows up
    "outer_raise",  # AU2, outer brows up
    "brow_lower",  # AU4, brows down and together
    "lid_raise",  # AU5, eyes wide open; negative: drooping lids
    "cheek_raise",  # AU6
    "lid_tight",  # AU7
    "nose_wrinkle",  # AU9
    "lip_raise",  # AU10, upper lip up
    "corner_pull",  # AU12, lip corners up and out
    "corner_down",  # AU15
    "stretch",  # AU20, mouth wide
    "press",  # AU24, lips pressed
    "jaw_drop",  # AU26 and AU27
    "teeth",  # how much of an open mouth is teeth
)

# name: (lowest, highest); drawn uniformly for each face
LOOKS = {
    # who it is (lengths in half pictures, levels 0 to 1)
    "width": (0.66, 0.84),
    "height": (0.84, 1.02),
    "chin": (0.05, 0.38),
    "skin": (0.34, 0.86),
    "hair": (0.06, 0.72),
    "strands": (0.05, 0.16),
    "hairline": (-0.98, -0.66),
    "fringe": (-0.25, 0.25),
    "hair_sides": (0.02, 0.24),
    "eye_distance": (0.30, 0.38),
    "eye_height": (-0.22, -0.12),
    "eye_width": (0.145, 0.185),
    "eye_opening": (0.062, 0.086),
    "iris": (0.02, 0.30),
    "gaze": (-0.045, 0.045),
    "brow_height": (-0.44, -0.36),
    "brow_weight": (0.020, 0.046),
    "brow_level": (0.05, 0.45),
    "nose_length": (0.14, 0.24),
    "nose_width": (0.085, 0.13),
    "mouth_height": (0.48, 0.56),
    "mouth_width": (0.22, 0.29),
    "lips": (0.030, 0.060),
    "lip_level": (0.45, 0.85),
    "age": (0.0, 0.45),
    # pose
    "turn": (-0.22, 0.22),
    "yaw": (-0.8, 0.8),
    "zoom": (0.82, 1.22),
    "right": (-0.13, 0.13),
    "down": (-0.12, 0.12),
    "skew_brows": (-0.025, 0.025),
    "skew_mouth": (-0.03, 0.03),
    # light and camera
    "light_x": (-0.55, 0.55),
    "light_y": (-0.40, 0.40),
    "shadow": (-0.55, 0.55),
    "contrast": (0.75, 1.25),
    "brightness": (-0.14, 0.12),
    "grain": (0.008, 0.034),
    "background": (0.15, 0.80),
    "background_texture": (0.14, 0.34),
    "blotches": (0.02, 0.06),
}

_POSITION = ((np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE * 2 - 1).astype(np.float32)
# No pose within LOOKS brings an eye below the one row or a mouth above the other; the rest need not be computed.
_EYES_END, _MOUTH_START = 36, 20
_EDGE = 0.055  # width of a soft edge: 1.3 pixels


def _inside(depth: Floats, edge: float = _EDGE) -> Floats:
    """Coverage 0 to 1 from the signed depth inside a shape (positive inside)."""
    cover = depth * np.float32(1 / edge)
    cover += np.float32(0.5)
    np.maximum(cover, np.float32(0), out=cover)
    return np.minimum(cover, np.float32(1), out=cover)


def _paint(canvas: Floats, cover: Floats, level: Floats) -> None:
    """Lay ``level`` over the canvas where ``cover`` says."""
    canvas += cover * (level - canvas)


def _darken(canvas: Floats, cover: Floats, amount: Floats | float) -> None:
    canvas *= 1 - cover * amount


def _bump(x: Floats, width: float) -> Floats:
    """A soft hill of height 1 around 0."""
    square = (x * np.float32(1 / width)) ** 2
    return 1 / (1 + square * square)


def _smooth_field(rng: np.random.Generator, n: int, knots: int) -> Floats:
    """A random field [n, SIDE, SIDE] that is linear between ``knots`` x ``knots`` normal values."""
    at = np.linspace(0, knots - 1, SIDE, dtype=np.float32)
    spread = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(knots, dtype=np.float32)))
    return spread @ rng.standard_normal((n, knots, knots), dtype=np.float32) @ spread.T


def draw_batch(muscles: dict[str, Floats], looks: dict[str, Floats], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one face for each row of the parameters.

    Parameters
    ----------
    muscles : dict of float32 [n]
        A value for each name in ``MUSCLES``.
    looks : dict of float32 [n]
        A value for each name in ``LOOKS``, and ``glasses`` 0 or 1.
    rng : numpy Generator
        For background, skin and grain.

    Returns
    -------
    uint8 [n, 48, 48]
    """
    m = {key: np.asarray(value, np.float32).reshape(-1, 1, 1) for key, value in muscles.items()}
    k = {key: np.asarray(value, np.float32).reshape(-1, 1, 1) for key, value in looks.items()}
    n = len(m["jaw_drop"])
    x, y = np.broadcast_to(_POSITION, (n, SIDE, SIDE)), np.broadcast_to(_POSITION[:, None], (n, SIDE, SIDE))
    cos, sin = np.cos(k["turn"]) / k["zoom"], np.sin(k["turn"]) / k["zoom"]
    dx, dy = x - k["right"], y - k["down"]
    u, v = cos * dx + sin * dy, cos * dy - sin * dx  # coordinates of the head
    uf = u - 0.13 * k["yaw"] * (1 - np.minimum(u * u, 1))  # the features move more than the outline
    canvas = k["background"] + k["background_texture"] * (_smooth_field(rng, n, 5) + 0.7 * _smooth_field(rng, n, 11))
    _head(canvas, u, v, m, k, rng)
    _nose(canvas, uf, v, m, k)
    top, bottom = np.s_[:, :_EYES_END], np.s_[:, _MOUTH_START:]
    _eyes(canvas[top], uf[top], v[top], m, k)
    _brows(canvas[top], uf[top], v[top], m, k)
    _mouth(canvas[bottom], uf[bottom], v[bottom], m, k)
    _glasses(canvas[top], uf[top], v[top], k)
    canvas *= 1 + k["light_x"] * x + k["light_y"] * y
    canvas = (canvas - 0.5) * k["contrast"] + 0.5 + k["brightness"]
    canvas += k["grain"] * rng.standard_normal(canvas.shape, dtype=np.float32)
    return np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8)


def _head(canvas: Floats, u: Floats, v: Floats, m: dict, k: dict, rng: np.random.Generator) -> None:
    """Hair, neck, the skin with its light, and the hair before the forehead."""
    low = np.maximum(v, 0)
    width = k["width"] * (1 - k["chin"] * low * low)
    height = np.where(v > 0, k["height"] + 0.10 * m["jaw_drop"], k["height"] + 0.05)
    radius = np.sqrt((u / width) ** 2 + (v / height) ** 2)
    around = np.sqrt((u / (k["width"] + k["hair_sides"])) ** 2 + (np.minimum(v, 0) / 1.08) ** 2)
    # Strands differ from head to head; without them two dark heads before light walls pass for one photograph.
    hair = k["hair"] + k["strands"] * _smooth_field(rng, len(u), 12)
    _paint(canvas, _inside(1 - around) * _inside(0.5 + 3 * k["hair_sides"] - v, 0.3), hair)
    _paint(canvas, _inside(0.42 - np.abs(u)) * _inside(v - 0.7), 0.8 * k["skin"])
    skin = k["skin"] * (1 + 0.35 * k["shadow"] * u - 0.30 * radius * radius * radius) + k["blotches"] * _smooth_field(
        rng, len(u), 7
    )
    skin *= 1 + 0.10 * m["cheek_raise"] * _bump(np.abs(u) - 0.38, 0.14) * _bump(v - 0.12, 0.11)
    face = _inside((1 - radius) * 0.8)
    _paint(canvas, face, skin)
    raised = np.clip(0.5 * (m["inner_raise"] + m["outer_raise"]), 0, 1)
    lines = np.maximum(np.cos(2 * np.pi * (v + 0.03 * u * u) / 0.12), 0) * _bump(v + 0.62, 0.12) * _bump(u, 0.4)
    _darken(canvas, lines, (0.30 * raised + 0.08 * k["age"]) * (1 - 0.5 * m["brow_lower"].clip(0, 1)))
    _paint(canvas, _inside(k["hairline"] + k["fringe"] * u + 0.25 * u * u - v, 0.09) * _inside(1.1 - around), hair)


def _nose(canvas: Floats, u: Floats, v: Floats, m: dict, k: dict) -> None:
    """Nose, its wrinkles, and the folds from its wings to the lip corners."""
    side = np.abs(u)
    wing = k["nose_width"] * (1 + 0.25 * m["nose_wrinkle"] + 0.10 * m["corner_pull"])
    tip = k["nose_length"] - 0.05 * m["nose_wrinkle"]
    bridge = _bump(u - wing * np.sign(k["shadow"]) * 0.8, 0.05) * _inside(tip - v, 0.1) * _inside(v + 0.25, 0.3)
    _darken(canvas, bridge, 0.10 + 0.12 * np.abs(k["shadow"]))
    _darken(canvas, _inside(0.035 - np.hypot(side - 0.6 * wing, 1.5 * (v - tip)), 0.06), 0.55)
    under = _inside(0.028 - np.abs(v - tip - 0.02 + 0.8 * (side - 0.6 * wing) ** 2)) * _inside(wing - side)
    _darken(canvas, under, 0.28)
    wrinkle = np.maximum(np.cos(2 * np.pi * (v - 0.45 * side) / 0.115), 0)
    wrinkle *= _bump(side, 0.15) * _bump(v + 0.06, 0.15)
    _darken(canvas, wrinkle, 0.60 * m["nose_wrinkle"].clip(0, 1.1))
    fold = np.maximum.reduce([m["corner_pull"], 0.9 * m["nose_wrinkle"], 0.7 * m["lip_raise"]])
    start, end = tip - 0.04 - 0.05 * m["nose_wrinkle"], k["mouth_height"] + 0.04
    along = (v - start) / (end - start)
    at = wing + 0.03 + (0.19 + 0.06 * m["corner_pull"]) * np.clip(along, 0, 1)
    cover = _inside(0.022 - np.abs(side - at), 0.07) * _inside((along + 0.02) * 0.4) * _inside((1.0 - along) * 0.4)
    _darken(canvas, cover, 0.10 + 0.45 * fold.clip(0, 1) + 0.25 * k["age"])


def _eyes(canvas: Floats, u: Floats, v: Floats, m: dict, k: dict) -> None:
    side = np.abs(u)
    q = (side - k["eye_distance"]) / k["eye_width"]
    arch = 1 - q * q
    closing = 0.50 * m["lid_tight"] + 0.40 * m["cheek_raise"] + 0.35 * m["nose_wrinkle"]
    opening = k["eye_opening"] * (1 + 0.85 * m["lid_raise"]) * np.clip(1 - closing, 0.12, 1)
    droop = 0.035 * m["inner_raise"] * np.clip(m["corner_down"], 0, 1) * q  # sad eyes fall to the outside
    upper = k["eye_height"] + droop - opening * arch
    lower = k["eye_height"] + droop + opening * arch * np.clip(0.75 - 0.55 * m["lid_tight"].clip(0, 1), 0.1, 1)
    socket = _bump(q, 1.3) * _bump(v - k["eye_height"] + 0.03, 0.15)
    _darken(canvas, socket, 0.16)
    eye = _inside(np.minimum(v - upper, lower - v)) * _inside((1 - np.abs(q)) * 0.2)
    _paint(canvas, eye, np.minimum(0.35 + 0.62 * k["skin"] + 0.1, 0.97))
    away = np.hypot(side - k["eye_distance"] - k["gaze"] * np.sign(u), v - k["eye_height"] + 0.01)
    _paint(canvas, eye * _inside(0.075 - away), k["iris"])
    lash = _inside(0.020 - np.abs(v - upper)) * _inside((1.1 - np.abs(q)) * 0.2)
    _darken(canvas, lash, 0.70)
    _darken(canvas, _inside(0.010 - np.abs(v - lower)) * _inside((1 - np.abs(q)) * 0.2), 0.30)
    bag = _inside(0.016 - np.abs(v - lower - 0.055)) * _inside((0.9 - np.abs(q)) * 0.2)
    _darken(canvas, bag, 0.06 + 0.35 * np.maximum(m["cheek_raise"], m["lid_tight"]).clip(0, 1) + 0.2 * k["age"])


def _brows(canvas: Floats, u: Floats, v: Floats, m: dict, k: dict) -> None:
    side = np.abs(u)
    inner = 0.13 - 0.06 * m["brow_lower"]
    t = (side - inner) / (0.56 - inner)
    inner_part, outer_part = np.clip(1 - t, 0, 1), np.clip(t, 0, 1)
    at = k["brow_height"] - 0.05 * np.sin(np.pi * np.clip(t, 0, 1)) + k["skew_brows"] * np.sign(u)
    at = at - 0.17 * m["inner_raise"] * inner_part - 0.15 * m["outer_raise"] * outer_part
    at = at - 0.03 * m["inner_raise"] + m["brow_lower"] * (0.055 + 0.11 * inner_part * inner_part)
    at = at + 0.05 * m["nose_wrinkle"] * inner_part
    weight = k["brow_weight"] * (1.15 - 0.5 * outer_part)
    brow = _inside(weight - np.abs(v - at)) * _inside(np.minimum(side - inner, 0.56 - side))
    _paint(canvas, 0.85 * brow, np.minimum(k["brow_level"], 0.75 * k["skin"]))
    furrow = _inside(0.014 - np.abs(side - 0.055)) * _bump(v - k["brow_height"] - 0.03, 0.11)
    _darken(canvas, furrow, 0.50 * m["brow_lower"].clip(0, 1))


def _mouth(canvas: Floats, u: Floats, v: Floats, m: dict, k: dict) -> None:
    wide = 1 + 0.38 * m["corner_pull"] + 0.38 * m["stretch"] - 0.28 * m["jaw_drop"] - 0.18 * m["press"]
    half = k["mouth_width"] * np.clip(wide, 0.55, 1.6)
    q = u / half
    bend = -0.17 * m["corner_pull"] + 0.15 * m["corner_down"] + 0.05 * m["stretch"]
    middle = k["mouth_height"] + 0.06 * m["jaw_drop"] - 0.03 * m["lip_raise"] + bend * (q * q - 0.35)
    middle = middle + k["skew_mouth"] * q
    arch = np.clip(1 - q * q, 0, 1)
    # A stretched mouth opens like a letter box, a dropped jaw like an egg.
    box = np.sqrt(arch)
    open_arch = arch + m["stretch"].clip(0, 1) * (box - arch)
    up = (0.05 * m["jaw_drop"] + 0.075 * m["lip_raise"] + 0.015 * m["stretch"]) * open_arch
    down = (0.27 * m["jaw_drop"] + 0.04 * m["corner_pull"] * m["teeth"]) * open_arch
    lip = k["lips"] * (1 - 0.75 * m["press"].clip(0, 1)) * box
    top, bottom = middle - up - lip, middle + down + 1.25 * lip
    ends = _inside((1 - np.abs(q)) * half)
    lips = _inside(np.minimum(v - top, bottom - v)) * ends
    _paint(canvas, lips, k["skin"] * k["lip_level"])
    gap = _inside(np.minimum(v - middle + up, middle + down - v)) * ends * _inside(up + down - 0.02)
    _paint(canvas, gap, np.full_like(half, 0.07))
    depth = 0.035 + 0.10 * m["teeth"]
    teeth = gap * _inside(middle - up + depth - v) * _inside(m["teeth"] - 0.15, 0.2)
    _paint(canvas, 0.9 * teeth, np.minimum(0.45 + 0.55 * k["skin"], 0.95))
    closed = 1 - np.clip((up + down) / 0.06, 0, 1)
    line = _inside(0.016 - np.abs(v - middle)) * _inside((1.06 - np.abs(q)) * half) * closed
    _darken(canvas, line, 0.60)
    corner = _inside(0.035 - np.hypot(np.abs(u) - half, v - middle), 0.06)
    _darken(canvas, corner, 0.20 + 0.25 * np.maximum(m["corner_pull"], m["corner_down"]).clip(0, 1))
    chin = _inside(0.02 - np.abs(v - bottom - 0.07 - 0.3 * u * u), 0.08) * _bump(u, 0.16)
    _darken(canvas, chin, 0.16 + 0.25 * np.maximum(m["press"], m["corner_down"]).clip(0, 1))


def _glasses(canvas: Floats, u: Floats, v: Floats, k: dict) -> None:
    side = np.abs(u)
    away = np.hypot((side - k["eye_distance"]) / 1.25, v - k["eye_height"])
    frame = _inside(0.018 - np.abs(away - 0.17))
    bridge = _inside(0.018 - np.abs(v - k["eye_height"] + 0.04)) * _inside(0.14 - side)
    _darken(canvas, np.maximum(frame, bridge), 0.75 * k["glasses"])
