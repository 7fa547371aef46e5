"""Validates a CycloneDX document against the schema of its version."""

import json
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

with open(sys.argv[1], encoding="utf-8") as document:
    text = document.read()
version = SchemaVersion.from_version(json.loads(text)["specVersion"])
error = JsonStrictValidator(version).validate_str(text)
if error:
    sys.exit(f"{sys.argv[1]}: {str(error.data).splitlines()[0]}")
