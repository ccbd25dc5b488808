"""``python -m tests.fake_hospital --port 8443``: a hospital to sync with by hand or from a script.

Prints one line of JSON when it listens: ``url``, ``ca_pem``, ``receipt_keys``, ``token``, as the device needs them.
Then reads commands, one JSON object a line, from standard input, and answers each with a line of JSON:

``{"do": "push", "content": {...}}``
    an item for the inbox, as :mod:`shared.hospital` has it.
``{"do": "held"}``
    how many events, records and images there are, and whether every chain is whole.
``{"do": "records"}``
    the records themselves.
``{"do": "misbehave", "how": "status", "where": "POST /v1/events", "times": 3, ...}``, ``{"do": "behave"}``
    see :class:`tests.fake_hospital.Misbehaviour`.
``{"do": "down"}``, ``{"do": "up"}``
    stop and start listening.
``{"do": "revoke", "wipe": false}``, ``{"do": "lose_disk"}``, ``{"do": "stop"}``
    as they say.
"""

import argparse
import json
import sys
from typing import Any

from pydantic import TypeAdapter

from shared.hospital import Content
from tests.fake_hospital import Authority, FakeHospital, How

CONTENT: TypeAdapter[Any] = TypeAdapter(Content)


def _summary(hospital: FakeHospital) -> dict[str, object]:
    held = hospital.held
    kinds = [metadata.kind.value for metadata in held.metadata.values()]
    return {
        "events": len(held.events),
        "records": len(held.records()),
        "previews": kinds.count("preview"),
        "originals": kinds.count("original"),
        "requests": len(hospital.requests),
        "sound": held.sound(),
    }


def _do(hospital: FakeHospital, command: dict[str, Any]) -> dict[str, object]:
    what = command.pop("do")
    match what:
        case "push":
            hospital.push(CONTENT.validate_json(json.dumps(command["content"])))
        case "records":
            return {str(name): fields for name, fields in hospital.held.records().items()}
        case "misbehave":
            hospital.misbehave(How(command.pop("how")), **command)
        case "behave":
            hospital.behave()
        case "down":
            hospital.stop()
        case "up":
            hospital.start()
        case "revoke":
            hospital.revoked = bool(command.get("wipe", False))
        case "lose_disk":
            hospital.held.lose_disk()
        case "held" | "stop":
            pass
        case _:
            return {"error": f"unknown command {what!r}"}
    return _summary(hospital)


def main() -> None:
    """Run until standard input ends or ``stop`` is read."""
    parser = argparse.ArgumentParser(description="A hospital to sync with; see the module's text for its commands.")
    parser.add_argument("--port", type=int, default=0, help="where to listen on 127.0.0.1; 0 takes a free port")
    parser.add_argument("--tls", action="store_true", help="HTTPS with a new certificate authority")
    parser.add_argument("--token", help="bearer token that devices must show")
    options = parser.parse_args()
    authority = Authority() if options.tls else None
    hospital = FakeHospital(authority.issue() if authority else None, options.token, options.port)
    with hospital:
        told = {
            "url": hospital.url,
            "ca_pem": authority.pem if authority else None,
            "receipt_keys": hospital.receipt_keys,
            "token": options.token,
        }
        print(json.dumps(told), flush=True)
        for line in sys.stdin:
            command = json.loads(line)
            stop = command.get("do") == "stop"
            print(json.dumps(_do(hospital, command)), flush=True)
            if stop:
                break


if __name__ == "__main__":
    main()
