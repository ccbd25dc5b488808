"""What both sides must compute alike: the contract between the ambulance and the hospital.

Imports neither a user interface nor a web framework nor a training framework (checked by import-linter).
"""
