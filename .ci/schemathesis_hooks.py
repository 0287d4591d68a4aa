"""Strangers are turned away with 401, and with 429 once they were too many: either is a refusal."""

from schemathesis.specs.openapi import checks

checks.AUTH_REJECTION_STATUSES = frozenset({*checks.AUTH_REJECTION_STATUSES, 429})
