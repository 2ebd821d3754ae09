"""What becomes of inputs such as real files and public reports have shown: each kind, and its outcome.

PYTHONPATH=workflow:tests python tests/field.py
"""

import field_files
import field_models
import field_rows

if __name__ == "__main__":
    for module in (field_rows, field_models, field_files):
        print(f"\n{module.__doc__.partition(':')[0]}")
        for kind, outcome in module.cases():
            print(f"  {kind}\n      {outcome}", flush=True)
