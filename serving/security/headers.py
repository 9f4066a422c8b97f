"""Headers of every answer, by environment."""

from __future__ import annotations

from collections.abc import Mapping

from serving.settings import Settings

__all__ = ["ENVIRONMENT_HEADER", "security_headers"]

ENVIRONMENT_HEADER = "X-Jiesu-Environment"

# Nothing inline, nothing from elsewhere, no frames: the pages need no more than their own files.
ALWAYS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
# A year; not for subdomains, which are not ours to promise for.
BEHIND_TLS: Mapping[str, str] = {"Strict-Transport-Security": "max-age=31536000"}


def security_headers(settings: Settings) -> Mapping[str, str]:
    """What every answer carries; in development also a header that says so."""
    if settings.environment == "production":
        return {**ALWAYS, **BEHIND_TLS}
    return {**ALWAYS, ENVIRONMENT_HEADER: settings.environment}
