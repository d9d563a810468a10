"""What the compiled loops and those who call them agree on."""

import numpy as np

MOST_BYTES = 2**31 // 255**2  # of which int32 holds the squared differences; float64 is exact too, and slower
GUESSES = 4  # times k: points of which more coordinates are looked at before k are measured
NEVER = np.float32(1e30)  # a score; not infinite, since a product may meet it with 0
STEPS = 32  # in which candidates are put in order
WITHIN = 1 + 1e-4  # above what float32 makes of a squared distance of shadows
