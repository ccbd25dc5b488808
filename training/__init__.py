"""Training: tables and splits, classifier, detector, gate, and their evaluation. Never needed at run time."""
