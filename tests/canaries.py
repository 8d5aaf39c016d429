"""Planted secrets: each kind with a value of its own that can be searched for wherever it must not be."""

import json
import random
import shlex
import string
from collections.abc import Callable
from typing import NamedTuple


class Canary(NamedTuple):
    kind: str
    text: str
    secret: str


ALNUM = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + string.digits
# What a value is made of, and how long it is.
PLAIN, LONG, FORTY, LINE = (14, ALNUM), (32, ALNUM), (40, ALNUM), (64, ALNUM)
WORD, BASIC, GOOGLE = (12, string.ascii_lowercase), (26, ALNUM), (35, ALNUM)
HEX, HEX32, UPPERHEX = (64, "0123456789abcdef"), (32, "0123456789abcdef"), (40, "0123456789ABCDEF")
BASE32, UPPER16, UPPER58 = (32, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"), (16, UPPER), (58, UPPER)

# In pieces, so that nobody's scanner takes this file for a key.
RSA = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n§\nabcd==\n-----END RSA PRIVATE KEY-----\n"
OPENSSH = "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n§\n-----END OPENSSH PRIVATE KEY-----\n"
PGP = (
    "-----BEGIN PGP "
    + "PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n\n§\n=abcd\n-----END PGP PRIVATE KEY BLOCK-----\n"
)

# `§` is where the secret stands.
_KINDS: tuple[tuple[str, str, tuple[int, str]], ...] = (
    # command lines
    ("option with space", "backup --password § --verbose", PLAIN),
    ("option with equals", "backup --password=§ --verbose", PLAIN),
    ("option quoted with spaces", "backup --password='my § phrase' --verbose", PLAIN),
    ("option double quoted with spaces", 'backup --password "my § phrase" --verbose', PLAIN),
    ("option with a lower-case word", "backup --db-password § run", WORD),
    ("option with one dash", "java -jar app.jar -password §", PLAIN),
    ("option token", "agent --auth-token § --url http://h:8080/", PLAIN),
    ("option api key", "agent --api-key=§", PLAIN),
    ("shell quotes in the middle", "run --password=ab'cd §'gh now", PLAIN),
    ("shell quotes around a quote", "run --password='it'\"'\"'s§' now", PLAIN),
    ("backslash in a word", "run --password=ab\\ §x now", PLAIN),
    ("mysql", "mysql -u root -p§ shop", PLAIN),
    ("mysqldump", "mysqldump --all-databases -uroot -p'§' > all.sql", PLAIN),
    ("mariadb-admin", "mariadb-admin -uroot -p§ ping", PLAIN),
    ("sshpass", "sshpass -p § ssh root@host", PLAIN),
    ("sshpass attached", "sshpass -p§ ssh root@host", PLAIN),
    ("curl user", "curl -u joe:§ https://example.com/", PLAIN),
    ("curl --user", "curl -sS --user 'joe:§' https://example.com/", PLAIN),
    ("curl joined flags", "curl -sSu joe:§ https://example.com/", PLAIN),
    ("PGPASSWORD", "PGPASSWORD=§ psql -h db -U joe", PLAIN),
    ("docker run -e", "docker run -d -e MYSQL_ROOT_PASSWORD=§ mariadb:11", PLAIN),
    ("docker login", "docker login -u joe -p § registry.example.com", PLAIN),
    ("kubectl literal", "kubectl create secret generic db --from-literal=password=§", PLAIN),
    ("kubectl literal of any name", "kubectl create secret generic db --from-literal=value=§", PLAIN),
    ("sudo by echo", "echo § | sudo -S apt install foo", PLAIN),
    ("sudo by echo, quoted", "echo '§ x' | sudo -S apt install foo", PLAIN),
    ("chpasswd", "echo root:§ | chpasswd", PLAIN),
    ("redis-cli", "redis-cli -h db -a § ping", PLAIN),
    ("ldapsearch", "ldapsearch -x -D cn=admin -w § -b dc=x", PLAIN),
    ("7z", "7z a -p§ out.7z /data", PLAIN),
    ("openssl pass", "openssl enc -aes-256-cbc -pass pass:§ -in a -out b", PLAIN),
    ("gpg passphrase", "gpg --batch --passphrase § -d file.gpg", PLAIN),
    ("htpasswd -b", "htpasswd -bc /etc/nginx/users joe §", PLAIN),
    ("cypher-shell", "cypher-shell -u neo4j -p § 'RETURN 1'", PLAIN),
    ("neo4j-admin", "neo4j-admin dbms set-initial-password §", PLAIN),
    ("smbclient", "smbclient //host/share -U joe%§", PLAIN),
    ("nmcli", "nmcli device wifi connect home password §", PLAIN),
    ("snmpwalk", "snmpwalk -v2c -c § host", PLAIN),
    ("mount credentials", "mount -t cifs -o username=joe,password=§,uid=0 //h/s /mnt", PLAIN),
    ("argument list", '["backup", "--password", "§"]', PLAIN),
    ("mysql argument list", '["mysql", "-uroot", "-p§", "shop"]', PLAIN),
    ("htpasswd file", "joe:$apr1$Xy12abcd$§", LONG),
    # assignments
    ("env line", "DB_PASSWORD=§", PLAIN),
    ("exported env", "export SECRET_KEY_BASE='§'", PLAIN),
    ("env word only", "APP_SECRET=§", WORD),
    ("json", '{"user": "joe", "password": "§", "port": 5432}', PLAIN),
    ("json compact", '{"client_secret":"§","id":5}', PLAIN),
    ("json with escaped quotes", '{\\"apiKey\\": \\"§\\", \\"id\\": 5}', PLAIN),
    ("json value with a quote", '{"password": "a\\"b§", "id": 5}', PLAIN),
    ("yaml", "database:\n  user: joe\n  password: §\n  port: 5432", PLAIN),
    ("yaml phrase", "passphrase: correct horse § battery", PLAIN),
    ("yaml env list", "- name: DB_PASSWORD\n  value: §", PLAIN),
    ("yaml block", "db:\n  password: |\n    §\n  port: 5432", PLAIN),
    ("php define", "define('DB_PASSWORD', '§');", PLAIN),
    ("xml named element", '<setting name="ApiKey">§</setting>', PLAIN),
    ("key that begins with a digit", "802-11-wireless-security.psk: §", PLAIN),
    ("here string", "sudo -S apt update <<< '§'", PLAIN),
    ("printf into a login", "printf '%s' '§' | docker login -u joe --password-stdin", PLAIN),
    ("toml", '[smtp]\nuser = "joe"\npassword = "§"', PLAIN),
    ("ini", "[client]\nuser = root\npassword = §\n", PLAIN),
    ("properties", "spring.datasource.password=§", PLAIN),
    ("xml", "<server><username>joe</username><password>§</password></server>", PLAIN),
    ("xml attributes", '<add key="Password" value="§"/>', PLAIN),
    ("php", "$config['db_password'] = '§';", PLAIN),
    ("log line", "login failed: user=joe password=§, retrying in 5 s", PLAIN),
    ("log dict", "settings: {'user': 'joe', 'api_token': '§'}", PLAIN),
    ("spoken key", "using API key: § for requests", PLAIN),
    ("sql", "CREATE USER 'joe'@'%' IDENTIFIED BY '§'", PLAIN),
    ("postgres role", "ALTER ROLE joe WITH PASSWORD '§'", PLAIN),
    ("pgpass", "db.example.com:5432:shop:joe:§", PLAIN),
    ("netrc", "machine example.com login joe password §", PLAIN),
    ("netrc lines", "machine example.com\nlogin joe\npassword §\n", PLAIN),
    ("npmrc", "//registry.npmjs.org/:_authToken=§", PLAIN),
    ("pypirc", "[pypi]\nusername = __token__\npassword = §", PLAIN),
    ("docker config", '{"auths": {"r.example.com": {"auth": "§"}}}', BASIC),
    ("redis.conf", "requirepass §", PLAIN),
    ("snmpd.conf", "rocommunity § default", PLAIN),
    ("wpa_supplicant", 'network={ ssid="home" psk="§" }', PLAIN),
    ("wireguard", "[Interface]\nPrivateKey = §=\nListenPort = 51820", LONG),
    ("wireguard preshared", "PresharedKey=§=", LONG),
    ("kubeconfig", "    client-key-data: §==", LONG),
    ("ado", "Server=db;Database=shop;User Id=sa;Password=§;Encrypt=true", PLAIN),
    ("odbc", "DRIVER={ODBC Driver 18};SERVER=db;UID=sa;PWD=§", PLAIN),
    ("azure storage", "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=§==", LONG),
    ("azure sas", "SharedAccessSignature=sv=2022&sig=§", LONG),
    ("jdbc oracle", "jdbc:oracle:thin:scott/§@//db:1521/orcl", PLAIN),
    ("fstab", "//h/s /mnt cifs username=joe,password=§ 0 0", PLAIN),
    # URLs
    ("url", "postgresql://joe:§@db:5432/shop", PLAIN),
    ("url without user", "redis://:§@cache:6379/0", PLAIN),
    ("url, at sign, head", "amqp://joe:§@tail@mq:5672/", PLAIN),
    ("url, at sign, tail", "amqp://joe:head@§@mq:5672/", PLAIN),
    ("url, colon, tail", "mysql://joe:a:b:§@db/shop", PLAIN),
    ("url, slash, tail", "mysql://joe:a/b§@db.example.com/shop", PLAIN),
    ("url percent-encoded", "https://joe:p%40ss%3A§@example.com/x", PLAIN),
    ("url with a quote", "https://joe:it's§@example.com/x", PLAIN),
    ("url of a package index", "pip install --index-url https://__token__:§@pypi.example.com/simple", PLAIN),
    ("url token only", "https://§@sentry.example.com/1", LONG),
    ("query", "GET /v1/items?id=5&access_token=§&page=2 200", PLAIN),
    ("query key", "https://maps.example.com/api?key=§&q=x", LONG),
    ("signed url", "https://b.s3.amazonaws.com/k?X-Amz-Expires=60&X-Amz-Signature=§", HEX),
    ("otpauth", "otpauth://totp/joe?secret=§&issuer=x", BASE32),
    # headers
    ("bearer", "Authorization: Bearer §", LONG),
    ("bearer in curl", "curl -H 'Authorization: Bearer §' https://example.com/", LONG),
    ("basic", "Authorization: Basic §", BASIC),
    ("digest", 'Authorization: Digest username="joe", realm="r", response="§"', HEX),
    ("cookie", "Cookie: theme=dark; sid=§; lang=de", PLAIN),
    ("set-cookie", "Set-Cookie: session=§; Path=/; HttpOnly", PLAIN),
    ("x-api-key", "X-Api-Key: §", LONG),
    ("private-token", "curl --header 'PRIVATE-TOKEN: §' https://example.com", LONG),
    ("json header", '{"Authorization": "Bearer §"}', LONG),
    # known by their shape
    ("aws id", "using AKIA§ now", UPPER16),
    ("aws pair", "using AKIAABCDEFGHIJKLMNOP:§ now", FORTY),
    ("aws pair in a file", "aws_access_key_id = ASIAABCDEFGHIJKLMNOP\naws_secret_access_key = §", FORTY),
    ("github", "using ghp_§ now", FORTY),
    ("github oauth", "using gho_§ now", FORTY),
    ("github server", "using ghs_§ now", FORTY),
    ("github refresh", "using ghr_§ now", FORTY),
    ("github fine-grained", "using github_pat_11ABCDEFG0_§ now", FORTY),
    ("gitlab", "using glpat-§ now", LONG),
    ("slack bot", "using xoxb-1234567890-§ now", LONG),
    ("slack webhook", "POST https://hooks.slack.com/services/T0AB1CD2E/B0AB1CD2E/§ 200", LONG),
    ("discord webhook", "POST https://discord.com/api/webhooks/123456789012345678/§ 204", FORTY),
    ("stripe", "using sk_live_§ now", LONG),
    ("stripe restricted", "using rk_live_§ now", LONG),
    ("google", "using AIza§ now", GOOGLE),
    ("google oauth", "using ya29.§ now", FORTY),
    ("openai", "using sk-proj-§ now", FORTY),
    ("anthropic", "using sk-ant-api03-§ now", FORTY),
    ("npm", "using npm_§ now", FORTY),
    ("pypi", "using pypi-AgEIcHlwaS5vcmc§ now", FORTY),
    ("hugging face", "using hf_§ now", FORTY),
    ("digitalocean", "using dop_v1_§ now", HEX),
    ("sendgrid", "using SG.ngeVfQFYQlKU0ufo8x5d1A.§ now", FORTY),
    ("twilio", "using SK§ now", HEX32),
    ("telegram", "GET /bot123456789:AA§/getMe 200", GOOGLE),
    ("vault", "using hvs.§ now", FORTY),
    ("age", "using AGE-SECRET-KEY-1§ now", UPPER58),
    ("docker token", "using dckr_pat_§ now", LONG),
    ("tailscale", "using tskey-auth-§ now", LONG),
    ("jwt", "using eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.§ now", FORTY),
    ("bare bearer", "sent Bearer § upstream", LONG),
    ("shadow sha512", "joe:$6$ab12cd34ef$§:19700:0:99999:7:::", LONG),
    ("shadow yescrypt", "joe:$y$j9T$abcdefgh12345678$§:19700:0:99999:7:::", LONG),
    ("bcrypt", "joe:$2b$12$§", LONG),
    ("ldap hash", "userPassword: {SSHA}§", LONG),
    ("mysql hash", "IDENTIFIED WITH mysql_native_password AS '*§'", UPPERHEX),
    # blocks
    ("rsa key", RSA, LINE),
    ("openssh key", OPENSSH, LINE),
    ("gpg key", PGP, LINE),
    ("key cut short", "-----BEGIN EC " + "PRIVATE KEY-----\nMHcCAQEEIIrYSSNQFaA2\n§", LINE),
    ("key without its head", "MHcCAQEEIIrYSSNQFaA2\n§\n-----END EC " + "PRIVATE KEY-----", LINE),
    (
        "key with escaped line ends",
        '{"private_key": "-----BEGIN ' + 'PRIVATE KEY-----\\n§\\n-----END PRIVATE KEY-----\\n"}',
        LINE,
    ),
    ("key in yaml", "key: |\n  -----BEGIN " + "PRIVATE KEY-----\n  §\n  -----END PRIVATE KEY-----", LINE),
)


def _values() -> Callable[[int, str], str]:
    """A source of values that never gives one twice; a long one has what a generator's value has."""
    source = random.Random(20240607)
    given: set[str] = set()

    def value(length: int, alphabet: str) -> str:
        wanted = [group for group in (string.digits, *_CASES) if set(group) & set(alphabet)]
        while True:
            made = "".join(source.choice(alphabet) for _ in range(length))
            if made not in given and all(set(made) & set(group) for group in wanted):
                given.add(made)
                return made

    return value


_CASES = (string.ascii_lowercase, string.ascii_uppercase)


def _canaries() -> list[Canary]:
    value = _values()
    made = []
    for kind, template, (length, alphabet) in _KINDS:
        secret = value(length, alphabet)
        made.append(Canary(kind, template.replace("§", secret), secret))
    return made


CANARIES = _canaries()


def _arguments(text: str) -> str:
    """A command line as the list that other programs print; anything else as one argument."""
    command = " -" in text and not set(text) & set("{[\n|")
    return repr(["/usr/bin/env", *(shlex.split(text) if command else [text])])


CARRIERS: dict[str, Callable[[str], str]] = {
    "bare": lambda text: text,
    "apt command line": lambda text: (
        f"Start-Date: 2024-05-01  10:00:00\nCommandline: apt-get install -y x {text}\nEnd-Date: 2024-05-01"
    ),
    "json": lambda text: json.dumps({"cmd": text, "pid": 5, "user": "joe"}),
    "json within json": lambda text: json.dumps({"line": json.dumps({"cmd": text, "pid": 5})}),
    "shell word": lambda text: f"bash -c {shlex.quote(text)} --login",
    "double-quoted shell word": lambda text: 'sh -c "' + text.replace("\\", "\\\\").replace('"', '\\"') + '"',
    "log line": lambda text: (
        f"May  1 10:00:00 host app[123]: GET https://h.example.com/x?a=1 said: {text} (retry 2)"
    ),
    "last on a log line": lambda text: f"2024-05-01T10:00:00Z app[123]: {text}",
    "argument list": _arguments,
    "package description": lambda text: f"Package: demo\nDescription: demo\n {text}\n .\n more\n",
}
"""Ways in which a text with a secret reaches Watchman."""
