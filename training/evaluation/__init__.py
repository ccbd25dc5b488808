"""``firstray evaluate``: how good a release is on labelled radiographs, as figures, a report and a table of answers.

films (what is known) -> reading (what the release says, by the one diagnosis path) -> figures -> report. Nothing here
imports torch: the extra ``evaluate`` is enough.
"""
