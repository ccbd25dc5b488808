"""A hospital for tests and demonstrations: a real HTTP(S) server on loopback that speaks the contract of
:mod:`shared.hospital`, keeps what it gets, and misbehaves when told to. Nothing in the product imports it."""

from tests.fake_hospital.certificates import Authority
from tests.fake_hospital.held import Held
from tests.fake_hospital.memory_outbox import MemoryOutbox
from tests.fake_hospital.misbehaviour import How, Misbehaviour
from tests.fake_hospital.rig import Rig, syncing, until
from tests.fake_hospital.server import FakeHospital
from tests.fake_hospital.shaper import Shaper

__all__ = [
    "Authority",
    "FakeHospital",
    "Held",
    "How",
    "MemoryOutbox",
    "Misbehaviour",
    "Rig",
    "Shaper",
    "syncing",
    "until",
]
