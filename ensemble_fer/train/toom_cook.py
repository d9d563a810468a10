"""Matrices of Winograd's convolutions: multiplication of polynomials at points (Toom & Cook), transposed.

Computed exactly, as fractions. Rounding depends on the points: these were the best of many sets tried for each size.
"""

from __future__ import annotations

from fractions import Fraction as F

# Outputs of a tile, and where the polynomials are evaluated besides at infinity.
POINTS: dict[int, tuple[F | int, ...]] = {
    3: (0, -1, F(1, 2), 2),
    4: (0, 1, F(1, 2), F(-3, 2), F(-2, 3)),
    5: (0, 1, F(1, 2), F(-3, 2), F(-2, 3), 3),
    6: (0, 1, -1, 2, -2, F(1, 2), F(-1, 2)),
}
TAPS = 3

Matrix = list[list[float]]


def matrices(outputs: int) -> tuple[Matrix, Matrix, Matrix]:
    """B [a, a], G [a, 3] and A [outputs, a], a = outputs + 2, so that A ((G g) * (B d)) are the sums of d[i + j] g[j].

    Parameters
    ----------
    outputs : int
        A key of ``POINTS``.
    """
    points = POINTS[outputs]
    size = outputs + TAPS - 1

    def powers(columns: int) -> list[list[F]]:
        finite = [[F(point) ** power for power in range(columns)] for point in points]
        return [*finite, [F(int(power == columns - 1)) for power in range(columns)]]

    # Values at the points are what polynomials are multiplied by; the inverse gives coefficients from values.
    inverse = _inverse(powers(size))
    of_inputs = [[inverse[j][i] for j in range(size)] for i in range(size)]
    of_weights, of_outputs = powers(TAPS), powers(outputs)
    for i in range(size):
        # A power of two from one to the other leaves the products as they are, and brings both to like sizes.
        ratio = _size(of_inputs[i]) / _size(of_weights[i])
        factor = F(2) ** round(_log4(ratio))
        of_inputs[i] = [value / factor for value in of_inputs[i]]
        of_weights[i] = [value * factor for value in of_weights[i]]
    return _floats(of_inputs), _floats(of_weights), _floats([list(row) for row in zip(*of_outputs, strict=True)])


def _size(row: list[F]) -> F:
    return sum((abs(value) for value in row), F(0))


def _log4(value: F) -> float:
    return (value.numerator.bit_length() - value.denominator.bit_length()) / 2


def _floats(rows: list[list[F]]) -> Matrix:
    return [[float(value) for value in row] for row in rows]


def _inverse(rows: list[list[F]]) -> list[list[F]]:
    """Of a square matrix, by elimination."""
    size = len(rows)
    both = [[*row, *(F(int(i == j)) for j in range(size))] for i, row in enumerate(rows)]
    for column in range(size):
        pivot = next(i for i in range(column, size) if both[i][column])
        both[column], both[pivot] = both[pivot], both[column]
        both[column] = [value / both[column][column] for value in both[column]]
        for i in range(size):
            if i != column and both[i][column]:
                factor = both[i][column]
                both[i] = [a - factor * b for a, b in zip(both[i], both[column], strict=True)]
    return [row[size:] for row in both]
