"""Honest comparison: the same splits, preparation, trainer, budget and selection for everybody.

From below: a ``cell`` is a data set under a protocol; it gives a problem, whose test labels no
method sees (``answers``). A ``run`` is one method on one split with one seed, kept as one JSON
file; what is kept is never run again. ``tuning`` chooses settings by validation alone, ``campaign``
goes through all cells, methods and seeds of a ``recipe``, and ``summary`` turns the runs into a
record. ``leaks`` holds checks that catch test labels in a selection, broadcasts in a loss and
features prepared with test rows.
"""
