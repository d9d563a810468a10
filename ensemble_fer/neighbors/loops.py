"""The loops of the search, as numba compiles them (``compiling.py``); called through ``kernels.py``.

numpy would walk over every candidate many times, and these are hundreds for each of 50,000 rows.

A set of points is handed over as ``(pixels, a, b, w)``, the fields of ``Mixtures``. Loops allocate nothing and return
nothing: their callers hand over all room.
"""

from __future__ import annotations

import numpy as np

from ensemble_fer.neighbors.constants import GUESSES, MOST_BYTES, NEVER, WITHIN
from ensemble_fer.neighbors.distances import compiled, further, of_bytes, of_numbers, soon, squared_distance


@compiled()
def squared_distances(one, other, i, j, out):
    """``squared_distance`` of the pairs ``i[n], j[n]``."""
    pixels, a, b, w = one
    pictures, c, d, v = other
    for n in range(len(i)):
        out[n] = squared_distance(pixels, a, b, w, i[n], pictures, c, d, v, j[n])


@compiled()
def gaps(points, start, end, out):
    """Squared distance between the parents of each point from ``start`` to ``end``."""
    pixels, a, b, w = points
    for i in range(start, end):
        if w[i] == 0:
            out[i] = 0
        elif pixels.itemsize == 1 and pixels.shape[1] <= MOST_BYTES:
            out[i] = of_bytes(pixels, a[i], pixels, b[i])
        else:
            out[i] = of_numbers(pixels, a[i], pixels, b[i])


@compiled()
def summed(pixels, middle, side, unit, off, lines, out, squared):
    """What pictures differ from the middle by, summed over blocks of 2 by 2 pixels, and their squared lengths.

    Parameters
    ----------
    pixels : uint8 [n, side^2]
        At most ``MOST_BYTES`` a row.
    middle : uint8 [side^2]
    side : int
        Even.
    unit : float
        A power of two.
    off, lines : int16 [side^2], [side^2 / 2]
        Room.
    out : float32 [n, (side / 2)^2]
        The sums, exact, times half the unit: coordinates along axes of length 1.
    squared : float64 [n]
        In units of the unit squared; exact.
    """
    for i in range(len(pixels)):
        squared[i] = _off(pixels, i, middle, off) * unit**2
        _two_lines(off, lines, side)
        _pairs(lines, out, i, np.float32(unit / 2))


@compiled()
def _off(pixels, i, middle, off):
    total = np.int32(0)
    for n in range(pixels.shape[1]):
        apart = np.int16(np.int16(pixels[i, n]) - np.int16(middle[n]))
        off[n] = apart
        total = np.int32(total + np.int32(np.int32(apart) * np.int32(apart)))
    return np.int64(total)


