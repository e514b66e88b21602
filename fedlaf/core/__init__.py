"""Values that any part of the program may import: types, errors, seeds, requests, costs."""
