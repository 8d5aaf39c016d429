"""What the name of a value says: whether it names a credential, of which kind, and how surely."""

import re
from typing import NamedTuple


class Name(NamedTuple):
    """What the name of a value says: its kind, and how sure the name alone makes us."""

    kind: str
    level: int


# How sure a name makes us. SURE: any value. LIKELY: any value after `=`, an odd-looking one after `:`.
# MAYBE: an odd-looking one. The other two read the whole header.
SURE, LIKELY, MAYBE, HEADER, COOKIE = 3, 2, 1, 4, 5

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_NOISE = frozenset(
    {
        "b",
        "base",
        "base64",
        "b64",
        "value",
        "val",
        "string",
        "str",
        "text",
        "txt",
        "raw",
        "plain",
        "plaintext",
        "cleartext",
        "prod",
        "production",
        "dev",
        "test",
        "staging",
        "live",
        "old",
        "new",
        "current",
        "previous",
        "default",
        "encoded",
        "encrypted",
        "root",
        "main",
        "primary",
        "secondary",
    }
)
_PASSWORDS = ("password", "passwd", "passphrase", "passwort", "passcode", "pwd", "passwrd")
_SHORT_PASSWORDS = frozenset(
    {
        "psk",
        "pw",
        "pswd",
        "rootpw",
        "bindpw",
        "userpw",
        "dbpw",
        "adminpw",
        "requirepass",
        "masterauth",
        "sshpass",
    }
)
_NOT_PASSWORDS = frozenset(
    {"bypass", "compass", "encompass", "trespass", "surpass", "overpass", "underpass", "multipass", "keepass"}
)
_JOINED_KEYS = (
    "apikey", "accesskey", "secretkey", "privatekey", "presharedkey", "accountkey", "masterkey", "authkey",
    "encryptionkey", "signingkey", "sharedkey", "sharedaccesssignature", "connectionstring", "connectstring",
    "connstring", "connstr", "amzsignature", "googsignature", "clientkeydata",
)  # fmt: skip
_KEY_OWNERS = frozenset(
    {
        "api",
        "app",
        "application",
        "access",
        "account",
        "admin",
        "auth",
        "authentication",
        "client",
        "consumer",
        "cookie",
        "crypt",
        "deploy",
        "deployment",
        "encrypt",
        "encryption",
        "hmac",
        "jwt",
        "license",
        "master",
        "private",
        "preshared",
        "secret",
        "service",
        "session",
        "shared",
        "sign",
        "signing",
        "storage",
        "webhook",
        "write",
        "integration",
        "subscription",
        "decryption",
        "vault",
        "wep",
        "wpa",
    }
)
_MAYBE = frozenset(
    {
        "auth",
        "cred",
        "creds",
        "credential",
        "credentials",
        "sessid",
        "sessionid",
        "phpsessid",
        "jsessionid",
        "csrf",
        "xsrf",
        "otp",
        "totp",
        "pin",
        "jwt",
        "bearer",
        "oauth",
    }
)
_QUERY_ONLY = frozenset({"key", "sig", "signature", "sid", "code", "assertion"})  # too common elsewhere
_SPOKEN_OWNER = re.compile(
    r"(?i)(?:api|access|secret|private|account|encryption|master|license|shared)[ _-]$"
)


def name_of(key: str, before: str = "") -> Name | None:
    """What a key says about its value, or None where it does not name a credential."""
    words = [word.lower() for word in _WORDS.findall(key)]
    joined = "".join(words)
    if joined.endswith("authorization"):
        return Name("authorization", HEADER)
    if joined in ("cookie", "setcookie"):
        return Name("cookie", COOKIE)
    if joined.endswith(_JOINED_KEYS):
        return Name("key", SURE)
    while len(words) > 1 and (words[-1] in _NOISE or words[-1].isdigit()):
        words.pop()
    if not words:
        return None
    owner = words[-2] if len(words) > 1 else ""
    if key.lower() in _QUERY_ONLY and before.endswith(("?", "&")):
        return Name("key", MAYBE)
    if key.lower() == "key" and _SPOKEN_OWNER.search(before):
        return Name("key", LIKELY)
    return _credential(words[-1], owner)


def _credential(head: str, owner: str) -> Name | None:
    """What the last word of a key says, with the word before it."""
    if head in ("hash", "digest") and owner.endswith((*_PASSWORDS, "pass")):
        return Name("password", SURE)
    if head.endswith(_PASSWORDS) or head in _SHORT_PASSWORDS or (head, owner) == ("phrase", "pass"):
        return Name("password", SURE)
    if head.endswith("pass") and head not in _NOT_PASSWORDS:
        return Name("password", LIKELY)
    if head.endswith("secret") and head != "libsecret":
        return Name("secret", SURE)
    if head.endswith("token"):
        return Name("token", LIKELY)
    if head == "key":
        return Name("key", LIKELY) if owner in _KEY_OWNERS else None
    return Name("credential", MAYBE) if head in _MAYBE else None


_names: dict[str, Name | None] = {}


def known_name(key: str, before: str) -> Name | None:
    """What a key says, remembered for the keys that come again and again."""
    if len(key) > 128 or key.lower() in _QUERY_ONLY:
        return name_of(key[-128:], before)
    try:
        return _names[key]
    except KeyError:
        name = name_of(key)
    if len(_names) >= 4096:
        _names.clear()
    _names[key] = name
    return name