@compiled()
def _two_lines(off, lines, side):
    for y in range(len(lines) // side):
        for x in range(side):
            lines[y * side + x] = np.int16(off[2 * y * side + x] + off[(2 * y + 1) * side + x])


@compiled()
def _pairs(lines, out, i, unit):
    for n in range(out.shape[1]):
        out[i, n] = np.float32(np.int32(lines[2 * n]) + np.int32(lines[2 * n + 1])) * unit


@compiled()
def mixed(table, points, start, end, out):
    """Coordinates of the points from ``start`` to ``end``, mixed from those of their parents."""
    _, a, b, w = points
    for i in range(start, end):
        _mix(table, a[i], b[i], np.float32(w[i]), out, i)


@compiled()
def _mix(table, a, b, w, out, i):
    for n in range(table.shape[1]):
        out[i, n] = table[a, n] + w * (table[b, n] - table[a, n])


@compiled()
def _lower(values, chunks, i, part):
    for c in range(len(values)):
        other = chunks[i, part, c]
        values[c] = other if other < values[c] else values[c]


@compiled()
def _about_sorted(values, count, most, ranks, ends):
    """Places of the first ``count`` values, at most ``most`` each, by equal steps: sorting takes longer."""
    of_step = np.float32(len(ends) / most) if most > 0 else np.float32(0)
    ends[:] = 0
    for n in range(count):
        ends[_step(values[n] * of_step, len(ends))] += 1
    for step in range(1, len(ends)):
        ends[step] += ends[step - 1]
    for n in range(count):
        step = _step(values[n] * of_step, len(ends))
        ends[step] -= 1
        ranks[ends[step]] = n


@compiled()
def _step(value, steps):
    return min(steps - 1, max(0, np.int64(value)))


@compiled()
def put(values, places, value, place):
    """Into ascending values and their places comes one that is below the last, which goes."""
    n = len(values) - 1
    while n > 0 and value < values[n - 1]:
        values[n], places[n] = values[n - 1], places[n - 1]
        n -= 1
    values[n], places[n] = value, place


@compiled()
def settle(chunks, ids, wanted, asked, points, here, there, unit, guessing, looking, found_so_far, given_up, done):
    """The candidates of some rows of scores, of which the shadows rule out the others; see ``search.py``.

    Parameters
    ----------
    chunks : float32 [n, share, w]
        Of each query its scores, ``|t|^2 / 2 - <s, t>`` of the shadows with the slack of t taken off, that of point
        ``part * w + c`` at ``[:, part, c]``: the lowest of each column is looked at before its others. Is written to.
    ids : int64 [n]
        The queries.
    wanted : int64 [n]
        Neighbours wanted of each; the most is k.
    asked, points : tuple
        Queries and points, each ``(pixels, a, b, w)``.
    here, there : tuple
        Of queries and points ``(far, rests, squared, slack)``: float32 [m, d], [2, m], float64 [m], [m].
    unit : float
        Squared length in shadows of a distance of 1.
    guessing : tuple
        Room: float32 [w], [g], int64 [g], float32 [k], int64 [k], where at most g points are tried for a first
        limit.
    looking : tuple
        Room: int64 [m], float32 [m], int64 [m], [STEPS], float64 [k], int64 [k], where a row with m candidates or more
        is given up.
    found_so_far : tuple
        Row, column, squared: int64, int64, float64 [room]. Positions in ``ids`` and the points that can be among their
        k nearest, ties included.
    given_up : uint8 [n]
    done : int64 [2]
        Queries that are settled, and what was found for them. Where there is no room for the next one, the loop ends
        before it.
    """
    n, share, wide = chunks.shape
    pixels, a, b, w = asked
    pictures, first, second, weight = points
    far, rests, own, slack = here
    distant, ends, _, _ = there
    lowest, most_heads, chunk, most_shadows, most_guess = guessing
    left, apart, ranks, step_ends, most_nearest, most_nowhere = looking
    row, column, squared = found_so_far
    most, found = len(left), done[1]
    for i in range(done[0], n):
        k = wanted[i]
        if found + k + most > len(row):
            break
        guesses = min(GUESSES * k, len(most_heads))
        heads, shadows, guess = most_heads[:guesses], most_shadows[:k], most_guess[:k]
        nearest, nowhere = most_nearest[:k], most_nowhere[:k]
        q, begun = ids[i], found
        lowest[:], heads[:], shadows[:], nearest[:] = np.inf, np.inf, np.inf, np.inf
        chunk[:], guess[:] = 0, 0  # where nothing is below anything (no numbers), a row that exists
        for part in range(share):
            _lower(lowest, chunks, i, part)
        # The best of some chunks, and of these the k whose whole shadows are nearest.
        for c in range(wide):
            if lowest[c] < heads[guesses - 1]:
                put(heads, chunk, lowest[c], c)
        for g in range(guesses):
            c, best = chunk[g], 0
            for part in range(1, share):
                if chunks[i, part, c] < chunks[i, best, c]:
                    best = part
            t = best * wide + c
            shadow = 2 * chunks[i, best, c] - (rests[0, q] - ends[0, t]) ** 2 + (rests[1, q] - ends[1, t]) ** 2
            shadow = np.float32(shadow + further(far, q, distant, t))
            if shadow < shadows[k - 1]:
                put(shadows, guess, shadow, t)
        for g in range(k):
            t = guess[g]
            row[found], column[found] = i, t
            squared[found] = squared_distance(pixels, a, b, w, q, pictures, first, second, weight, t)
            if squared[found] < nearest[k - 1]:
                put(nearest, nowhere, squared[found], t)
            chunks[i, t // wide, t % wide] = NEVER
            found += 1
        # All others within the limit by their scores, then by their whole shadows.
        offset = own[q] - slack[q]
        bound = np.float32((nearest[k - 1] * unit * WITHIN - offset) / 2)
        bound += abs(bound) * np.float32(1e-6)
        seen = 0
        for c in range(wide):
            if lowest[c] <= bound:
                for part in range(share):
                    # Without a limit (distances beyond float64) the columns behind the last point are within it.
                    if chunks[i, part, c] <= bound and seen < most and part * wide + c < len(first):
                        left[seen], apart[seen] = part * wide + c, chunks[i, part, c]
                        seen += 1
        if seen == most:
            given_up[i], found = 1, begun
            done[0], done[1] = i + 1, found
            continue
        within, kept = np.float32(nearest[k - 1] * unit * WITHIN), 0
        for g in range(seen):
            t = left[g]
            rest = (rests[1, q] - ends[1, t]) ** 2 - (rests[0, q] - ends[0, t]) ** 2
            shadow = np.float32(2 * apart[g] + offset + rest) + further(far, q, distant, t)
            if shadow <= within:
                left[kept], apart[kept] = t, shadow
                kept += 1
        _about_sorted(apart, kept, within, ranks, step_ends)
        for h in range(kept):
            g = ranks[h]
            if h + 1 < kept:
                t = left[ranks[h + 1]]
                soon(pictures, first[t])
                if weight[t] != 0:
                    soon(pictures, second[t])
            if apart[g] > nearest[k - 1] * unit * WITHIN:
                continue
            t = left[g]
            row[found], column[found] = i, t
            squared[found] = squared_distance(pixels, a, b, w, q, pictures, first, second, weight, t)
            if squared[found] < nearest[k - 1]:
                put(nearest, nowhere, squared[found], t)
            found += 1
        # Those that are measured and too far are many; ties stay, to be ordered by row. Of those that are as far as the
        # limit to the last bit, only the k lowest rows can be among the nearest.
        nowhere[:] = len(first)
        for g in range(begun, found):
            if squared[g] == nearest[k - 1] and column[g] < nowhere[k - 1]:
                put(nowhere, guess, column[g], 0)
        for g in range(begun, found):
            equal = squared[g] == nearest[k - 1]
            if squared[g] <= nearest[k - 1] * WITHIN + 1e-6 and (not equal or column[g] <= nowhere[k - 1]):
                row[begun], column[begun], squared[begun] = i, column[g], squared[g]
                begun += 1
        found = begun
        done[0], done[1] = i + 1, found
