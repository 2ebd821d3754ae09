"""The figures a paper would carry: single-column or full-width, readable in greyscale, PNG and PDF.

Each is one function that reads the study's tables and writes one figure, and one line in ``report/catalogue.py``.
"""

import matplotlib

matplotlib.use("Agg")  # no display where studies run
