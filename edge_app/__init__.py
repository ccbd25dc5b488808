"""The paramedic's application: everything that runs in the ambulance. Imports only :mod:`shared`."""
