"""Who can be asked for the external address, and how such a source is written."""

DNS = (
    r"dns:(?P<name>[A-Za-z0-9._-]{1,253})(?:/(?P<kind>A|AAAA|TXT)(?:/(?P<category>IN|CH))?)?"
    r"@(?P<server>[A-Za-z0-9.:_-]{1,253})"
)
"""A question to one name server whose answer is the address of who asks."""
PAGE = r"https?://[^/@\s]+(?:/[^@\s]*)?"
"""A page that holds the address of who asks and nothing else."""
SOURCE = f"{DNS}|{PAGE}"
TARGET = r"[A-Za-z0-9_:][A-Za-z0-9._:%-]{0,252}"
"""A host name, an address, or the word gateway."""
DEFAULT = (
    "dns:myip.opendns.com@resolver1.opendns.com",
    "dns:o-o.myaddr.l.google.com/TXT@ns1.google.com",
    "dns:whoami.cloudflare/TXT/CH@one.one.one.one",
    "https://icanhazip.com",
    "https://api64.ipify.org",
)
