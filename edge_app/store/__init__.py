"""The device's encrypted store: records, images, the outbox of events, and what the hospital answered."""
