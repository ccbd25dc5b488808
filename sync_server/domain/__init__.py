"""What the hospital does, without HTTP: each act in one transaction, audited where a person acts."""
