"""How strongly two labels go together in a table of counts: what a data set itself is biased by."""

from typing import NamedTuple

import numpy as np


class Association(NamedTuple):
    """Measures of one table; 0 = independent, 1 (phi: or -1) = one label follows from the other."""

    cramers_v: float
    corrected: float  # expected to be about 0 where the labels are independent
    phi: float  # signed, of 2 x 2 tables; NaN of others


def association(counts: np.ndarray) -> Association | None:
    """Cramér's V (1946, section 21.9), the same without its bias (Bergsma, 2013, eq. 9 to 11), and
    phi.

    Args:
      counts: int [r, c], images by both labels. Values that do not occur are left out.

    Returns:
      None where fewer than two values of one of the labels occur.
    """
    from scipy.stats import chi2_contingency  # half a second that few commands need

    table = np.asarray(counts)
    seen = table[table.sum(1) > 0][:, table.sum(0) > 0]
    if min(seen.shape) < 2:
        return None
    n, (r, c) = int(seen.sum()), seen.shape
    square = chi2_contingency(seen, correction=False).statistic / n  # phi^2
    excess = max(0.0, square - (r - 1) * (c - 1) / (n - 1))
    rows, columns = (k - (k - 1) ** 2 / (n - 1) for k in (r, c))
    least = min(rows, columns) - 1
    phi = float("nan")
    if table.shape == (2, 2):
        sign = np.sign(float(table[0, 0]) * table[1, 1] - float(table[0, 1]) * table[1, 0])
        phi = float(sign * np.sqrt(square))
    return Association(
        float(np.sqrt(square / (min(r, c) - 1))),
        float(np.sqrt(excess / least)) if least > 0 else 0.0,
        phi,
    )
