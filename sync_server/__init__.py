"""The hospital's side: receives what ambulances send, reads images again, and shows both to ER staff and admins."""
