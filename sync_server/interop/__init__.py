"""What other systems of a hospital understand: FHIR."""
