"""What devices speak to: ``/v1``, as :mod:`shared.hospital` says."""
